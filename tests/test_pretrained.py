"""The agents that are shipped: small, complete, and as good as they say."""

import json

import h5py
import numpy as np
import pytest

from controller.policy import load_controller, policy_from
from controller.real import RealWorld
from experiment.config import load_config, to_yaml
from experiment.hardware import prepare
from experiment.metrics import read_metrics, write_metrics
from experiment.problem import Problem
from experiment.run import PRETRAINED, Run
from experiment.schema import Experiment, Hardware
from gallery.export import copy_half, export, keep_metrics, size_of
from tests.fake import save_untrained

NAMES = sorted(path.name for path in PRETRAINED.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shipped_is_small(name):
    assert 0 < size_of(PRETRAINED / name) < 15


@pytest.mark.parametrize(("name", "episodes"), [("doom", 12), ("carracing", 2)])
def test_a_shipped_agent_scores_what_it_says(name, episodes):
    """Other machines round otherwise, and a step decides: so within three standard errors of so few episodes."""
    run = Run(PRETRAINED / name)
    evaluations = json.loads(run.results.read_text())["evaluations"]
    stated, error = evaluations["game"], 3 * evaluations["game"]["std"] / episodes**0.5
    settings = load_config(run.config)
    prepare(Hardware())
    controller = load_controller(run.controller, policy_from(settings))
    assert controller.described["controller"] == stated["controller"]
    with RealWorld(settings, run, final=True) as world:
        returns = world.play(controller.mean, stated["seeds"][:episodes]).returns
    assert abs(returns.mean() - stated["mean"]) < error
    assert stated["mean"] - error > 2 * evaluations["random"]["mean"], "else chance would do as well"


def test_weights_are_kept_in_half_precision(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    with h5py.File(tmp_path / "whole.h5", "w") as file:
        file["layers/dense/vars/0"] = values
        file["step"] = 7
        file["layers"].attrs["name"] = "mine"
        file.attrs["about"] = "all"
    copy_half(tmp_path / "whole.h5", tmp_path / "half.h5")
    with h5py.File(tmp_path / "half.h5") as file:
        half = file["layers/dense/vars/0"]
        assert half.dtype == np.float16
        np.testing.assert_allclose(half[()], values, rtol=1e-3)
        assert (file["step"][()], file["layers"].attrs["name"], file.attrs["about"]) == (7, "mine", "all")


def test_metrics_are_kept_and_those_of_iterations_put_together(tmp_path):
    second = Run(tmp_path / "run" / "iterations" / "2")
    for run, generations in ((second.previous, [1, 2]), (second, [1])):
        assert run is not None
        numbers = np.array(generations, float)
        write_metrics(run.metrics / "controller.csv", {"step": numbers, "elapsed": 10 * numbers, "mean": 3.5 + numbers})
        write_metrics(run.metrics / "vae.csv", {"step": numbers, "loss": numbers * len(generations)})
    write_metrics(second.metrics / "openloop_windows.csv", {"window": np.arange(3.0)})
    shipped = Run(tmp_path / "shipped")
    keep_metrics(second, shipped)
    assert sorted(path.name for path in shipped.metrics.iterdir()) == ["controller.csv", "vae.csv"]
    kept = read_metrics(shipped.metrics / "controller.csv")
    assert {name: values.tolist() for name, values in kept.items()} == {
        "step": [1, 2, 3],
        "elapsed": [10, 20, 30],
        "mean": [4.5, 5.5, 4.5],
    }
    assert (shipped.metrics / "vae.csv").read_text() == (second.metrics / "vae.csv").read_text()


def test_an_unfinished_run_is_not_exported(tmp_path):
    run, shipped = Run(tmp_path / "run"), tmp_path / "shipped"
    with pytest.raises(Problem, match="run `python -m vae` or `python -m nextframe` first"):
        export(run, shipped)
    settings = Experiment()
    save_untrained(run, settings)
    run.config.write_text(to_yaml(settings))
    with pytest.raises(Problem, match=r"controller\.h5 is missing: finish the run first"):
        export(run, shipped)
    assert not shipped.exists()
