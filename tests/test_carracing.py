"""CarRacing: episodes side by side are those one by one, laps end as they should, and the fast picture is Gymnasium's."""

import ctypes
import math
import platform
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import cv2
import gymnasium
import numpy as np
import pygame
import pytest
from gymnasium.envs.box2d.car_racing import CarRacing
from gymnasium.utils.env_checker import check_env

from envs.carracing import CarRacingEnv, CarRacingVector
from envs.sidebyside import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, SEEDS, SideBySide
from experiment.problem import Problem

LAP_SEED, LOST_SEED, PICTURE_SEEDS = 1, 2, [3, 4]
KINDS = [partial(CarRacingVector, autoreset_mode="Disabled", own_picture=own) for own in (False, True)]
BOTH = pytest.mark.parametrize("kind", KINDS, ids=["fast", "own"])


def random_actions(steps: int, *rows: int) -> np.ndarray:
    """(steps, *rows, 3): mostly forward, with sudden turns and some braking."""
    rng = np.random.default_rng(0)
    steer = rng.uniform(-1, 1, (steps, *rows)).round()
    brake = rng.uniform(0, 1, (steps, *rows)) * (rng.random((steps, *rows)) < 0.1)
    return np.stack([steer, rng.uniform(0, 1, (steps, *rows)), brake], axis=-1).astype(np.float32)


ACTIONS = random_actions(24, 3)


def play(env: CarRacingEnv, seed: int | None, actions: np.ndarray) -> np.ndarray:
    """The frames of an episode, (steps + 1, 64, 64, 3)."""
    return np.stack([env.reset(seed=seed)[0], *(env.step(action)[0] for action in actions)])


