"""Breakout (Atari) and CoinRun (Procgen), many games side by side in EnvPool.

Frames are (size, size, 1) grey or (size, size, 3) RGB, uint8; 84 x 84 grey is what Atari is usually played with.

Breakout: a step is four of the console's frames at 60 a second, shown as the brighter of the last two; an episode is a
whole game of five lives. There is no chance in the game: whatever its seed, an episode is the player's doing, and a
random policy that draws from the seed makes it another one. Actions: 0 nothing, 1 fire, 2 right, 3 left.

CoinRun: run and jump to the coin at the far right, past monsters and pits, in a level drawn from the seed (Cobbe et al.
2020, doi:10.48550/arXiv.1912.01588; the easy levels). Its screen is 64 x 64 RGB, scaled to the size that is asked for.
15 actions, of which the last six do nothing here. Needs the system's Qt 5.
"""

import contextlib
from typing import Any

import cv2
import gymnasium
import numpy as np

from envs.pools import PooledGames, import_envpool, pool_threads
from envs.sidebyside import SideBySide
from experiment.problem import Problem

BREAKOUT, BREAKOUT_ACTIONS = "Breakout-v5", 4
BREAKOUT_MAX_STEPS = 27_000
COINRUN, COINRUN_ACTIONS = "CoinrunEasy-v0", 15
COINRUN_MAX_STEPS = 1000
QT = "CoinRun needs the system's Qt 5: on Debian and Ubuntu, apt install libqt5gui5 (elsewhere, Qt 5's Core and Gui)"


def frame_shape(size: int, grey: bool) -> tuple[int, int, int]:
    """Of a frame: height, width, channels."""
    return size, size, 1 if grey else 3


class BreakoutVector(SideBySide):
    """N games of Breakout, stepped by several threads (see pool_threads)."""

    title = "Breakout"

    def __init__(
        self,
        num_envs: int,
        max_steps: int = BREAKOUT_MAX_STEPS,
        size: int = 84,
        grey: bool = True,
        patience: int = 0,
        threads: int = 0,
        render_mode: str | None = None,
    ):
        actions = gymnasium.spaces.Discrete(BREAKOUT_ACTIONS)
        super().__init__(num_envs, frame_shape(size, grey), actions, max_steps, patience, render_mode)
        self._envs = import_envpool(
            self.title
        )(
            BREAKOUT,
            num_envs=num_envs,
            num_threads=min(threads or pool_threads(num_envs), num_envs),
            max_episode_steps=max_steps + 1,  # never reached, so that `done` means the game's own end
            stack_num=1,
            img_height=size,
            img_width=size,
            gray_scale=grey,
            noop_max=1,
            use_fire_reset=False,
            episodic_life=False,
            reward_clip=False,
            repeat_action_probability=0.0,  # actions that stick are the policy's, so that what is recorded is what was done
        )

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        """Start the episodes of these seeds in these games, and look at them."""
        screens, info = self._envs.reset(rows)
        self._look(info, screens)

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step these games with their actions and look at them; see SideBySide."""
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        if len(rows):
            self._envs.send(actions[rows].astype(np.int32), rows)
            screens, reward, ended, _, info = self._envs.recv()
            games = info["env_id"]
            rewards[games], terminated[games] = reward, ended
            self._look(info, screens)
        return rewards, terminated

    def _look(self, info: dict[str, Any], screens: np.ndarray) -> None:
        """Take the screens (n, channels, size, size) of some games as their frames."""
        self.frames[info["env_id"]] = np.moveaxis(screens, 1, -1)

    def close_extras(self, **kwargs: Any) -> None:
        """End the simulator."""
        with contextlib.suppress(AttributeError):
            del self._envs


class CoinRunVector(PooledGames):
    """N games of CoinRun."""

    title = "CoinRun"
    time_limit = COINRUN_MAX_STEPS

    def __init__(
        self,
        num_envs: int,
        max_steps: int = COINRUN_MAX_STEPS,
        size: int = 84,
        grey: bool = False,
        patience: int = 0,
        threads: int = 0,
        render_mode: str | None = None,
    ):
        actions = gymnasium.spaces.Discrete(COINRUN_ACTIONS)
        super().__init__(num_envs, frame_shape(size, grey), actions, max_steps, patience, render_mode)
        self.threads = threads or pool_threads(num_envs)
        self.pools = []
        self._make = import_envpool(self.title)

    def new_pool(self, seeds: list[int]) -> Any:
        """An EnvPool with a level for each of these seeds."""
        try:
            return self._make(
                COINRUN,
                num_envs=len(seeds),
                seed=seeds,
                num_threads=min(self.threads, len(seeds)),
                max_episode_steps=COINRUN_MAX_STEPS + 1,
            )
        except ImportError as fault:
            raise Problem(QT) from fault

    def look(self, games: np.ndarray, screens: np.ndarray) -> None:
        """Scale screens (n, 3, 64, 64) to the frames of n games."""
        height, width, channels = self.frames.shape[1:]
        for game, screen in zip(games, np.moveaxis(screens, 1, -1), strict=True):
            picture = np.ascontiguousarray(screen)
            if channels == 1:
                picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
            if picture.shape[:2] != (height, width):
                picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)
            self.frames[game] = picture.reshape(height, width, channels)
