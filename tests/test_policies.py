"""Who plays without networks: how long actions are held, how smooth driving wanders, and one policy for each game."""

import itertools
from collections import Counter
from functools import partial
from itertools import islice
from typing import get_args

import numpy as np
import pytest

from envs.actions import move
from envs.episodes import Each
from experiment.schema import Extract
from extract.policies import brownian, clocked, describe_policy, held, make_policy


def act(policy, steps: int, seed: int = 0) -> np.ndarray:
    """The raw actions of an episode, (steps, A)."""
    return np.stack(list(islice(policy(np.random.default_rng(seed)), steps)))


def test_policies_hold_actions_as_long_as_they_say():
    for settings, longest in ((Extract(hold_max=4), 4), (Extract(policy="per_step"), 1)):
        policy = make_policy(1, settings)
        actions = act(policy, 6000)[:, 0]
        counts = Counter(move(actions).tolist())
        assert set(counts) == {-1, 0, 1} and max(counts.values()) < 1.15 * min(counts.values())
        draws = 1 + np.count_nonzero(np.diff(actions))
        assert draws / len(actions) == pytest.approx(1 / ((1 + longest) / 2), rel=0.1)
        np.testing.assert_array_equal(actions[:100], act(policy, 100)[:, 0])


def test_smooth_driving_has_the_mean_the_spread_and_the_memory_it_is_given():
    """Thousands of independent numbers: half of the first kind, half of the second; from the first step on."""
    centre, spread, memory = np.repeat([0.2, -0.1], 4000), np.repeat([0.05, 0.2], 4000), 8
    raw = act(partial(brownian, centre=centre, spread=spread, memory=memory), 40)  # (T, A)
    assert raw.dtype == np.float32
    for step in (0, 39):
        for kind, (mean, deviation) in zip(np.split(raw[step], 2), ((0.2, 0.05), (-0.1, 0.2)), strict=True):
            assert kind.mean() == pytest.approx(mean, abs=5 * deviation / 4000**0.5)
            assert kind.std() == pytest.approx(deviation, rel=0.06)  # 5 standard errors
    away = (raw - centre) / spread
    for lag in (1, memory, 3 * memory):
        correlation = np.mean(away[:-lag] * away[lag:])
        assert correlation == pytest.approx(np.exp(-lag / memory), abs=0.02)


def test_smooth_driving_stays_within_what_c_can_do():
    raw = act(partial(brownian, centre=[0.9], spread=[1.0], memory=3), 2000)
    assert raw.max() == 1 and raw.min() == -1
    assert 0.3 < np.mean(raw == 1) < 0.6  # a normal number is above 0.1 with probability 0.46


def test_an_episodes_actions_follow_from_its_generator():
    smooth = partial(brownian, centre=[0, 0, 0], spread=[0.5] * 3, memory=10)
    for policy in (partial(held, actions=3, hold_max=5), smooth):
        first = act(policy, 30, seed=1)
        assert first.shape == (30, 3)
        assert not np.array_equal(first, act(policy, 30, seed=2))
        np.testing.assert_array_equal(first, act(policy, 30, seed=1))


@pytest.mark.parametrize("actions", [1, 3])
def test_each_game_plays_as_its_episodes_seed_says(actions):
    """Whatever game it is played in, and whatever is played beside it."""
    policy = partial(held, actions=actions, hold_max=4)
    player = Each(lambda _, seed: policy(np.random.default_rng((7, seed))), 3)
    player.begin(np.array([0, 1]), np.array([0, 1]), np.array([50, 51]))
    together = [player.act(np.zeros((2, 1)), np.array([0, 1])) for _ in range(6)]
    player.begin(np.array([2]), np.array([2]), np.array([50]))
    later = [player.act(np.zeros((2, 1)), np.array([1, 2])) for _ in range(6)]
    assert together[0].shape == ((2,) if actions == 1 else (2, 3))
    together, later = np.stack(together), np.stack(later)
    np.testing.assert_array_equal(later[:, 1], together[:, 0])  # seed 50 in game 2 and in game 0
    plain = act(policy, 12, seed=(7, 51)).reshape(12, *together.shape[2:])
    np.testing.assert_array_equal(np.concatenate([together[:, 1], later[:, 0]]), plain)
    other = Each(lambda _, seed: policy(np.random.default_rng((8, seed))), 1)
    other.begin(np.array([0]), np.array([0]), np.array([50]))
    assert not np.array_equal(other.act(np.zeros((1, 1)), np.array([0]))[0], together[0, 0])


def test_the_originals_clock_cuts_actions_short():
    """An action ends at a multiple of the number that was drawn with it."""
    holds, lengths = 0, 0
    for seed in range(300):
        actions = act(partial(clocked, actions=1, hold_max=10), 300, seed=seed)[:, 0]
        begun = np.flatnonzero(np.diff(actions, prepend=np.nan) != 0)
        for since, until in itertools.pairwise(begun):
            assert any(until % every == 0 and since // every == (until - 1) // every for every in range(1, 11))
        holds, lengths = holds + len(begun), lengths + len(actions)
    assert 3.5 < lengths / holds < 3.8


def test_settings_make_the_policy_they_name():
    settings = Extract(
        policy="brownian", brownian_centre=[0.0, -0.5, -0.8], brownian_spread=[0.25], brownian_memory=20.0
    )
    named = partial(brownian, centre=[0, -0.5, -0.8], spread=[0.25] * 3, memory=20)  # one number for all
    np.testing.assert_array_equal(act(make_policy(3, settings), 50), act(named, 50))
    named = partial(held, actions=3, hold_max=6)
    np.testing.assert_array_equal(act(make_policy(3, Extract(policy="held", hold_max=6)), 50), act(named, 50))
    names = get_args(Extract.__annotations__["policy"])
    assert len({describe_policy(Extract(policy=name)) for name in names}) == len(names) == 7