def play_side_by_side(vector: SideBySide, seed: int | list[int], actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Frames (T + 1, N, 64, 64, 3), and (T, N) rewards, terminated and truncated."""
    first, _ = vector.reset(seed=seed)
    steps = [vector.step(action)[:4] for action in actions]
    frames, *rest = (np.stack(values) for values in zip(*steps, strict=True))
    return np.concatenate([first[None], frames]), *rest


# One environment


def test_the_environment_passes_gymnasiums_checker_without_a_display(monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    monkeypatch.delenv("DISPLAY", raising=False)
    env = gymnasium.make("CarRacing64-v0", render_mode="rgb_array")
    check_env(env.unwrapped)
    assert env.unwrapped.render().shape == (400, 600, 3)
    assert not pygame.display.get_init()


def test_the_same_seed_and_actions_give_the_same_episode():
    env = CarRacingEnv()
    first = play(env, 5, ACTIONS[:, 0])
    assert (first[1:] != first[:-1]).any(axis=(1, 2, 3)).all()
    assert not np.array_equal(first, play(env, 6, ACTIONS[:, 0]))
    np.testing.assert_array_equal(first, play(env, 5, ACTIONS[:, 0]))
    unseeded = play(env, None, ACTIONS[:5, 0])
    env.reset(seed=5)
    np.testing.assert_array_equal(unseeded, play(env, None, ACTIONS[:5, 0]))
    assert not np.array_equal(unseeded, first[:6])


@pytest.mark.parametrize(("missing", "over"), [(1, False), (0, True)])
def test_a_lap_needs_every_tile(missing, over):
    """Whatever share of them `CarRacing-v3` says: a car begins on the first tile, and with it has crossed the start."""
    vector = CarRacingVector(1)
    vector.reset(seed=[3])
    vector.games[0].tile_visited_count = len(vector.games[0].track) - missing
    *_, terminated, _, info = vector.step(np.zeros((1, 3), np.float32))
    assert terminated[0] == info["lap_finished"][0] == over
    vector.close()


@pytest.mark.parametrize(("dashboard", "rows"), [(False, 84), (True, 96)])
def test_the_observation_is_the_screen_with_or_without_its_dashboard(dashboard, rows):
    env = CarRacingEnv(dashboard=dashboard)
    frame = play(env, 1, ACTIONS[:, 0])[-1]
    np.testing.assert_array_equal(
        frame, cv2.resize(env.vector.games[0].state[:rows], (64, 64), interpolation=cv2.INTER_AREA)
    )
    assert (frame[-8:] == 0).all(axis=-1).mean() == pytest.approx(0.8 if dashboard else 0, abs=0.2)


# Many side by side


@BOTH
def test_games_that_are_over_stay_until_they_are_reset(kind):
    vector = kind(3, max_steps=6)
    frames, rewards, terminated, truncated = play_side_by_side(vector, 3, ACTIONS[:7])
    assert not terminated.any() and (truncated.argmax(axis=0) == 5).all()
    assert rewards[:6].all() and not rewards[6].any() and truncated[6].all()
    np.testing.assert_array_equal(frames[7], frames[6])
    mask = np.array([False, True, False])
    fresh, info = vector.reset(seed=[7, 8, 9], options={"reset_mask": mask})
    assert info["seed"].tolist() == [3, 8, 5]
    np.testing.assert_array_equal(fresh[~mask], frames[6][~mask])
    moved, rewards, _, truncated, _ = vector.step(ACTIONS[0])
    assert (rewards != 0).tolist() == mask.tolist() and truncated.tolist() == (~mask).tolist()
    assert (moved != fresh).any(axis=(1, 2, 3)).tolist() == mask.tolist()
    assert [picture.shape for picture in vector.render()] == [(400, 600, 3)] * 3
    vector.close()


@BOTH
def test_many_games_side_by_side_are_the_same_as_one_by_one(kind):
    vector, single = kind(3), kind(1)
    together, rewards, *_ = play_side_by_side(vector, 20, ACTIONS)
    for i in range(3):
        alone, reward, *_ = play_side_by_side(single, 20 + i, ACTIONS[:, i : i + 1])
        np.testing.assert_array_equal(together[:, i], alone[:, 0])
        np.testing.assert_array_equal(rewards[:, i], reward[:, 0])
    own = kind.keywords["own_picture"]
    np.testing.assert_array_equal(together[:, 0], play(CarRacingEnv(own_picture=own), 20, ACTIONS[:, 0]))
    vector.close()
    single.close()


@BOTH
def test_an_episode_does_not_depend_on_those_around_it(kind):
    vector = kind(3)
    alone, *_ = play_side_by_side(vector, [7, 8, 9], ACTIONS)
    vector.reset(seed=[30, 8, 31])  # and now one game after the other begins another episode, in the middle of others
    for step, game in [(0, 0), (10, 2)]:
        mask = np.arange(3) == game
        frames, _ = vector.reset(seed=[7, 8, 9], options={"reset_mask": mask})
        np.testing.assert_array_equal(frames[game], alone[0, game])
        for t in range(step, step + 10):
            frames, *_ = vector.step(ACTIONS[t])
            np.testing.assert_array_equal(frames[1], alone[t + 1, 1])
    vector.close()


@BOTH
def test_seeds_are_drawn_from_the_one_that_is_given(kind):
    vector = kind(2)
    vector.reset(seed=1)
    seeds = [vector.reset()[1]["seed"].tolist() for _ in range(2)]
    vector.reset(seed=1)
    assert seeds == [vector.reset()[1]["seed"].tolist() for _ in range(2)]
    assert len({seed for pair in seeds for seed in pair}) == 4
    assert vector.reset(seed=[None, SEEDS - 1])[1]["seed"][1] == SEEDS - 1
    assert vector.reset(seed=[None, SEEDS + 3])[1]["seed"][1] == 3
    with pytest.raises(Problem, match="seed -1: expected a whole number from 0 on"):
        vector.reset(seed=[0, -1])
    vector.close()


@BOTH
def test_hopeless_episodes_are_cut_when_patience_ends(kind):
    idle = np.zeros((8, 1, 3), np.float32)
    _, rewards, terminated, truncated = play_side_by_side(kind(1, patience=5), 0, idle)
    assert rewards[0] > 0 and (rewards[1:6] < 0).all() and not terminated.any()  # the car stands on its first tiles
    assert truncated[:, 0].tolist() == [False] * 5 + [True] * 3
    assert not play_side_by_side(kind(1), 0, idle)[3].any()


def test_games_that_have_not_begun_wait():
    vector = CarRacingVector(3)
    vector.reset(seed=[5, 6, 7], options={"reset_mask": np.array([False, True, False])})
    frames, rewards, terminated, truncated, _ = vector.step(ACTIONS[0])
    assert (rewards != 0).tolist() == [False, True, False] and frames.any(axis=(1, 2, 3)).tolist() == [
        False,
        True,
        False,
    ]
    assert not terminated.any() and not truncated.any()
    vector.close()


def test_an_id_is_the_same_game_alone_and_side_by_side():
    env, vector = gymnasium.make("CarRacing64-v0"), gymnasium.make_vec("CarRacing64-v0", num_envs=2)
    assert vector.single_action_space == env.action_space == CarRacing().action_space
    np.testing.assert_array_equal(env.reset(seed=3)[0], vector.reset(seed=[5, 3])[0][1])
    np.testing.assert_array_equal(env.step(ACTIONS[0, 0])[0], vector.step(ACTIONS[0, [0, 0]])[0][1])
    env.close()
    vector.close()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc's memory")
@BOTH
def test_drawing_takes_no_new_memory_from_the_system_every_step(kind):
    library = ctypes.CDLL(None)
    for threshold in (M_TRIM_THRESHOLD, M_MMAP_THRESHOLD):
        library.mallopt(threshold, 2**17)  # everything is given back at once, and its pages are made anew: 600 a step
    with closing(kind(4)) as vector:
        vector.reset(seed=0)
        faults = []
        for action in ACTIONS[:11, :1]:
            vector.step(action.repeat(4, axis=0))
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    assert np.median(np.diff(faults)) / 4 < 100  # the median: another thread of the process may take memory just then


def test_a_simulator_that_is_missing_is_a_problem(monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("gymnasium.envs.box2d", "envs.track"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "Box2D", None)
    with pytest.raises(Problem, match="CarRacing needs Box2D and pygame: pip install"):
        CarRacingVector(1)


# Drives


def heading_to(game: CarRacing, target: np.ndarray) -> float:
    """The angle by which the car has to turn left to face a point."""
    dx, dy = target - np.array(game.car.hull.position)
    return (math.atan2(-dx, dy) - game.car.hull.angle + math.pi) % (2 * math.pi) - math.pi


def good_driver(game: CarRacing) -> np.ndarray:
    """Drives along the track, slower before bends."""
    track = np.array(game.track)[:, 2:]
    here = np.argmin(((track - np.array(game.car.hull.position)) ** 2).sum(axis=1))
    near, far = (heading_to(game, track[(here + tiles) % len(track)]) for tiles in (4, 14))
    wanted = 85 * (1 - 0.6 * min(abs(far), 1))
    speed = game.car.hull.linearVelocity.length
    return np.array([np.clip(-1.2 * near, -1, 1), 0.45 * (speed < wanted), 0.3 * (speed > 1.25 * wanted)], np.float32)


def lost_driver(game: CarRacing) -> np.ndarray:
    """Drives off to the east, where the playfield's edge is nearest."""
    return np.array([np.clip(-1.2 * heading_to(game, np.array([1000.0, 0.0])), -1, 1), 0.3, 0], np.float32)


def test_a_lap_is_worth_its_tiles_and_ends_the_episode():
    vector = CarRacingVector(1)
    vector.reset(seed=[LAP_SEED])
    actions, rewards, over = [], [], False
    while not over and len(actions) < 1000:
        actions.append(good_driver(vector.games[0]))
        _, reward, terminated, truncated, info = vector.step(actions[-1][None])
        over = terminated[0]
        rewards.append(reward[0])
    assert over and info["lap_finished"][0] and not truncated[0] and len(actions) < 900
    tiles = np.round((np.array(rewards) + 0.1) * len(vector.games[0].track) / 1000, 3)
    np.testing.assert_array_equal(tiles, tiles.round())
    assert tiles.sum() == len(vector.games[0].track), "all of them, with those at the start"
    # Finished in the very last step that there is: that is not cut.
    _, again, terminated, truncated = play_side_by_side(
        CarRacingVector(1, len(actions)), [LAP_SEED], np.array(actions)[:, None]
    )
    assert again[:, 0].tolist() == rewards and terminated[-1, 0] and not truncated.any()


def test_who_leaves_the_playfield_loses_100():
    vector = CarRacingVector(1)
    vector.reset(seed=[LOST_SEED])
    over = [False]
    while not over[0]:
        _, rewards, over, truncated, info = vector.step(lost_driver(vector.games[0])[None])
    assert rewards[0] == -100 and not truncated[0] and not info["lap_finished"][0]


# The two pictures


def driven(seed: int, steps: int, driver: Callable[[CarRacing], np.ndarray]) -> Iterator[np.ndarray]:
    """Frames of the same moments in both pictures, (2, 64, 64, 3) uint8, the fast one first."""
    fast, own = (CarRacingVector(1, own_picture=own) for own in (False, True))
    yield np.concatenate([vector.reset(seed=[seed])[0] for vector in (fast, own)])
    for step in range(steps):
        skids = step >= steps / 2  # to left and right
        action = np.array([np.sign(math.sin(step / 15)), 1, 0], np.float32) if skids else driver(own.games[0])
        one, other = (vector.step(action[None]) for vector in (fast, own))
        assert [part[0] for part in one[1:4]] == [part[0] for part in other[1:4]]
        yield np.concatenate([one[0], other[0]])


@pytest.mark.parametrize("seed", PICTURE_SEEDS)
def test_the_fast_picture_is_gymnasiums_but_for_rounding_at_edges(seed):
    apart = []
    for fast, own in driven(seed, 240, good_driver):
        apart.append(np.abs(fast.astype(int) - own))
        assert apart[-1].mean() < 0.45 and abs(fast.mean() - own.mean()) < 0.25  # levels of 255
    # Without the plain colour of road that has been touched they were 0.14 levels apart, and 2.5 % of the pixels more than 2.
    assert np.mean(apart) < 0.12 and np.max(apart) < 40
    assert np.mean(np.array(apart[50:]).max(axis=-1) <= 2) > 0.98
    # Were the pictures those of moments one step apart, they would differ by more.
    assert np.abs(np.diff([own for _, own in driven(seed, 60, good_driver)], axis=0).astype(int)).mean() > 0.5


def test_the_edge_of_the_playfield_is_the_same_in_both_pictures():
    apart, black = [], 0
    for fast, own in driven(LOST_SEED, 700, lost_driver):
        apart.append(np.abs(fast.astype(int) - own).mean())
        black = max(black, (own == 0).all(axis=-1).mean())
    assert black > 0.8 and max(apart) < 0.5
