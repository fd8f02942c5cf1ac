"""What environments are given: every seed of Gymnasium's, no action out of range, and no process but the one that made them."""

import gymnasium
import numpy as np
import pytest

from envs.arcade import BreakoutVector
from envs.carracing import CarRacingEnv, CarRacingOwnVector, CarRacingVector
from envs.checks import check_actions, check_seed, each_seed
from envs.doom import DoomEnv, DoomVector
from envs.worlds import WORLDS
from experiment.problem import Problem

DOOM, CAR = WORLDS["doom"].action_space, WORLDS["carracing"].action_space
TWO = [DoomVector, CarRacingOwnVector, CarRacingVector, BreakoutVector]
ONE = [DoomEnv, CarRacingEnv]


def test_seeds_are_whole_numbers_from_0_on():
    assert [check_seed(seed) for seed in (0, np.uint32(2**32 - 1), 2**100)] == [0, 2**32 - 1, 2**100]
    for seed in (-1, np.int64(-5), 1.0, "3", None):
        with pytest.raises(Problem, match=r"seed .*: expected a whole number from 0 on"):
            check_seed(seed)


def test_seeds_of_many_environments():
    assert each_seed(None, 2) == [None, None]
    assert each_seed(np.int64(7), 3) == [7, 8, 9]
    assert each_seed(np.array([4, 5]), 2) == [4, 5]
    assert each_seed(np.array(7), 2) == [7, 8]
    assert each_seed([None, 2**40], 2) == [None, 2**40]
    with pytest.raises(Problem, match="3 seeds: expected 2"):
        each_seed([1, 2, 3], 2)
    with pytest.raises(Problem, match=r"seed 1\.5"):
        each_seed(1.5, 2)


@pytest.mark.parametrize(
    ("space", "number", "actions", "checked"),
    [
        (DOOM, None, 2, 2),
        (DOOM, None, np.uint8(1), 1),
        (DOOM, 3, [0, 1, 2], [0, 1, 2]),
        (CAR, None, (0, 1, 0), [0, 1, 0]),
        (CAR, 2, np.array([[-1, 0, 1], [1, 1, 1]], float), [[-1, 0, 1], [1, 1, 1]]),
    ],
)
def test_actions_of_a_space_are_taken(space, number, actions, checked):
    seen = check_actions(actions, space, number)
    assert seen.dtype == space.dtype and seen.tolist() == checked


@pytest.mark.parametrize(
    ("space", "number", "actions", "words"),
    [
        (DOOM, None, -1, "action -1: expected whole numbers from 0 to 2"),
        (DOOM, None, 3, "action 3: expected"),
        (DOOM, None, 2**63, "action 9223372036854775808: expected"),
        (DOOM, None, 2**70, "actions 1180591620717411303424: expected whole numbers from 0 to 2"),
        (DOOM, None, 1.0, r"actions 1\.0: expected whole"),
        (DOOM, None, [1], r"shape \(\)"),
        (DOOM, None, None, "actions None"),
        (DOOM, 2, [0, -1], "action -1"),
        (DOOM, 2, 1, r"shape \(2,\)"),
        (DOOM, 2, [0, 1, 2], r"shape \(2,\)"),
        (DOOM, 2, [[0], [1, 2]], r"shape \(2,\)"),
        (CAR, None, [0, 1.5, 0], r"action 1\.5: expected numbers from \[-1"),
        (CAR, None, [0, np.nan, 0], "action nan"),
        (CAR, None, [np.inf, 0, 0], "action inf"),
        (CAR, None, [0, 0], r"shape \(3,\)"),
        (CAR, 2, [[0, 0, 0], [0, 0, -0.1]], r"action -0\.1"),
        (CAR, 2, ["left", "right"], r"shape \(2, 3\)"),
    ],
)
def test_others_are_refused_with_action_and_range(space, number, actions, words):
    with pytest.raises(Problem, match=words):
        check_actions(actions, space, number)


def test_actions_of_games_that_are_over_may_be_anything():
    assert check_actions([1, -7, 2], DOOM, 3, [0, 2]).tolist() == [1, 0, 2]
    assert check_actions([[np.nan] * 3, [1, 1, 1]], CAR, 2, np.array([1])).tolist() == [[0] * 3, [1] * 3]


@pytest.mark.parametrize("kind", ONE + TWO)
def test_every_environment_takes_any_seed_and_refuses_actions_out_of_range(kind, monkeypatch):
    env = kind(2, max_steps=20) if kind in TWO else kind(max_steps=20)
    first = env.reset(seed=5)[0].copy()
    for seed in (np.int64(5), 2**32 + 5, 2**100 + 5):
        seen, info = env.reset(seed=seed)
        np.testing.assert_array_equal(seen, first)
        assert np.ravel(info["seed"])[0] == 5
    assert np.ravel(env.reset(seed=2**31 - 1)[1]["seed"])[0] == 2**31 - 1
    env.reset(seed=2**32 - 1)
    with pytest.raises(Problem, match="seed -1"):
        env.reset(seed=-1)
    for wrong in (-2, np.nan):
        with pytest.raises(Problem, match="expected"):
            env.step(np.full(env.action_space.shape, wrong, env.action_space.dtype if wrong < 0 else float))
    env.step(env.action_space.sample())
    with pytest.raises(Problem, match="no option mask of a reset: expected reset_mask"):
        env.reset(options={"mask": None})
    with pytest.raises(TypeError, match="speed"):
        kind(*([2] if kind in TWO else []), speed=2)
    if kind in TWO:
        assert env.reset(seed=np.array([5, 2**31 - 1]))[1]["seed"].tolist() == [5, 2**31 - 1]
        monkeypatch.setattr("os.getpid", lambda: 0)  # as after a fork
        for act in (env.reset, lambda: env.step(env.action_space.sample())):
            with pytest.raises(Problem, match=r'forked.*"context": "spawn"'):
                act()
        monkeypatch.undo()
    env.close()


def test_doom_plays_the_seeds_that_it_always_took():
    """Beyond those of the others: its own are uint32."""
    env = DoomEnv(max_steps=5)
    assert env.reset(seed=2**32 - 1)[1]["seed"] == 2**32 - 1
    env.close()


def test_gymnasium_makes_games_in_processes_of_their_own():
    import envs  # noqa: F401 (registers them)

    vector = gymnasium.make_vec("CarRacing64-v0", num_envs=2, vectorization_mode="async", max_steps=3)
    vector.reset(seed=2**40)
    assert vector.step(vector.action_space.sample())[0].shape == (2, 64, 64, 3)
    vector.close()
