"""CarRacing: episodes side by side are those one by one; and what is equal and unequal between the two simulators.

With the same seed they draw different tracks. To compare them all the same, Gymnasium's simulator is given the random
numbers that EnvPool draws its track with (`Mersenne`), and then drives the same track.
"""

import ctypes
import math
import platform
import resource
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import NamedTuple

import cv2
import gymnasium
import numpy as np
import pygame
import pytest
from gymnasium.envs.box2d.car_racing import CarRacing
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401 (registers the environments)
from envs.carracing import CarRacingEnv, CarRacingOwnVector, CarRacingVector
from envs.pools import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, import_envpool
from envs.shrink import Shrink
from envs.sidebyside import SEEDS, SideBySide
from experiment.problem import Problem

LAP_SEED, PICTURE_SEED, LOST_SEED, WILD_SEEDS = 0, 1, 2, [3, 4, 5]
KINDS = (CarRacingVector, CarRacingOwnVector)
BOTH = pytest.mark.parametrize("kind", [partial(kind, autoreset_mode="Disabled") for kind in KINDS])


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


@pytest.mark.parametrize("kind", [CarRacingOwnVector, CarRacingVector])
@pytest.mark.parametrize(("share", "over"), [(0.0, True), (0.95, False)])
def test_a_lap_needs_a_share_of_the_tiles(kind, share, over):
    """A car begins on the first tile, and with it has crossed the start."""
    vector = kind(1, lap_complete_percent=share)
    vector.reset(seed=[3])
    *_, terminated, _, _ = vector.step(np.zeros((1, 3), np.float32))
    assert terminated[0] == over
    vector.close()


@pytest.mark.parametrize(("dashboard", "rows"), [(False, 84), (True, 96)])
def test_the_observation_is_the_screen_with_or_without_its_dashboard(dashboard, rows):
    env = CarRacingEnv(dashboard=dashboard)
    frame = play(env, 1, ACTIONS[:, 0])[-1]
    np.testing.assert_array_equal(
        frame, cv2.resize(env.vector.games[0].state[:rows], (64, 64), interpolation=cv2.INTER_AREA)
    )
    assert (frame[-8:] == 0).all(axis=-1).mean() == pytest.approx(0.8 if dashboard else 0, abs=0.2)


