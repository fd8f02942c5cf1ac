"""CarRacing: drive round a track seen from above, as one environment or many side by side, in two simulators.

Gymnasium's own CarRacing-v3 is what final figures are measured in (CarRacingOwnVector); EnvPool's copy of it in C++ is
several times as fast and what everything else is done in (CarRacingVector). On the same track their physics are the
same, but the same seed is another track, and EnvPool does not smooth its pictures: all that is equal and unequal is
stated in tests/test_carracing.py. Neither needs a display.

A step is 1/50 second. An action is steering in [-1, 1], gas in [0, 1] and brake in [0, 1]. The picture is 96 x 96 RGB;
the dashboard, its lowest 12 rows, is cut off unless asked for, and the rest shrunk to 64 x 64 (paper, appendix A).
A step costs 0.1, each of a track's N tiles gives 1000 / N when first touched, and leaving the playfield costs 100.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gymnasium
import numpy as np

from envs import actions
from envs.pools import PooledGames, keep_freed_memory
from envs.shrink import BLOCK, Shrink
from envs.sidebyside import Alone, SideBySide, pixels
from envs.worlds import FRAME, Rates, World
from experiment.problem import Problem

SCREEN = (96, 96, 3)
VIEW_ROWS = 84  # below them is the dashboard
MAX_STEPS = 1000
FPS = 50
ACTION_SPACE = gymnasium.spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))
LAP = 0.95  # the share of the tiles that a lap needs


def new_shrink(dashboard: bool) -> Shrink:
    """Of the part of a screen, from the top, that is seen."""
    return Shrink((SCREEN[0] if dashboard else VIEW_ROWS, SCREEN[1]), FRAME[:2])


def new_game(lap_complete_percent: float = LAP) -> Any:
    """Gymnasium's CarRacing-v3 as it is, without the wrappers of gymnasium.make."""
    try:
        from gymnasium.envs.box2d.car_racing import CarRacing
    except gymnasium.error.DependencyNotInstalled as fault:
        raise Problem(f"CarRacing needs Box2D and pygame: pip install 'gymnasium[box2d]' ({fault})") from fault
    keep_freed_memory()
    return CarRacing(render_mode="rgb_array", lap_complete_percent=lap_complete_percent)


class CarRacingOwnVector(SideBySide):
    """N games in Gymnasium's own simulator, in this process and one after the other.

    terminated: the lap is finished (info["lap_finished"]) or the playfield left. `render` gives larger pictures with the
    dashboard and skid marks, each (400, 600, 3) uint8.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        num_envs: int,
        max_steps: int = MAX_STEPS,
        dashboard: bool = False,
        lap_complete_percent: float = LAP,
        **common: Any,
    ):
        """common: see SideBySide."""
        super().__init__(num_envs, pixels(*FRAME), ACTION_SPACE, max_steps, **common)
        self.games = [new_game(lap_complete_percent) for _ in range(num_envs)]
        self._shrink = new_shrink(dashboard)

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        for row, seed in zip(rows, seeds, strict=True):
            self._look(row, self.games[row].reset(seed=seed)[0])

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        self.info = {"lap_finished": np.zeros(self.num_envs, bool)}
        for row in rows:
            screen, self.rewards[row], self.ended[row], _, info = self.games[row].step(actions[row])
            self.info["lap_finished"][row] = info.get("lap_finished", False)
            self._look(row, screen)

    def _look(self, row: int, screen: np.ndarray) -> None:
        self.games[row].surf = None  # 3 MB that it draws on, anew every time
        self._shrink(screen[: self._shrink.source[0]], self.frames[row])

    def render(self) -> tuple[np.ndarray, ...]:
        """The larger pictures of all games."""
        return tuple(game.render() for game in self.games)


class CarRacingVector(PooledGames):
    """N games in EnvPool's simulator.

    EnvPool 1.2.5 never frees the tiles of a track whose pool it drops: each episode leaves about 26 KB behind in this
    process, a million of them 26 GB.
    """

    title, task = "CarRacing", "CarRacing-v3"
    metadata = CarRacingOwnVector.metadata

    def __init__(
        self,
        num_envs: int,
        max_steps: int = MAX_STEPS,
        dashboard: bool = False,
        lap_complete_percent: float = LAP,
        **common: Any,
    ):
        """common: see PooledGames."""
        super().__init__(num_envs, FRAME, ACTION_SPACE, max_steps, **common)
        self.lap_complete_percent = lap_complete_percent
        self._shrinks = [new_shrink(dashboard) for _ in range(self.threads)]
        self._workers = ThreadPoolExecutor(self.threads, thread_name_prefix="carracing")

    def new_pool(self, seeds: list[int], **options: Any) -> Any:
        """An EnvPool with a track for each of these seeds."""
        return super().new_pool(
            seeds, render_mode="rgb_array", lap_complete_percent=self.lap_complete_percent, **options
        )

    def look(self, games: np.ndarray, screens: np.ndarray) -> None:
        """Shrink screens (n, 96, 96, 3) to the frames of n games."""
        threads = min(self.threads, -(-len(games) // BLOCK))
        if threads <= 1:
            self._look(self._shrinks[0], games, screens)
        else:
            parts = np.array_split(games, threads), np.array_split(screens, threads)
            list(self._workers.map(self._look, self._shrinks[:threads], *parts))

    def _look(self, shrink: Shrink, games: np.ndarray, screens: np.ndarray) -> None:
        small = np.empty((len(games), *FRAME), np.uint8)
        shrink(screens[:, : shrink.source[0]], small)
        self.frames[games] = small

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


class CarRacingEnv(Alone):
    """CarRacing64-v0: one game in Gymnasium's own simulator. Observation (64, 64, 3) uint8 RGB; actions (3,) float32."""

    kind, metadata = CarRacingOwnVector, CarRacingOwnVector.metadata


class CarRacingPoolEnv(Alone):
    """CarRacingPool64-v0: one game in EnvPool's; the same seed is another track."""

    kind, metadata = CarRacingVector, CarRacingVector.metadata


def white(frames: np.ndarray) -> np.ndarray:
    """Nothing but the kerbs of sharp bends has white in it: road is grey, grass green, the car red."""
    return frames.min(axis=-1) >= 160


CARRACING = World(
    environment="CarRacing-v3",
    package="envpool",
    vector=CarRacingVector,
    final=CarRacingOwnVector,
    options=("dashboard", "lap_complete_percent"),
    longest=MAX_STEPS,
    actions=3,
    execute=actions.drive,
    unexecute=actions.undrive,
    action_space=ACTION_SPACE,
    action_names=("steer", "gas", "brake"),
    fps=FPS,
    score="return",
    solved=900,
    recorded=16,
    recorded_on=2,
    processes=True,
    detail="kerbs",
    shows_detail=white,
    fixed={
        "straight, gas 0.2": [0.0, -0.6, 0.0],
        "left, gas 0.2": [-0.3, -0.6, 0.0],
        "right, gas 0.2": [0.3, -0.6, 0.0],
    },
    compared=32,
    rates=Rates(
        episode=1_000, random=1_000, agent_episode=1_000, extract=1_700, blind=2_000, agent=1_400, final=330, alone=150,
        rnn=(90_000, 62_000, 15_000), dream=(300_000, 147_000, 40_000),
    ),
)  # fmt: skip
