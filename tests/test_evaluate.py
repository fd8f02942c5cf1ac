"""The reported figures: statistics, tables, what is measured once, pictures, slices, and the sweep."""

import dataclasses

import numpy as np
import pytest

from controller.evolution import Evolution
from controller.policy import policy_from
from controller.real import RealGame, Slice, play_slice
from controller.scores import (
    once,
    published_curve,
    published_episodes,
    published_mean_curve,
    published_rows,
    published_table,
    row,
    summary,
    table,
)
from controller.weights import load_controller, save_controller
from experiment.files import read_json
from experiment.run import Run
from experiment.schema import Controller, Dream, Env, Evaluate, Experiment, Hardware, Rnn, Vae

SETTINGS = Experiment(
    env=Env(max_steps=300, games=2),
    vae=Vae(z=4),
    rnn=Rnn(hidden=8, mixtures=2),
    dream=Dream(max_steps=30),
    controller=Controller(population=4, episodes=2, generations=1),
    evaluate=Evaluate(episodes=3, dreams=5, random_episodes=2, temperatures=[0.5, 1.15]),
    hardware=Hardware(precision="float32"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with V, M and C as they are before any training, and the starts of three episodes."""
    from extract.rollouts import Sequences
    from rnn.model import build_rnn
    from vae.latents import write_latents
    from vae.model import VAE

    run = Run(tmp_path_factory.mktemp("run"))
    VAE(SETTINGS.vae.z).save_weights(run.vae_weights)
    build_rnn(SETTINGS).save_weights(run.rnn_weights)
    ends = np.tile([False, True], 3)
    sequences = Sequences(np.zeros(6, "float32"), np.ones(6, "float32"), ends, ~ends, np.full(3, 2), [3])
    write_latents(run.latents, [(np.zeros((6, 4)), np.zeros((6, 4)))], sequences)
    policy = policy_from(SETTINGS)
    begun = np.random.default_rng(0).normal(size=policy.size)
    save_controller(run.controller, policy, Evolution(policy.size, 0.1, 4, seed=0, x0=begun))
    return run


@pytest.fixture(scope="module")
def evaluated(run):
    from controller.evaluation import evaluate

    evaluate(SETTINGS, run)
    return read_json(run.results)["evaluations"]


def test_summary_is_of_a_sample():
    record = summary(np.array([1.0, 2.0, 3.0, 6.0]))
    assert (record["mean"], record["n"], record["min"], record["max"]) == (3.0, 4, 1.0, 6.0)
    assert record["std"] == pytest.approx((14 / 3) ** 0.5)  # n - 1 in the denominator
    assert record["standard_error"] == pytest.approx((14 / 3) ** 0.5 / 2)
    assert record["returns"] == [1.0, 2.0, 3.0, 6.0]


def test_published_figures_of_doom():
    episodes = published_episodes("doom")
    assert (len(episodes), round(episodes.mean())) == (100, 973)
    ours = [row("ours", None, summary(np.array([100.0, 300.0])))]
    text = table(ours, published_rows("doom"), "survival in tics")
    heading, first = text.splitlines()[1], text.splitlines()[3]
    assert heading.split("  ")[0] == "survival in tics, mean ± standard deviation"
    assert first.startswith("ours") and first.endswith("200 ± 141  (mean ± 100)")
    for figures in ("1,092 ± 556", "2,086 ± 140", "210 ± 108", "820 ± 58", "973 ± 542"):
        assert figures in text
    curve = published_curve("doom")
    assert (len(curve["return_mean"]), curve["return_mean"][0]) == (1800, 305.45)
    assert published_mean_curve("doom") == {}


def test_published_figures_of_carracing():
    ours = [row("ours", None, summary(np.array([-20.0, 19.4])))]
    text = table(ours, published_rows("carracing"), "return")
    heading, first = text.splitlines()[1], text.splitlines()[3]
    assert (
        " ".join(heading.split()) == "return, mean ± standard deviation in the game"
    )  # nobody dreamed: no such column
    assert " ".join(first.split()) == "ours 0 ± 28 (mean ± 20)"  # -0.3: no -0
    for figures in ("906 ± 21", "788 ± 141", "632 ± 251", "838 ± 11", "652 ± 10", "591 ± 45", "343 ± 18"):
        assert sum(line.endswith(figures) for line in text.splitlines()) == 1
    assert [line["game"].mean for line in published_table("carracing") if "PyTorch" in line["row"]] == [860, 870]
    assert len(published_episodes("carracing")) == 0
    curve, mean = published_curve("carracing"), published_mean_curve("carracing")
    assert [int(values[-1]) for values in curve.values()] == [1800, 4027120, 890, 813, 911, 903]
    assert [round(float(values[-1])) for values in mean.values()] == [1800, 4029137, 900]
    assert len(curve["generation"]) == 1800 and len(mean["generation"]) == 72


def test_a_dream_gets_a_column():
    record = summary(np.array([800.0, 900.0]))
    text = table([row("ours", record, None)], published_rows("carracing"), "return")
    assert "in the dream" in text and "850 ± 71  (mean ± 50)" in text


def test_what_was_not_published_is_empty():
    assert published_rows("elsewhere") == [] and published_curve("elsewhere") == {}


def test_measured_once_for_the_same_thing_only(tmp_path):
    run = Run(tmp_path)
    first = once(run, ["game"], {"controller": "a", "seeds": [1, 2]}, lambda: np.array([3.0, 5.0]))
    assert first["mean"] == 4

    def never():
        raise AssertionError("measured again")

    assert once(run, ["game"], {"controller": "a", "seeds": [1, 2]}, never) == first
    other = once(run, ["game"], {"controller": "b", "seeds": [1, 2]}, lambda: np.array([7.0, 9.0]))
    assert other["mean"] == 8
    assert read_json(run.results)["evaluations"]["game"]["controller"] == "b"


def test_evaluation_records_everything(evaluated):
    assert evaluated["game"]["seeds"] == [1_000_000, 1_000_001, 1_000_002]
    assert evaluated["game"]["n"] == len(evaluated["game"]["returns"]) == 3
    assert evaluated["random"]["seeds"] == [1_000_000, 1_000_001]
    assert (evaluated["dream"]["n"], evaluated["dream"]["temperature"]) == (5, 1.15)
    assert all(part["max"] <= limit for part, limit in ((evaluated["game"], 300), (evaluated["dream"], 30)))


def test_evaluation_draws(run, evaluated):
    assert (run.plots / "survival.png").stat().st_size > 1000
    assert {path.name for path in run.videos.iterdir()} == {"game.mp4", "game.gif", "dream.mp4", "dream.gif"}


def test_what_was_measured_is_not_measured_again(run, evaluated, monkeypatch, capsys):
    from controller.evaluation import evaluate

    without_videos = dataclasses.replace(SETTINGS, evaluate=dataclasses.replace(SETTINGS.evaluate, videos=False))
    monkeypatch.setattr(RealGame, "returns", lambda *_: pytest.fail("played again"))
    evaluate(without_videos, run)
    assert "best published before" in capsys.readouterr().out
    assert read_json(run.results)["evaluations"] == evaluated


def test_slices_give_what_the_whole_gives(run, evaluated):
    seeds = evaluated["game"]["seeds"]
    controller = load_controller(run.controller, policy_from(SETTINGS)).mean
    slices = [play_slice(Slice(SETTINGS, run.path, controller, part)) for part in (seeds[:1], seeds[1:])]
    np.testing.assert_array_equal(np.concatenate(slices), evaluated["game"]["returns"])
    assert len(set(evaluated["game"]["returns"])) > 1


def test_sweep_makes_the_papers_table(run, evaluated, capsys):
    from controller.sweep import sweep

    sweep(SETTINGS, run, evolve_each=True)
    text = capsys.readouterr().out
    assert "ours, evolved at τ 0.50 " in text
    assert "ours, evolved at τ 1.15 " in text
    after = read_json(run.results)["evaluations"]
    assert after["dream"] == evaluated["dream"]  # the run's own temperature is taken from what is there
    assert after["sweep"]["tau-0.5"]["game"]["n"] == 3
    assert after["dreams"]["tau-0.5"]["temperature"] == 0.5
    assert (run.path / "sweep" / "tau-0.5" / "controller.h5").exists()
    assert (run.plots / "temperatures.png").stat().st_size > 1000
    sweep(SETTINGS, run, evolve_each=True)
    assert read_json(run.results)["evaluations"] == after