def test_an_episode_is_cut_after_max_steps():
    env = CarRacingEnv(max_steps=3)
    env.reset(seed=0)
    ends = [env.step(ACTIONS[0, 0])[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


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
    if kind.func is CarRacingOwnVector:
        np.testing.assert_array_equal(together[:, 0], play(CarRacingEnv(), 20, ACTIONS[:, 0]))
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


def test_each_id_is_one_simulator_alone_and_side_by_side():
    for name in ("CarRacing64-v0", "CarRacingPool64-v0"):
        env, vector = gymnasium.make(name), gymnasium.make_vec(name, num_envs=2)
        np.testing.assert_array_equal(env.reset(seed=3)[0], vector.reset(seed=[5, 3])[0][1])
        np.testing.assert_array_equal(env.step(ACTIONS[0, 0])[0], vector.step(ACTIONS[0, [0, 0]])[0][1])
        env.close()
        vector.close()


def test_gymnasium_makes_the_vector_environment():
    vector = gymnasium.make_vec("CarRacing64-v0", num_envs=2, vectorization_mode="vector_entry_point", max_steps=5)
    frames, _ = vector.reset(seed=0)
    assert vector.observation_space.contains(frames) and vector.action_space.contains(ACTIONS[0, :2])
    assert vector.single_action_space == CarRacing().action_space
    vector.close()


@pytest.mark.parametrize("dashboard", [False, True])
@pytest.mark.parametrize("games", [1, 11])
def test_frames_shrunk_together_by_threads_are_those_shrunk_one_by_one(games, dashboard):
    rows = 96 if dashboard else 84
    vector = CarRacingVector(games, dashboard=dashboard, threads=2)
    screens, _ = pool(list(range(games))).reset()
    frames, _ = vector.reset(seed=0)
    one, shrink = np.empty((64, 64, 3), np.uint8), Shrink((rows, 96), (64, 64))
    for screen, frame in zip(screens, frames, strict=True):
        shrink(screen[:rows], one)
        np.testing.assert_array_equal(frame, one)
        np.testing.assert_array_equal(frame, cv2.resize(screen[:rows], (64, 64), interpolation=cv2.INTER_AREA))
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
    monkeypatch.setitem(__import__("sys").modules, "envpool", None)
    with pytest.raises(Problem, match="needs EnvPool: pip install"):
        CarRacingVector(1)


# The two simulators


class Mersenne:
    """The random numbers of C++'s std::mt19937, seeded as EnvPool's, in place of a numpy Generator."""

    def __init__(self, seed: int):
        self.bits = np.random.MT19937()
        self.bits._legacy_seeding(seed)

    def uniform(self, low: float, high: float) -> float:
        """As std::uniform_real_distribution<double>: the second of two draws has the greater weight."""
        small, great = (int(self.bits.random_raw()) for _ in range(2))
        return low + (high - low) * (small + great * 2**32) / 2**64


class Blind(CarRacing):
    """Gymnasium's simulator on EnvPool's track of a seed; it draws only when asked to, by `draw`."""

    def __init__(self, seed: int):
        super().__init__()
        self.np_random = Mersenne(seed)
        self.reset()

    def _render(self, mode: str) -> None:
        """Nothing."""

    def draw(self, mode: str) -> np.ndarray:
        """The screen at full size as drawn for a mode, (800, 1000, 3) uint8."""
        super()._render(mode)
        return np.transpose(pygame.surfarray.array3d(self.surf), (1, 0, 2))

    def heading_to(self, target: np.ndarray) -> float:
        """The angle by which the car has to turn left to face a point."""
        dx, dy = target - np.array(self.car.hull.position)
        return (math.atan2(-dx, dy) - self.car.hull.angle + math.pi) % (2 * math.pi) - math.pi

    def good_driver(self) -> np.ndarray:
        """Drives along the track, slower before bends."""
        track = np.array(self.track)[:, 2:]
        here = np.argmin(((track - np.array(self.car.hull.position)) ** 2).sum(axis=1))
        near, far = (self.heading_to(track[(here + tiles) % len(track)]) for tiles in (4, 14))
        wanted = 85 * (1 - 0.6 * min(abs(far), 1))
        speed = self.car.hull.linearVelocity.length
        return np.array(
            [np.clip(-1.2 * near, -1, 1), 0.45 * (speed < wanted), 0.3 * (speed > 1.25 * wanted)], np.float32
        )

    def lost_driver(self) -> np.ndarray:
        """Drives off to the east, where the playfield's edge is nearest."""
        turn = -1.2 * self.heading_to(np.array([1000.0, 0.0]))
        return np.array([np.clip(turn, -1, 1), 0.3, 0], np.float32)


class Drive(NamedTuple):
    """An episode in Gymnasium's simulator on EnvPool's track: actions (T, 3), rewards (T,), how it ended."""

    tiles: int
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    info: dict[str, bool]


def drive(seed: int, driver: Callable[[Blind], np.ndarray], most: int = 1000) -> Drive:
    """Drive until the episode ends."""
    game, actions, rewards, terminated, info = Blind(seed), [], [], False, {}
    while not terminated and len(actions) < most:
        actions.append(driver(game))
        _, reward, terminated, _, info = game.step(actions[-1])
        rewards.append(reward)
    return Drive(len(game.track), np.stack(actions), np.array(rewards), terminated, info)


def pool(seeds: list[int]):
    """EnvPool itself."""
    return import_envpool("CarRacing")("CarRacing-v3", num_envs=len(seeds), seed=seeds, num_threads=1)


def share_visited(rewards: np.ndarray) -> float:
    """The share of the track that an episode's rewards tell of: a step costs 0.1, the whole track is worth 1000."""
    return np.where(rewards > 0, rewards + 0.1, 0.0).sum() / 1000


def test_a_whole_lap_is_the_same_in_both_simulators():
    lap = drive(LAP_SEED, Blind.good_driver)
    steps = len(lap.actions)
    assert lap.terminated and lap.info["lap_finished"] and steps < 900
    # Two games: one that may go on, and one that is finished in the very last step it has. Finished is not cut.
    for max_steps in (1000, steps):
        vector = CarRacingVector(1, max_steps)
        _, rewards, terminated, truncated = play_side_by_side(vector, [LAP_SEED], lap.actions[:, None])
        np.testing.assert_allclose(rewards[:, 0], lap.rewards, atol=1e-3)  # every tile in the same step
        assert terminated[:, 0].tolist() == [False] * (steps - 1) + [True] and not truncated.any()
        vector.close()
    assert share_visited(lap.rewards) == pytest.approx(share_visited(rewards[:, 0]), abs=1e-4)
    assert 0.95 < share_visited(lap.rewards) <= 1
    assert rewards.sum() == pytest.approx(1000 * share_visited(lap.rewards) - 0.1 * steps, abs=0.05)


def test_wild_driving_on_and_off_the_road_is_the_same_in_both_simulators():
    actions = random_actions(60, len(WILD_SEEDS)).repeat(10, axis=0)
    drives = [drive(seed, played(actions[:, i]), len(actions)) for i, seed in enumerate(WILD_SEEDS)]
    vector = CarRacingVector(len(drives), autoreset_mode="Disabled")
    _, rewards, terminated, _ = play_side_by_side(vector, WILD_SEEDS, actions)
    for i, own in enumerate(drives):
        steps = len(own.rewards)
        assert terminated[:, i].sum() == (len(actions) - steps + 1 if own.terminated else 0)
        # Over longer drives than these, about one in twenty touches some tile a step or more apart: rounding.
        np.testing.assert_allclose(rewards[:steps, i], own.rewards, atol=1e-3)
    assert 0 < sum(own.terminated for own in drives) < len(drives)  # some leave the playfield
    vector.close()


def played(actions: np.ndarray) -> Callable[[Blind], np.ndarray]:
    """A driver of actions that are given."""
    left = iter(actions)
    return lambda game: next(left)


def test_leaving_the_playfield_is_the_same_in_both_simulators():
    lost = drive(LOST_SEED, Blind.lost_driver)
    assert lost.terminated and not lost.info["lap_finished"] and lost.rewards[-1] == -100
    vector = CarRacingVector(1)
    _, rewards, terminated, truncated = play_side_by_side(vector, [LOST_SEED], lost.actions[:, None])
    np.testing.assert_allclose(rewards[:, 0], lost.rewards, atol=1e-3)
    assert terminated[:, 0].tolist() == [False] * (len(lost.actions) - 1) + [True] and not truncated.any()
    vector.close()
    own = CarRacingEnv()
    own.reset(seed=0)
    own.vector.games[0].np_random = Mersenne(LOST_SEED)
    own.vector.games[0].reset()
    assert [own.step(action)[1:4] for action in lost.actions][-1] == (-100, True, False)


def test_the_same_seed_is_another_track():
    seeds = list(range(8))
    its, own = [Blind(seed) for seed in seeds], CarRacing()
    own._render = lambda mode: None
    tiles = []
    for seed in seeds:
        own.reset(seed=seed)
        tiles.append(len(own.track))
    assert sum(len(game.track) != number for game, number in zip(its, tiles, strict=True)) >= 6
    assert all(230 < number < 360 for number in [*tiles, *(len(game.track) for game in its)])
    # What gives Gymnasium's simulator EnvPool's tracks does so for all of them: the first rewards tell the number of
    # tiles, and in both the car touches some in the step that is taken before the first frame.
    simulators = pool(seeds)
    simulators.reset()
    _, rewards, *_ = simulators.step(np.zeros((8, 3), np.float32))
    for game, reward in zip(its, rewards, strict=True):
        assert game.step(np.zeros(3, np.float32))[1] == pytest.approx(reward, abs=1e-3) and reward > 2


class Moment(NamedTuple):
    """The same moment in both simulators."""

    ours: np.ndarray
    """Gymnasium's screen, (96, 96, 3)."""
    plain: np.ndarray
    """Before it is scaled down, (800, 1000, 3)."""
    marked: np.ndarray
    """And with skid marks."""
    theirs: np.ndarray
    """EnvPool's screen."""


@pytest.fixture(scope="module")
def moments() -> list[Moment]:
    """Every 30th step, from the first frame on: of good driving, and from step 120 on of skidding to left and right."""
    game, simulator = Blind(PICTURE_SEED), pool([PICTURE_SEED])
    screens, _ = simulator.reset()
    seen = []
    for step in range(241):
        if step % 30 == 0:
            marked, plain = game.draw("rgb_array"), game.draw("state_pixels")
            ours = game._create_image_array(game.surf, (96, 96))
            seen.append(Moment(ours, plain, marked, screens[0].copy()))
        skid = np.array([np.sign(math.sin(step / 15)), 1, 0], np.float32)
        action = game.good_driver() if step < 120 else skid
        game.step(action)
        screens, *_ = simulator.step(action[None])
    return seen


def view(screen: np.ndarray) -> np.ndarray:
    """What is above the dashboard, to count with."""
    return screen[: len(screen) * 7 // 8].astype(int)


def test_both_simulators_draw_the_same_picture_and_scale_it_down_unequally(moments):
    for moment in moments:
        # EnvPool's screen is what bilinear sampling makes of Gymnasium's full-size picture with skid marks: all but
        # 2 % of its pixels are within 6 levels (shades of the road, see below), the others on edges and skid marks.
        sampled = cv2.resize(moment.marked, (96, 96), interpolation=cv2.INTER_LINEAR)
        assert (np.abs(view(sampled) - view(moment.theirs)).max(axis=-1) > 6).mean() < 0.02
        # Gymnasium's is the mean over areas, which smooths edges, 1 or 2 levels darker (pygame rounds down).
        averaged = cv2.resize(moment.plain, (96, 96), interpolation=cv2.INTER_AREA)
        darker = view(averaged) - view(moment.ours)
        assert darker.min() >= 0 and darker.max() <= 2 and np.median(darker[view(averaged) > 50]) == 2
        # So there are more colours in Gymnasium's, and the two differ at edges.
        assert len(np.unique(view(moment.ours).reshape(-1, 3), axis=0)) > len(
            np.unique(view(moment.theirs).reshape(-1, 3), axis=0)
        )


def test_observations_of_the_same_moment_differ_little(moments):
    shrink, frames = Shrink((84, 96), (64, 64)), np.empty((2, 64, 64, 3), np.uint8)
    for moment in moments:
        shrink(np.stack([moment.ours[:84], moment.theirs[:84]]), frames)
        apart = np.abs(frames[0].astype(int) - frames[1])
        assert 1 < apart.mean() < 4  # levels of 255: most of it the darker rounding
        assert 0 < (apart.max(axis=-1) > 20).mean() < 0.05  # of the pixels: edges


def test_only_gymnasium_paints_visited_road_plain_and_only_envpool_draws_skid_marks(moments):
    behind = np.s_[79:84, 46:50]  # the road below the car
    ours, theirs = (np.stack([getattr(m, name)[behind] for m in moments[2:4]]) for name in ("ours", "theirs"))
    assert np.ptp(ours.reshape(-1, 3), axis=0).max() <= 2 < np.ptp(theirs.reshape(-1, 3), axis=0).max() <= 5
    for moment in moments[-3:]:
        sampled = [
            view(cv2.resize(picture, (96, 96), interpolation=cv2.INTER_LINEAR))
            for picture in (moment.plain, moment.marked)
        ]
        marks = np.abs(sampled[0] - sampled[1]).max(axis=-1) > 40
        assert marks.any()
        error = [np.abs(picture - view(moment.theirs))[marks].mean() for picture in sampled]
        assert error[1] < error[0] / 3
