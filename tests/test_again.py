"""An agent that plays again on fresh seeds, a next-frame model that predicts again, and what is stated of them."""

import shutil

import numpy as np
import pytest

from controller import again as module
from controller.again import again
from controller.policy import load_controller, policy_from
from controller.real import RealWorld
from controller.scores import summary
from envs.worlds import WORLDS
from experiment.config import to_yaml
from experiment.problem import Problem, UsageProblem
from experiment.run import PRETRAINED, Run
from openloop.again import again as again_openloop
from openloop.again import compare
from tests.fake import FakeGames, fake_world, save_agent
from tests.test_evaluate import CARRACING

FIRST, FRESH = 1_000_000, 7_000_000


@pytest.fixture
def run(tmp_path, monkeypatch) -> Run:
    """One whose agent is stated to have 100 on average, and has what `run.now` says."""
    run = Run(tmp_path)
    returns = np.random.default_rng(0).normal(100, 10, 50)
    run.update_results(
        "evaluations", "game", {"seeds": list(range(FIRST, FIRST + 50)), **summary(returns + 100 - returns.mean())}
    )
    run.now = 101.0
    monkeypatch.setattr(
        module, "returns_of", lambda run, seeds, fast: run.now + fast + np.tile([-10.0, 10.0], len(seeds) // 2)
    )
    return run


@pytest.mark.parametrize(("fast", "picture"), [(False, "own"), (True, "fast")])
def test_it_is_the_runs_own_agent_that_plays(tmp_path, monkeypatch, fast, picture):
    opened = []

    def kind(name):
        return lambda games, max_steps, **_: opened.append(name) or FakeGames(games, 3, max_steps)

    monkeypatch.setitem(WORLDS, "carracing", fake_world("carracing", vector=kind("fast"), final=kind("own")))
    run, seeds = save_agent(Run(tmp_path), CARRACING), list(range(FRESH, FRESH + 9))
    run.config.write_text(to_yaml(CARRACING))
    returns = module.returns_of(run, seeds, fast)
    with RealWorld(CARRACING, run, final=not fast) as world:
        controller = load_controller(run.controller, policy_from(CARRACING)).mean
        np.testing.assert_array_equal(returns, world.play(controller, seeds).returns)
    assert set(opened) == {picture} and len(set(returns)) > 5


def test_it_plays_in_the_picture_that_the_stated_figure_is_of(run, capsys):
    stated = run.read_results()["evaluations"]["game"]
    for picture, played in (("own", "101.0"), ("fast", "102.0")):
        run.update_results("evaluations", "game", stated | {"picture": picture})
        again(run, 20, FRESH)
        assert f"played now: {played}" in capsys.readouterr().out


def test_both_figures_are_shown_and_nothing_is_written(run, capsys):
    before = run.results.read_bytes()
    again(run, 20, FRESH)
    stated, now, difference, verdict = capsys.readouterr().out.splitlines()
    assert stated.startswith("stated:     100.0 ± ") and stated.endswith("in 50 episodes from seed 1000000")
    assert now.startswith("played now: 101.0 ± 10.3") and now.endswith("in 20 episodes from seed 7000000")
    assert difference.startswith("difference: +1.0, with a standard error of 2.")
    assert verdict == "they agree: 0.4 standard errors apart (up to 4 count as chance)"
    assert run.results.read_bytes() == before


def test_an_agent_that_is_not_what_it_was_is_a_problem(run, capsys):
    run.now = 50.0
    with pytest.raises(Problem, match="more than chance explains"):
        again(run, 20, FRESH)
    said = capsys.readouterr().out
    assert "difference: -50.0" in said and "agree" not in said


@pytest.mark.parametrize(("episodes", "seed"), [(1, FRESH), (10**30, FRESH), (20, 999_999), (20, 2**31)])
def test_impossible_numbers_are_refused(run, episodes, seed):
    with pytest.raises(
        UsageProblem, match=r"--episodes from 2 to 100,000, and a --seed from 1,000,000 to 2,000,000,000"
    ):
        again(run, episodes, seed)


def test_seeds_that_the_stated_figures_are_of_are_refused(run):
    with pytest.raises(UsageProblem, match="seed 1000040 was played for what is stated"):
        again(run, 20, FIRST + 40)


def test_a_run_without_a_score_or_with_a_damaged_one_is_told_in_one_line(run, tmp_path):
    with pytest.raises(UsageProblem, match="states no score"):
        again(Run(tmp_path / "other"), 20, FRESH)
    run.update_results("evaluations", "game", {"mean": 1.0})
    with pytest.raises(Problem, match=r"results\.json is not what was written there"):
        again(run, 20, FRESH)


def horizons(mean: float, half: float) -> dict:
    """An error with its band, at two horizons."""
    return {k: {"mse": {"open_loop": [mean, mean - half, mean + half], "copy": [1.0, 0.9, 1.1]}} for k in ("1", "10")}


def test_errors_of_a_next_frame_model_agree_within_their_bands(capsys):
    """Bands of 95 % are 1.96 standard errors to each side: 0.03 and 0.04 make a difference's standard error 0.05 / 1.96."""
    compare(horizons(0.2, 0.03), horizons(0.25, 0.04), 0.95)
    heading, columns, *rows, verdict = capsys.readouterr().out.splitlines()
    assert heading == "open-loop MSE (as a share of the copy's)"
    assert " ".join(columns.split()) == "horizon stated now standard errors apart"
    assert [row.split() for row in rows] == [[k, "0.200", "(20%)", "0.250", "(25%)", "2.0"] for k in ("1", "10")]
    assert verdict == "they agree (up to 4 standard errors count as chance)"
    with pytest.raises(Problem, match="more than chance explains: the model"):
        compare(horizons(0.2, 0.03), horizons(0.31, 0.04), 0.95)
    with pytest.raises(Problem, match="more than chance explains"):
        compare(horizons(0.2, 0.0), horizons(0.3, 0.0), 0.95)
    compare(horizons(0.2, 0.0), horizons(0.2, 0.0), 0.95)


@pytest.mark.parametrize(
    ("name", "seed", "said"),
    [
        ("doom", 1, r"has V and M, whose agent `python -m controller\.again`"),
        ("breakout", 0, "other than the run's own 0"),
    ],
)
def test_models_that_cannot_be_compared_again(name, seed, said):
    with pytest.raises(UsageProblem, match=said):
        again_openloop(name, seed)


def test_a_next_frame_model_without_figures_or_with_damaged_ones(tmp_path):
    shutil.copytree(PRETRAINED / "breakout", tmp_path / "run")
    run = Run(tmp_path / "run")
    run.update_results("openloop", {"of": 1})
    with pytest.raises(Problem, match=r"results\.json is not what was written there"):
        again_openloop(run.path, 1)
    run.results.unlink()
    with pytest.raises(UsageProblem, match="states no open-loop error"):
        again_openloop(run.path, 1)
