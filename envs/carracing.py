"""CarRacing: drive round a track seen from above, as one environment or many side by side, in two simulators.

Gymnasium's own CarRacing-v3 is what final figures are measured in (CarRacingEnv, CarRacingOwnVector); EnvPool's copy
of it in C++ is several times as fast and what everything else is done in (CarRacingVector). On the same track their
physics are the same, but the same seed is another track, and EnvPool does not smooth its pictures: all that is equal
and unequal is stated in tests/test_carracing.py. Neither needs a display.

A step is 1/50 second. An action is steering in [-1, 1], gas in [0, 1] and brake in [0, 1]. The picture is 96 x 96 RGB;
the dashboard, its lowest 12 rows, is cut off unless asked for, and the rest shrunk to 64 x 64 (paper, appendix A).
A step costs 0.1, each of a track's N tiles gives 1000 / N when first touched, and leaving the playfield costs 100.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np

from envs.checks import check_actions, check_seed
from envs.memory import keep_freed_memory
from envs.pools import PooledGames, import_envpool, pool_threads
from envs.shrink import Shrink
from envs.sidebyside import SEEDS, SideBySide
from experiment.problem import Problem

NAME = "CarRacing-v3"
TITLE = "CarRacing"
SCREEN = (96, 96, 3)
VIEW_ROWS = 84  # below them is the dashboard
FRAME = (64, 64, 3)
MAX_STEPS = 1000
STEP_COST = 0.1
TRACK_WORTH = 1000.0
BLOCK = 8  # screens shrunk at a time


def share_visited(rewards: np.ndarray) -> np.ndarray:
    """The share of the track that an episode's rewards tell of, in [0, 1]: rewards (..., T) to (...) float64.

    Zeros after an episode's end count for nothing. (A tile touched in the very step that leaves the playfield is lost.)
    """
    rewards = np.asarray(rewards, np.float64)
    tiles = np.where(rewards > 0, rewards + STEP_COST, 0.0)
    return np.minimum(tiles.sum(axis=-1) / TRACK_WORTH, 1.0)


def action_space() -> gymnasium.spaces.Box:
    """Steering, gas and brake."""
    return gymnasium.spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))


def view_rows(dashboard: bool) -> int:
    """How many rows of the screen, from the top, are seen."""
    return SCREEN[0] if dashboard else VIEW_ROWS


class CarRacingEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """CarRacing64-v0: Gymnasium's own simulator.

    Observation (64, 64, 3) uint8 RGB; actions (3,) float32. terminated: the lap is finished or the playfield left;
    truncated: max_steps steps have passed. `render` gives a larger picture, (400, 600, 3) uint8.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(self, max_steps: int = MAX_STEPS, dashboard: bool = False, render_mode: str | None = None):
        self.max_steps = max_steps
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(0, 255, FRAME, np.uint8)
        self.action_space = action_space()
        self.game = new_game()
        self.steps = 0
        self._rows = view_rows(dashboard)
        self._shrink = Shrink((self._rows, SCREEN[1]), FRAME[:2])

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode: the one of `seed`, or else the next in the chain that the last seed began."""
        super().reset(seed=None if seed is None else check_seed(seed))
        seed = int(self.np_random.integers(SEEDS)) if seed is None else check_seed(seed) % SEEDS
        self.steps = 0
        return self._observation(self.game.reset(seed=seed)[0]), {"seed": seed}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Drive for 1/50 second."""
        screen, reward, terminated, _, info = self.game.step(check_actions(action, self.action_space))
        self.steps += 1
        truncated = not terminated and self.steps >= self.max_steps
        return self._observation(screen), float(reward), terminated, truncated, info

    def render(self) -> np.ndarray:  # type: ignore[override]
        """What is seen now, larger, with the dashboard and skid marks, (400, 600, 3) uint8."""
        return self.game.render()

    def close(self) -> None:
        """Nothing is open."""

    def _observation(self, screen: np.ndarray) -> np.ndarray:
        self.game.surf = None  # 3 MB that it draws on, anew every time
        frame = np.empty(FRAME, np.uint8)
        self._shrink(screen[: self._rows], frame)
        return frame


def new_game() -> Any:
    """Gymnasium's CarRacing-v3 as it is, without the wrappers of gymnasium.make."""
    try:
        from gymnasium.envs.box2d.car_racing import CarRacing
    except gymnasium.error.DependencyNotInstalled as fault:
        raise Problem(f"CarRacing needs Box2D and pygame: pip install 'gymnasium[box2d]' ({fault})") from fault
    keep_freed_memory()
    return CarRacing(render_mode="rgb_array")


