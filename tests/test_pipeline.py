"""The whole pipeline as a user runs it: a command in a folder of one's own, killed at every stage and run again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

TINY = Path(__file__).parent / "data" / "tiny.yaml"
STAGES = ["extract", "vae", "vae.encode", "rnn", "controller", "controller.evaluate"]


def command(folder: Path, *arguments: str) -> subprocess.Popen:
    """Start `python -m experiment` in `folder` with the run folder `folder`/run."""
    line = [sys.executable, "-u", "-m", "experiment", str(TINY), "--run", "run", *arguments]
    return subprocess.Popen(
        line, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def finish(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run the pipeline to its end; its exit code and what it printed."""
    process = command(folder, *arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with one uninterrupted run, and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    code, output = finish(folder)
    assert code == 0, output
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
    assert "about" in output.split("── extract")[0], "the plan with its estimates comes first"
    assert str(Path("run") / "results.json") in output.splitlines()[-6], "where everything is comes last"


def test_nothing_is_left_in_the_working_folder(whole):
    folder, _ = whole
    assert [path.name for path in folder.iterdir()] == ["run"]


def test_running_again_does_nothing_and_changes_nothing(whole):
    folder, _ = whole
    files = {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*.h5")}
    began = time.monotonic()
    code, output = finish(folder)
    assert code == 0
    assert output.count("nothing to do") == len(STAGES), output
    assert time.monotonic() - began < 60
    assert files == {path: path.stat().st_mtime_ns for path in (folder / "run").rglob("*.h5")}


def test_other_settings_in_the_same_folder_are_refused(whole):
    folder, _ = whole
    code, output = finish(folder, "vae.z=7")
    assert code == 1
    assert output.splitlines()[-1].startswith("error: run holds a 'vae' made with vae.z=6, not 7")


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A folder with a run that was killed with SIGKILL while at every one of its stages."""
    folder = tmp_path_factory.mktemp("killed")
    for stage in STAGES:
        process = command(folder)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == f"── {stage}":
                break
        time.sleep(0.3 if stage == "extract" else 1.5)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    code, output = finish(folder)
    assert code == 0, output
    return folder / "run"


def test_killed_run_comes_to_the_same_end(whole, killed):
    folder, _ = whole
    with h5py.File(folder / "run" / "controller.h5") as left, h5py.File(killed / "controller.h5") as right:
        np.testing.assert_allclose(left["mean"][()], right["mean"][()], atol=1e-5)
    left, right = (json.loads((run / "results.json").read_text())["evaluations"] for run in (folder / "run", killed))
    assert left["game"]["returns"] == right["game"]["returns"]
    assert not list(killed.rglob(".partial*"))
