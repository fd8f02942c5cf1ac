"""CarRacing: drive round a track seen from above, as one environment or many side by side: Gymnasium's CarRacing-v3.

Its small picture takes a hundred times as long as its physics, so all but final figures are measured with one that is drawn
faster and all but the same (envs.track). Neither needs a display.

A step is 1/50 second. An action is steering in [-1, 1], gas in [0, 1] and brake in [0, 1]. The picture is 96 x 96 RGB;
the dashboard, its lowest 12 rows, is cut off unless asked for, and the rest shrunk to 64 x 64 (paper, appendix A).
A step costs 0.1, each of a track's N tiles gives 1000 / N when first touched, and leaving the playfield costs 100.
"""

import functools
from typing import Any

import gymnasium
import numpy as np

from envs import actions
from envs.shrink import Shrink
from envs.sidebyside import Alone, SideBySide, keep_freed_memory, pixels
from envs.worlds import FRAME, Rates, World
from experiment.problem import Problem

SCREEN = (96, 96, 3)
VIEW_ROWS = 84  # below them is the dashboard
MAX_STEPS = 1000
FPS = 50
ACTION_SPACE = gymnasium.spaces.Box(np.array([-1, 0, 0], np.float32), np.array([1, 1, 1], np.float32))


def new_games(number: int, own_picture: bool) -> list[Any]:
    """Gymnasium's CarRacing-v3, without the wrappers of gymnasium.make, so many times; see CarRacingVector.

    A lap needs every tile, as in v0, the paper's. v3 says 95 % of them and means to end it at the first tile, but looks
    only when that is visited for the first time, which is at the start (Gymnasium's issue 1269, open up to 1.4.0).
    """
    try:
        from gymnasium.envs.box2d.car_racing import CarRacing

        from envs.track import FastCarRacing, new_canvas
    except gymnasium.error.DependencyNotInstalled as fault:
        raise Problem(f"CarRacing needs Box2D and pygame: pip install 'gymnasium[box2d]' ({fault})") from fault
    keep_freed_memory()
    options: dict[str, Any] = {"render_mode": "rgb_array", "lap_complete_percent": 1.0}
    if own_picture:
        return [CarRacing(**options) for _ in range(number)]
    canvas = new_canvas()  # one for all, which stays in the processor's cache
    return [FastCarRacing(canvas, **options) for _ in range(number)]


class CarRacingVector(SideBySide):
    """N games in this process, one after the other.

    terminated: the lap is finished (info["lap_finished"]) or the playfield left. `render` gives larger pictures with the
    dashboard and skid marks, each (400, 600, 3) uint8.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": FPS}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        num_envs: int,
        max_steps: int = MAX_STEPS,
        dashboard: bool = False,
        own_picture: bool = False,
        **common: Any,
    ):
        """own_picture: Gymnasium's, a tenth as fast; the dashboard is seen in that alone. common: see SideBySide."""
        super().__init__(num_envs, pixels(*FRAME), ACTION_SPACE, max_steps, **common)
        self.games = new_games(num_envs, own_picture or dashboard)
        self._shrink = Shrink((SCREEN[0] if dashboard else VIEW_ROWS, SCREEN[1]), FRAME[:2])

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
        self.games[row].surf = None  # 3 MB that Gymnasium draws on, anew every time
        self._shrink(screen[: self._shrink.source[0]], self.frames[row])

    def render(self) -> tuple[np.ndarray, ...]:
        """The larger pictures of all games."""
        return tuple(game.render() for game in self.games)


class CarRacingEnv(Alone):
    """CarRacing64-v0: one game. Observation (64, 64, 3) uint8 RGB; actions (3,) float32."""

    kind, metadata = CarRacingVector, CarRacingVector.metadata


def white(frames: np.ndarray) -> np.ndarray:
    """Nothing but the kerbs of sharp bends has white in it: road is grey, grass green, the car red."""
    return frames.min(axis=-1) >= 160


CARRACING = World(
    environment="CarRacing-v3",
    package="gymnasium",
    vector=CarRacingVector,
    final=functools.partial(CarRacingVector, own_picture=True),
    options=("dashboard",),
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
    detail="kerbs",
    shows_detail=white,
    fixed={
        "straight, gas 0.2": [[0.0, -0.6, 0.0]],
        "left, gas 0.2": [[-0.3, -0.6, 0.0]],
        "right, gas 0.2": [[0.3, -0.6, 0.0]],
    },
    compared=32,
    rates=Rates(  # the agent's first two are reckoned from the parts' speeds
        episode=1_000, random=1_000, agent_episode=1_000, extract=2_100, blind=1_400, agent=(1_700, 1_450, 1_250), final=330,
        alone=150, rnn=(90_000, 62_000, 15_000), dream=(300_000, 147_000, 40_000),
    ),
)  # fmt: skip
