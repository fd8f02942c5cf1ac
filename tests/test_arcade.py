"""Breakout and CoinRun: episodes side by side are those one by one, recorded as asked; and CoinRun without Qt 5."""

from dataclasses import replace

import h5py
import numpy as np
import pytest

from envs.actions import choose, unchoose
from envs.arcade import BreakoutVector, CoinRunVector
from envs.worlds import WORLDS
from experiment.config import load_config
from experiment.problem import Problem, UsageProblem
from experiment.run import Run
from experiment.schema import Experiment
from extract.collect import check, collect, plan
from extract.policies import sticky
from extract.recorded import manifest
from extract.rollouts import Rollouts
from tests.commands import PROJECT, python

BREAKOUT = PROJECT / "configs" / "breakout.yaml"
TINY = ["extract.steps=300", "extract.shard_steps=150", "extract.min_steps=10", "env.max_steps=60"]
TINY += ["openloop.context=8", "openloop.horizon=16"]


def tiny(*overrides: str) -> Experiment:
    return load_config(BREAKOUT, "quick", [*TINY, "workers.processes=1", *overrides])


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A run with two shards of Breakout. Not to be changed."""
    run = Run(tmp_path_factory.mktemp("recorded"))
    collect(tiny(), run)
    return run


def test_equal_parts_of_raw_actions_stand_for_the_choices():
    raw = np.array([-1, -0.51, -0.49, -0.01, 0.01, 0.49, 0.51, 0.999, 1], np.float32)
    np.testing.assert_array_equal(choose(raw, choices=4), [0, 0, 1, 1, 2, 2, 3, 3, 3])
    for choices in (2, 4, 15):
        numbers = np.arange(choices)
        np.testing.assert_array_equal(choose(unchoose(numbers, choices=choices), choices=choices), numbers)


def test_sticky_actions_stay_as_often_as_they_should():
    policy = sticky(np.random.default_rng(0), 1, 0.3)
    actions = np.array([next(policy)[0] for _ in range(5000)])
    assert np.mean(actions[1:] == actions[:-1]) == pytest.approx(0.3, abs=0.02)
    assert np.histogram(actions, 4, (-1, 1))[0] == pytest.approx(1250, rel=0.12)


@pytest.mark.parametrize(("grey", "size"), [(True, 84), (False, 32)])
def test_breakout_side_by_side_is_breakout_one_by_one(grey, size):
    """Whatever was played in a game before, and wherever the others are; and a game that is over waits."""
    rng = np.random.default_rng(0)
    actions = rng.integers(0, 4, (12, 3))
    together, alone = (
        BreakoutVector(n, max_steps=8, size=size, grey=grey, threads=1, autoreset_mode="Disabled") for n in (3, 1)
    )
    seeds = [5, 6, 7]
    first, _ = together.reset(seed=seeds)
    shape = (size, size, 1 if grey else 3)
    assert first.shape == (3, *shape) and first.std() > 10
    together.step(actions[0])  # and then game 1 begins anew, among the others
    together.reset(seed=[0, 9, 0], options={"reset_mask": np.array([False, True, False])})
    steps = [together.step(row) for row in actions[1:]]
    seen, _ = alone.reset(seed=[9])
    for row, (frames, _, terminated, truncated, _) in zip(actions[1:9], steps, strict=False):
        seen, _, _, over, _ = alone.step(row[1:2])
        np.testing.assert_array_equal(seen[0], frames[1])
        assert (truncated[1], terminated[1]) == (over[0], False)
    assert over[0] and (steps[-1][0][1] == seen[0]).all()
    together.close()
    alone.close()


def test_there_is_no_chance_in_breakout():
    """The same actions are the same episode, whatever the seeds; other actions are another."""
    vector = BreakoutVector(3, threads=1)
    actions = np.array([[1, 1, 1], *[[2, 2, 3]] * 12])
    frames = np.stack([vector.reset(seed=[0, 1, 1])[0], *(vector.step(row)[0] for row in actions)])  # (T, 3, 84, 84, 1)
    np.testing.assert_array_equal(frames[:, 0], frames[:, 1])
    assert (frames[-1, 0] != frames[-1, 2]).any()
    vector.close()


def test_steps_are_counted_in_whole_episodes(recorded):
    rollouts = Rollouts(recorded.rollouts)
    assert len(rollouts.shards) == 2 and rollouts.frame_shape == (84, 84, 1)
    for shard in rollouts.shards:
        assert 150 <= shard.lengths.sum() < 150 + 60, "the last episode goes over the mark, and no other comes after it"
        assert shard.attributes["actions"] == 4
    for index in range(rollouts.episodes):
        ended = rollouts.episode(index).terminated | rollouts.episode(index).truncated
        assert ended[-1] and not ended[:-1].any()


def test_recorded_actions_and_seed_give_the_recorded_frames(recorded):
    episode = Rollouts(recorded.rollouts).episode(1)
    vector = BreakoutVector(1, max_steps=60, threads=1)
    frames, rewards = [vector.reset(seed=[episode.seed])[0][0]], []
    for action in WORLDS["breakout"].to_env(WORLDS["breakout"].execute(episode.actions)):
        frame, reward, *_ = vector.step(np.array([action]))
        frames.append(frame[0])
        rewards.append(reward[0])
    np.testing.assert_array_equal(np.stack(frames[:-1]), episode.frames)
    np.testing.assert_array_equal(rewards, episode.rewards)


def test_the_result_does_not_depend_on_how_many_games_are_played_side_by_side(recorded, tmp_path, monkeypatch):
    run = Run(tmp_path)
    monkeypatch.setitem(WORLDS, "breakout", replace(WORLDS["breakout"], recorded=3))
    collect(tiny(), run)
    for left, right in zip(Rollouts(recorded.rollouts).shards, Rollouts(run.rollouts).shards, strict=True):
        with h5py.File(left.path) as a, h5py.File(right.path) as b:
            assert all((a[name][()] == b[name][()]).all() for name in a)


def test_the_manifest_says_what_is_recorded(recorded):
    done = python("-m", "extract", "--show", recorded.path)
    assert done.returncode == 0 and done.stdout.strip() == manifest(recorded.rollouts)
    rollouts = Rollouts(recorded.rollouts)
    for words in (
        "game: breakout",
        f"steps: {rollouts.frames}",
        f"episodes: {rollouts.episodes}",
        "(step, 84, 84, 1): height, width, grey",
        "stick with probability 0.25",
        "envpool",
        *(
            f"{shard.path.name}: {shard.lengths.sum()} steps in {len(shard.lengths)} episodes"
            for shard in rollouts.shards
        ),
    ):
        assert words in done.stdout, done.stdout


def test_the_manifest_of_nothing_is_one_line(tmp_path):
    done = python("-m", "extract", "--show", tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "has no rollouts" in done.stderr


def test_a_shard_from_before_a_setting_counts_as_its_default(recorded, tmp_path):
    """Rollouts recorded by an older version of this program, which did not know the setting, are still good."""
    run = Run(tmp_path)
    run.rollouts.mkdir()
    for shard in Rollouts(recorded.rollouts).shards:
        copy = run.rollouts / shard.path.name
        copy.write_bytes(shard.path.read_bytes())
        with h5py.File(copy, "r+") as file:
            del file.attrs["env.size"]
    task = plan(tiny(), run.rollouts)[0]
    assert check(task).lengths.tolist() == Rollouts(recorded.rollouts).shards[0].lengths.tolist()
    other = replace(task.settings, env=replace(task.settings.env, size=64))
    with pytest.raises(Problem, match=r"recorded with env\.size=84, not 64"):
        check(replace(task, settings=other))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("extract.policy=networks", ["extract.policy=networks", "breakout", "sticky"]),
        ("model.patch=5", ["model.patch=5", "env.size=84"]),
        ("extract.stickiness=1", ["extract.stickiness", "below 1"]),
        ("openloop.context=3", ["openloop.context=3", "model.context"]),
        ("openloop.horizon=64", ["openloop.horizon=64", "no episode is as long"]),
        ("extract.max_steps=5", ["no episode is as long, of 5 steps"]),
    ],
)
def test_impossible_settings_are_named(override, words):
    with pytest.raises(UsageProblem) as caught:
        tiny(override)
    assert all(word in str(caught.value) for word in words)


def test_coinrun_without_qt_says_in_one_line_what_to_install(tmp_path, monkeypatch):
    def missing(*_, **__):
        raise ImportError("EnvPool Procgen requires the system Qt 5 runtime on Linux.")

    settings = load_config(PROJECT / "configs" / "coinrun.yaml", "quick", ["workers.processes=1"])
    monkeypatch.setattr("envs.pools.import_envpool", lambda title: missing)
    with pytest.raises(Problem, match="apt install libqt5gui5") as caught:
        collect(settings, Run(tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.needs("qt")
@pytest.mark.parametrize(("grey", "size"), [(True, 84), (False, 64)])
def test_coinrun_side_by_side_is_coinrun_one_by_one(grey, size):
    actions = np.random.default_rng(0).integers(0, 15, (10, 2))
    together, alone = (CoinRunVector(n, size=size, grey=grey, threads=1) for n in (2, 1))
    first, _ = together.reset(seed=[3, 4])
    assert first.shape == (2, size, size, 1 if grey else 3) and (first[0] != first[1]).any()
    seen, _ = alone.reset(seed=[4])
    np.testing.assert_array_equal(seen[0], first[1])
    for row in actions:
        frames, seen = together.step(row)[0], alone.step(row[1:])[0]
        np.testing.assert_array_equal(seen[0], frames[1])
    together.close()
    alone.close()


@pytest.mark.needs("qt")
def test_time_that_runs_out_in_coinrun_is_a_truncation():
    """The game ends itself after 1,000 steps, and calls it an end like any other."""
    vector = CoinRunVector(2, max_steps=1000, threads=1)
    vector.reset(seed=[3, 4])
    still = np.full(2, WORLDS["coinrun"].action_names.index("nothing"))
    for _ in range(999):
        *_, terminated, truncated, _ = vector.step(still)
    assert not terminated.any() and not truncated.any()
    *_, terminated, truncated, _ = vector.step(still)
    assert not terminated.any() and truncated.all() and not vector.live.any()
    vector.close()