class Tracks:
    """What both vectors of tracks tell Gymnasium."""

    title = TITLE
    metadata = CarRacingEnv.metadata | {"autoreset_mode": gymnasium.vector.AutoresetMode.DISABLED}


class CarRacingOwnVector(Tracks, SideBySide):
    """N games in Gymnasium's own simulator, in this process and one after the other.

    patience: an episode is truncated after so many steps without a positive reward; 0 for never.
    """

    def __init__(
        self,
        num_envs: int,
        max_steps: int = MAX_STEPS,
        patience: int = 0,
        dashboard: bool = False,
        render_mode: str | None = None,
    ):
        super().__init__(num_envs, FRAME, action_space(), max_steps, patience, render_mode)
        self.games = [CarRacingEnv(max_steps, dashboard, render_mode) for _ in range(num_envs)]

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        """Start the episodes of these seeds in these games, and look at them."""
        for i, seed in zip(rows, seeds, strict=True):
            self.frames[i], _ = self.games[i].reset(seed=seed)

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step these games with their actions and look at them; see SideBySide."""
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        for i in rows:
            self.frames[i], rewards[i], terminated[i], _, _ = self.games[i].step(actions[i])
        return rewards, terminated

    def render(self) -> tuple[np.ndarray, ...]:
        """The larger pictures of all games, each (400, 600, 3) uint8."""
        return tuple(game.render() for game in self.games)


class CarRacingVector(Tracks, PooledGames):
    """N games in EnvPool's simulator, stepped by several threads (see pool_threads).

    patience: an episode is truncated after so many steps without a positive reward; 0 for never. Games that begin
    together are stepped with the least overhead. EnvPool 1.2.5 never frees the tiles of a track whose pool it drops:
    each episode leaves about 26 KB behind in this process, a million of them 26 GB.
    """

    def __init__(
        self,
        num_envs: int,
        max_steps: int = MAX_STEPS,
        patience: int = 0,
        dashboard: bool = False,
        threads: int = 0,
        render_mode: str | None = None,
    ):
        super().__init__(num_envs, FRAME, action_space(), max_steps, patience, render_mode)
        self.threads = threads or pool_threads(num_envs)
        self.pools = []
        self._make = import_envpool(TITLE)
        self._view_rows = view_rows(dashboard)
        self._shrinks = [Shrink((self._view_rows, SCREEN[1]), FRAME[:2]) for _ in range(self.threads)]
        self._workers = ThreadPoolExecutor(self.threads, thread_name_prefix="carracing")

    def new_pool(self, seeds: list[int]) -> Any:
        """An EnvPool with a track for each of these seeds."""
        return self._make(
            NAME,
            num_envs=len(seeds),
            seed=seeds,
            num_threads=min(self.threads, len(seeds)),
            max_episode_steps=self.max_steps + 1,  # which is never reached, so that `done` means the episode's own end
            render_mode="rgb_array",
        )

    def look(self, games: np.ndarray, screens: np.ndarray) -> None:
        """Shrink screens (n, 96, 96, 3) to the frames of n games."""
        threads = min(self.threads, -(-len(games) // BLOCK))
        if threads <= 1:
            self._look_in_blocks(self._shrinks[0], games, screens)
        else:
            parts = np.array_split(games, threads), np.array_split(screens, threads)
            list(self._workers.map(self._look_in_blocks, self._shrinks[:threads], *parts))

    def _look_in_blocks(self, shrink: Shrink, games: np.ndarray, screens: np.ndarray) -> None:
        small = np.empty((BLOCK, *FRAME), np.uint8)
        for first in range(0, len(games), BLOCK):
            block = slice(first, first + BLOCK)
            number = len(games[block])
            shrink(screens[block, : self._view_rows], small[:number])
            self.frames[games[block]] = small[:number]

    def render(self) -> tuple[np.ndarray, ...]:
        """Larger pictures of all games as they are now, each (400, 600, 3) uint8."""
        pictures: dict[int, np.ndarray] = {}
        for pool in self.pools:
            numbers = np.flatnonzero(pool.ours)
            pictures.update(zip(pool.games[numbers].tolist(), pool.envs.render(numbers), strict=True))
        return tuple(pictures[i] for i in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """End the simulators and the threads."""
        super().close_extras(**kwargs)
        self._workers.shutdown()
