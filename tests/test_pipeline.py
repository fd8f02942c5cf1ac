"""The whole pipeline as a user runs it: a command in a folder of one's own, killed and run again."""

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from experiment.__main__ import run_pipeline
from experiment.metrics import read_metrics
from experiment.problem import Problem
from experiment.run import Run
from extract.rollouts import Rollouts
from vae.latents import Latents

DATA = Path(__file__).parent / "data"
TINY, TWICE = DATA / "tiny.yaml", DATA / "twice.yaml"
STAGES = ["extract", "vae", "vae.encode", "rnn", "controller", "controller.evaluate"]


def command(folder: Path, config: Path) -> subprocess.Popen:
    """Start `python -m experiment` in `folder` with the run folder `folder`/run, and every warning shown."""
    line = [sys.executable, "-u", "-W", "always", "-m", "experiment", str(config), "--run", "run"]
    return subprocess.Popen(
        line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def run_here(run: Path, config: Path, *overrides: str) -> None:
    """The pipeline to its end in this process, which has TensorFlow already."""
    run_pipeline(argparse.Namespace(config=str(config), preset=None, run=str(run), overrides=overrides))


def kill_at(folder: Path, beginning: str, delay: float, config: Path) -> None:
    """Start the pipeline, and kill it with SIGKILL some seconds after it has printed a line that begins so."""
    process = command(folder, config)
    assert process.stdout is not None
    assert any(line.startswith(beginning) for line in process.stdout), "it never came to that"
    time.sleep(delay)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with one uninterrupted run, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    process = command(folder, TINY)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return folder, output


def test_everything_is_there(whole):
    folder, output = whole
    run = folder / "run"
    for name in ["config.yaml", "vae.weights.h5", "latents.h5", "rnn.weights.h5", "controller.h5", "results.json"]:
        assert (run / name).stat().st_size > 0, name
    assert len(list((run / "rollouts").glob("shard-*.h5"))) == 4
    assert {path.suffix for path in (run / "videos").iterdir()} == {".mp4", ".gif"}
    assert len(list((run / "plots").glob("*.png"))) >= 5
    results = json.loads((run / "results.json").read_text())
    assert list(results["stages"]) == STAGES
    assert all(stage["seconds"] > 0 and not stage["resumed"] for stage in results["stages"].values())
    assert f"World Models: {TINY}, in run\n" in output, "no preset is named where there is none"
    assert "about" in output.split("── extract")[0], "the plan with its estimates comes first"
    assert str(Path("run") / "results.json") in output.splitlines()[-8], "where everything is comes last"


def test_no_warning_is_of_the_projects_own_code(whole):
    ours = re.compile(rf"{re.escape(str(DATA.parents[1]))}/(?!\.venv/)\S+:\d+: \w*Warning.*")
    assert ours.findall(whole[1]) == []


def test_nothing_is_left_in_the_working_folder(whole):
    folder, _ = whole
    assert [path.name for path in folder.iterdir()] == ["run"]


def test_running_again_does_nothing_and_changes_nothing(whole, capsys):
    run = whole[0] / "run"
    files = {path: path.stat().st_mtime_ns for path in run.rglob("*.h5")}
    began = time.monotonic()
    run_here(run, TINY)
    assert capsys.readouterr().out.count("nothing to do") == len(STAGES)
    assert time.monotonic() - began < 60
    assert files == {path: path.stat().st_mtime_ns for path in run.rglob("*.h5")}


def test_other_settings_in_the_same_folder_are_refused_before_anything_is_announced(whole, capsys):
    with pytest.raises(Problem, match=r"run holds 'vae' made with vae\.z=6, not 7"):
        run_here(whole[0] / "run", TINY, "vae.z=7")
    assert not capsys.readouterr().out


def without_c(run: Run, folder: Path) -> Run:
    """A copy of a run, folder/run, whose last iteration has all but C and what came after it."""
    shutil.copytree(run.path, folder / "run")
    last = Run(folder / "run").latest()
    for path in [last.controller, last.results, *last.path.rglob("*controller*"), *last.checkpoints.glob("evolution*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return last


def assert_same_end(run: Run, broken: Run) -> None:
    """C and its returns in the real world are those of the run that was not killed, and nothing is left half done."""
    with h5py.File(run.controller) as left, h5py.File(broken.controller) as right:
        np.testing.assert_allclose(left["mean"][()], right["mean"][()], atol=1e-5)
    left, right = (json.loads(each.results.read_text())["evaluations"] for each in (run, broken))
    assert left["game"]["returns"] == right["game"]["returns"]
    assert not list(broken.path.rglob(".partial*"))


def test_killed_while_c_evolves_it_comes_to_the_same_end(whole, tmp_path, capsys):
    """The other stages are killed in the tests of their own modules."""
    run = Run(whole[0] / "run")
    broken = without_c(run, tmp_path)
    kill_at(tmp_path, "generation 1: ", 0, TINY)
    run_here(broken.path, TINY)
    assert capsys.readouterr().out.count("nothing to do") >= 4
    assert list(read_metrics(broken.metrics / "controller.csv")["step"]) == [1, 2, 3, 4]
    assert_same_end(run, broken)


@pytest.fixture(scope="module")
def twice(tmp_path_factory):
    """A run of all stages twice, on CarRacing's real track, and what it printed."""
    run, said = Run(tmp_path_factory.mktemp("twice") / "run"), io.StringIO()
    with contextlib.redirect_stdout(said):
        run_here(run.path, TWICE)
    return run, said.getvalue()


def weights_in(path: Path) -> np.ndarray:
    """All float32 numbers of a file of weights, one after the other."""
    found: list[np.ndarray] = []
    with h5py.File(path) as file:
        file.visititems(
            lambda _, item: found.append(item[()].ravel()) if getattr(item, "dtype", None) == "f4" else None
        )
    return np.concatenate(found)


def test_a_second_iteration_goes_on_from_the_first(twice, capsys):
    """What the second plays with, learns from and begins with, and where it is."""
    run, output = twice
    first, second = run, Run(run.path / "iterations" / "2")
    assert [line.split(", ")[1] for line in output.splitlines() if line.startswith("── ")] == ["iteration 1"] * 5 + [
        "iteration 2"
    ] * 6
    assert f"iteration 2, in {second.path}" in output and str(second.results) in output.splitlines()[-8]
    results = [json.loads(run.results.read_text()) for run in (first, second)]
    assert [list(part["stages"]) for part in results] == [STAGES[:-1], STAGES]
    assert [part["stages"]["controller"]["generations"] for part in results] == [2, 4]

    assert "the last iteration's controller with noise: return" in output
    assert Rollouts(second.rollouts).episodes == 5
    assert Latents.load(second.latents).groups.tolist() == [8, 5]
    assert results[1]["stages"]["vae.encode"]["frames"] == Latents.load(second.latents).frames
    assert read_metrics(second.metrics / "controller.csv")["real"].tolist() == [0, 0, 0, 1]
    assert [read_metrics(run.metrics / "rnn.csv")["step"][-1] for run in (first, second)] == [4, 2]

    before = {file: file.stat().st_mtime_ns for file in run.path.rglob("*.h5")}
    run_here(run.path, TWICE)
    assert capsys.readouterr().out.count("nothing to do") == 11
    assert before == {file: file.stat().st_mtime_ns for file in run.path.rglob("*.h5")}


def test_another_run_begins_with_what_the_second_iteration_has_learnt(twice, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("rnn.comparison.compare", lambda settings, run: None)
    begun, third = twice[0].at(2), Run(tmp_path / "third")
    hardly = [f"{part}.{rate}=1e-12" for part in ("vae", "rnn") for rate in ("learning_rate", "final_rate")]
    run_here(third.path, TWICE, f"begin={twice[0].path}", "iterations=1", *hardly)
    output = " ".join(capsys.readouterr().out.split())
    assert f"beginning with those of {begun.path}" in output.split("── extract")[0]
    for name in ("vae", "rnn"):
        ours, theirs = (weights_in(getattr(run, f"{name}_weights")) for run in (third, begun))
        np.testing.assert_allclose(ours, theirs, atol=1e-8)
        assert json.loads(third.results.read_text())["began_with"][name]["weights"] in output.split(f"── {name}")[1]
    assert f"began with those of {begun.path} and were trained 4 and 4 steps more; C was evolved from zero." in output
    with pytest.raises(Problem, match=f"made with begin={begun.path}, not "):
        run_here(third.path, TWICE, "begin=", "iterations=1", *hardly)


def test_killed_where_c_has_gone_on_to_the_track_it_comes_to_the_same_end(twice, tmp_path):
    """(tests/test_extract.py kills recording, and others what is trained.)"""
    broken = without_c(twice[0], tmp_path)
    kill_at(tmp_path, "generation 4: return", 0.3, TWICE)
    run_here(tmp_path / "run", TWICE)
    assert_same_end(twice[0].at(2), broken)
