"""The benchmarks of the dream and of M on tiny networks, and the table; what all measure is in benchmarks/results."""

import dataclasses

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import dream, networks, pytorch, scaling
from benchmarks.measure import Measurement, best_rate, in_float32
from experiment.config import load_config
from experiment.files import read_json, write_json

TINY = "tests/data/tiny.yaml"
ABOUT = {"machine": {"processor": "this"}, "precision": "float32"}


@pytest.fixture
def tiny(monkeypatch):
    """The settings that benchmarks read are tiny."""
    settings = load_config(TINY)
    controller = dataclasses.replace(settings.controller, population=3, episodes=2)
    settings = dataclasses.replace(settings, controller=controller)
    monkeypatch.setattr(dream, "load_config", lambda path: settings)
    monkeypatch.setattr(dream, "PLAIN_STEPS", 10)
    return settings


def test_the_dream_is_measured(tiny):
    row = dream.measure_world("doom")
    products = (6 + 1 + 1 + 16) * 4 * 16 + 16 * (3 * 2 * 6 + 1)  # z, a, restart and h to four gates; h to the head
    assert row.rate > row.baseline > 0 and row.flop == 2 * products


@pytest.mark.parametrize("number", [1, 3])
def test_dreams_are_measured_step_by_step(tiny, number):
    row = dream.measure_steps(number)
    assert row.rate > 0 and row.baseline > 0 and row.name == f"dream environments, {number}"


def test_training_m_is_measured(tiny):
    row = networks.measure_rnn(tiny)
    assert row.rate > 0 and row.baseline > 0 and row.name == "M training"


def test_pytorch_is_left_out_where_it_is_not_installed(monkeypatch, capsys):
    monkeypatch.setattr(pytorch, "find_spec", lambda name: None)
    assert list(pytorch.measure()) == []
    assert capsys.readouterr().out == "PyTorch is not installed: it is not measured\n"


def test_the_papers_generation_on_larger_clusters():
    """With 64 cores, 171 slices of 6 episodes in three rounds; with 1,000, one episode each, and some are left for a second."""
    costs = scaling.Costs(step=0.001, task=0.01, tell=0.5)
    assert scaling.predicted(costs, 64) == pytest.approx((6, 18, 1.71, 18.5))
    assert scaling.predicted(costs, 1000) == pytest.approx((1, 2, 10.24, 10.74))
    assert scaling.predicted(costs._replace(task=0), 1024).whole == pytest.approx(1.5)


def test_a_rate_is_that_of_the_fastest_call(monkeypatch):
    times = iter([0.0, 2.0, 10.0, 11.0, 20.0, 24.0])
    monkeypatch.setattr("benchmarks.measure.time.perf_counter", lambda: next(times))
    calls = []
    assert best_rate(lambda: calls.append(1) or 8.0) == 8.0 and len(calls) == 4


def test_baselines_in_float32_leave_the_precision_as_it_was():
    from experiment.backend import keras

    keras.config.set_dtype_policy("mixed_bfloat16")
    with pytest.raises(ZeroDivisionError), in_float32():
        assert keras.config.dtype_policy().name == "float32"
        1 / 0  # noqa: B018
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


def test_rows_of_what_is_not_measured_again_are_kept_if_they_are_of_this_machine(tmp_path):
    path = tmp_path / "speed.json"
    assert command.kept(path, ABOUT) == {}
    rows = [{"name": "a", "rate": 1.0}, {"name": "b", "rate": 2.0}]
    write_json(path, {**ABOUT, "rows": rows})
    assert command.kept(path, ABOUT) == {"a": rows[0], "b": rows[1]}
    for other in (
        {"machine": {"processor": "that"}},
        {"machine": ABOUT["machine"] | {"cores": 64}},
        {"precision": "bfloat16"},
    ):
        assert command.kept(path, ABOUT | other) == {}


def test_the_command_prints_and_writes_what_was_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(networks, "measure", lambda: iter([Measurement("V", "frames", 30.0, 10.0, "plain", flop=5.0)]))
    monkeypatch.setattr(command, "matmul_peak", lambda dtype, seconds: 300.0)
    path = tmp_path / "speed.json"
    monkeypatch.setattr("sys.argv", ["benchmarks", "networks", "--output", str(path)])
    command.main()
    (row,) = read_json(path)["rows"]
    assert (row["name"], row["ratio"], row["share_of_peak"]) == ("V", 3.0, 0.5)
    assert "30 frames" in capsys.readouterr().out and np.isfinite(row["rate"])
    monkeypatch.setattr("sys.argv", ["benchmarks", "nothing"])
    with pytest.raises(SystemExit, match="2"):
        command.main()
