"""Next-frame models that are shipped: found by name, with windows of their own, and as good as they say."""

import json
import shutil
import sys

import h5py
import numpy as np
import pytest

from experiment import run as run_folder
from experiment.config import load_config
from experiment.files import read_json, write_json
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import PRETRAINED, Run, find_run
from experiment.stage import guard
from extract.rollouts import Rollouts, shard_path
from gallery import export
from gallery.export import size_of
from gallery.stepping import from_window
from nextframe.model import load_nextframe
from openloop.__main__ import evaluate_run
from openloop.predictor import open_run
from openloop.windows import choose_windows
from tests.commands import command_here
from tests.fake import save_next_frames

SHIPPED = sorted(path.parent.name for path in PRETRAINED.glob("*/nextframe.weights.h5"))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Run:
    """A tiny run that was measured."""
    run = save_next_frames(Run(tmp_path_factory.mktemp("made") / "run"), size=20)
    evaluate_run(str(run.path), [])
    return run


@pytest.fixture
def shipped(made, tmp_path, monkeypatch) -> Run:
    """It is shipped as `tiny`."""
    for module in (export, run_folder):
        monkeypatch.setattr(module, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.setattr(sys, "argv", ["gallery.export", str(made.path), "tiny"])
    assert guard(export.main) == 0
    return find_run("tiny")


def check_scores(run: Run) -> None:
    """The shipped model scores what its record says, within half a band of these few windows."""
    settings, stated = load_config(run.config), read_json(run.results)["shipped"]
    prepare(settings.hardware)
    measured = export.measure_windows(settings, run)
    assert measured["windows"] == stated["windows"] == Rollouts(run.rollouts).episodes
    for horizon, at in stated["horizons"].items():
        for curve, (mean, low, high) in at["mse"].items():
            assert abs(measured["horizons"][horizon]["mse"][curve][0] - mean) <= (high - low) / 2 + 1e-6


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_models_score_what_they_say(name):
    check_scores(Run(PRETRAINED / name))


def test_a_model_is_shipped_whole_and_found_by_name(made, shipped, tmp_path):
    assert shipped.path == tmp_path / "pretrained" / "tiny" and 0 < size_of(shipped.path) < 1
    assert (shipped.metrics / "openloop.csv").read_bytes() == (made.metrics / "openloop.csv").read_bytes()
    with h5py.File(shipped.nextframe_weights) as file:
        kinds: set[np.dtype] = set()
        file.visititems(lambda _, item: kinds.add(item.dtype) if isinstance(item, h5py.Dataset) else None)
    assert kinds == {np.dtype("float16")}
    settings, run = open_run("tiny")
    generator = np.random.default_rng(3)
    frames, actions = generator.random((5, 4, 20, 20, 1), "float32"), generator.uniform(-1, 1, (5, 4)).astype("float32")
    whole, half = (np.asarray(load_nextframe(each, settings).next_frame(frames, actions)) for each in (made, run))
    assert whole.std() > 0.05
    np.testing.assert_allclose(half, whole, atol=5e-3)
    assert not np.array_equal(half, whole)
    check_scores(run)


def test_its_windows_are_those_it_was_measured_on_and_held_out(made, shipped):
    settings, _ = open_run(str(made.path))
    recorded, kept = Rollouts(made.rollouts), Rollouts(shipped.rollouts)
    held_out = recorded.split(0.5)[1]
    windows = [w for w in choose_windows(recorded.lengths, held_out, settings.openloop) if w.steps == 6]
    first = kept.read(kept.starts)
    assert first[:, 0, :2, 0].tolist() == [[w.episode, w.start] for w in windows]
    assert kept.lengths.tolist() == [10] * len(windows) and not kept.sequences().terminated.any()
    for number, window in enumerate(windows):
        part = slice(window.start, window.start + 10)
        np.testing.assert_array_equal(kept.episode(number).frames, recorded.episode(window.episode).frames[part])
        np.testing.assert_array_equal(kept.episode(number).actions, recorded.episode(window.episode).actions[part])
    training, held_out = kept.split(0.5)
    assert not len(training) and held_out.tolist() == list(range(len(windows)))
    results, original = json.loads(shipped.results.read_text()), json.loads(made.results.read_text())
    assert results["openloop"] == original["openloop"] and "processor" in results["openloop"]["machine"]
    assert set(results["shipped"]["horizons"]) == {"1", "5", "6"}


def test_it_can_be_stepped_through_and_is_left_as_it_is(shipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in shipped.path.rglob("*")}
    assert from_window(find_run("tiny")).type("left x2", "recorded").shape == (4, 20, 20, 3)
    with pytest.raises(Problem, match=r"tiny is shipped, with figures in .*results\.json of .* give a copy"):
        evaluate_run("tiny", [])
    assert before == {path: path.stat().st_mtime_ns for path in shipped.path.rglob("*")}


def test_rollouts_of_something_else_are_not_shipped(made, tmp_path):
    run = Run(tmp_path / "run")
    shutil.copytree(made.path, run.path)
    with h5py.File(shard_path(run.rollouts, 0), "r+") as file:
        file.attrs["actions"] = 18
    with pytest.raises(Problem, match=r"shard-00000\.h5 was recorded with actions=18, but the settings say 4"):
        export.export(run, tmp_path / "shipped")
    assert not (tmp_path / "shipped").exists()


def test_what_was_not_measured_is_not_shipped(made, tmp_path, capsys):
    def exporting(run: Run) -> str:
        code, (said, errors) = command_here("gallery.export", run.path, "tiny"), capsys.readouterr()
        assert (code, said, errors.count("\n")) == (1, "", 1)
        return errors

    run = save_next_frames(Run(tmp_path / "run"), size=20)
    wanted = f"error: the model of {run.path} was not measured yet: run `python -m openloop {run.path}` first\n"
    assert exporting(run) == wanted
    record = {**read_json(made.results)["openloop"]}
    write_json(run.results, {"openloop": {**record, "of": {**record["of"], "nextframe_weights": "00000000"}}})
    assert exporting(run) == wanted  # it was measured with other weights
    run.nextframe_weights.unlink()
    assert "run `python -m vae` or `python -m nextframe` first" in exporting(run)
    assert not (PRETRAINED / "tiny").exists()
