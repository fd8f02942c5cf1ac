"""What environments are given: every seed of Gymnasium's, no action out of range, and no process but the one that made them."""

import copy
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from envs.arcade import BreakoutVector
from envs.carracing import CarRacingEnv, CarRacingVector
from envs.checks import check_actions, check_seed, each_seed
from envs.doom import DoomEnv, DoomVector
from envs.sidebyside import Alone, SideBySide
from envs.worlds import WORLDS
from experiment.problem import Problem

DOOM, CAR = WORLDS["doom"].action_space, WORLDS["carracing"].action_space
TWO = [DoomVector, CarRacingVector, BreakoutVector]
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
    assert first in env.observation_space
    for seed in (np.int64(5), 2**32 + 5, 2**100 + 5):
        seen, info = env.reset(seed=seed)
        np.testing.assert_array_equal(seen, first)
        assert np.ravel(info["seed"])[0] == 5
    assert np.ravel(env.reset(seed=2**31 - 1)[1]["seed"])[0] == 2**31 - 1
    last = 2**32 - 1  # which Doom has always taken as it is; the others' own seeds are int32
    assert np.ravel(env.reset(seed=last)[1]["seed"])[0] == (last if kind in (DoomVector, DoomEnv) else last % 2**31)
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


class Counter(SideBySide):
    """Games that show their seed and their step, and last two steps."""

    metadata = {"render_fps": 1}  # noqa: RUF012

    def __init__(self, num_envs: int, size: int = 2, max_steps: int = 2, **common):
        space = gymnasium.spaces.Box(0, 2**62, (size,), np.int64)
        super().__init__(num_envs, space, gymnasium.spaces.Discrete(3), max_steps, **common)

    def begin(self, rows, seeds):
        self.frames[rows] = np.stack([seeds, np.zeros(len(rows))], axis=1)

    def drive(self, rows, actions):
        self.frames[rows, 1] += 1
        self.rewards[rows] = 1


class CounterAlone(Alone):
    kind = Counter


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_a_game_that_is_over_goes_on_as_in_gymnasiums_own_vector_environment(mode):
    """The same observations, rewards and ends, with the same seeds of the same chains."""
    ours = Counter(3, autoreset_mode=mode)
    theirs = gymnasium.vector.SyncVectorEnv([CounterAlone] * 3, autoreset_mode=mode)
    for seed in (5, [7, None, 2**40]):
        np.testing.assert_array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
        for step in range(7):
            if mode is AutoresetMode.DISABLED and step == 2:  # theirs refuse to step games that are over
                break
            results = [vector.step(np.zeros(3, int)) for vector in (ours, theirs)]
            for one, two in zip(*(result[:4] for result in results), strict=True):
                np.testing.assert_array_equal(one, two)
            finals = [np.stack(list(info["final_obs"])) for *_, info in results if "final_obs" in info]
            assert len(finals) == (2 if mode is AutoresetMode.SAME_STEP and results[0][3].all() else 0)
            if finals:
                np.testing.assert_array_equal(*finals)


def test_what_would_go_wrong_in_silence_is_refused():
    vector = Counter(2)
    with pytest.raises(Problem, match="no episode has begun: reset the environment before its first step"):
        vector.step(np.zeros(2, int))
    for mask in (np.ones(3, bool), [0, 1]):
        with pytest.raises(Problem, match=r"reset_mask: expected true or false for each of 2 environments, not"):
            vector.reset(options={"reset_mask": mask})
    with pytest.raises(Problem, match="max_steps is 0: expected at least 1"):
        Counter(2, max_steps=0)
    with pytest.raises(ValueError, match="'Never' is not a valid AutoresetMode"):
        Counter(2, autoreset_mode="Never")


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("kind", [*TWO, DoomEnv, CarRacingEnv])
def test_every_environment_is_copied_and_pickled_as_it_was_made(kind, copied):
    """Its processes and threads cannot be, so a copy has no episode until it is reset."""
    env = kind(**({"num_envs": 2} if kind in TWO else {}), max_steps=2)
    env.reset(seed=1)
    other = copied(env)
    with pytest.raises(Problem, match="no episode has begun"):
        other.step(other.action_space.sample())
    np.testing.assert_array_equal(other.reset(seed=3)[0], env.reset(seed=3)[0])
    cut = [[np.all(each.step(env.action_space.sample())[3]) for _ in range(2)] for each in (env, other)]
    assert cut[0] == cut[1] == [False, True]
    env.close()
    other.close()


def test_gymnasium_makes_games_in_processes_of_their_own():
    vector = gymnasium.make_vec("CarRacing64-v0", num_envs=2, vectorization_mode="async", max_steps=3)
    vector.reset(seed=2**40)
    assert vector.step(vector.action_space.sample())[0].shape == (2, 64, 64, 3)
    vector.close()
