"""Breakout (Atari) and CoinRun (Procgen), many games side by side in EnvPool.

Frames are (size, size, 1) grey or (size, size, 3) RGB, uint8; 84 x 84 grey is what Atari is usually played with.

Breakout: a step is four of the console's frames at 60 a second, shown as the brighter of the last two; an episode is a
whole game of five lives. There is no chance in the game: whatever its seed, an episode is the player's doing, and a
random policy that draws from the seed makes it another one. Actions: 0 nothing, 1 fire, 2 right, 3 left.

CoinRun: run and jump to the coin at the far right, past monsters and pits, in a level drawn from the seed (Cobbe et al.
2020, doi:10.48550/arXiv.1912.01588; the easy levels). Its screen is 64 x 64 RGB, scaled to the size that is asked for.
15 actions, of which the last six do nothing here. Needs the system's Qt 5.
"""

from functools import partial
from typing import Any

import cv2
import gymnasium
import numpy as np

from envs import actions
from envs.pools import FPS, GamePool, PooledGames, frame_shape
from envs.worlds import Rates, World
from experiment.problem import Problem

QT = "CoinRun needs the system's Qt 5: on Debian and Ubuntu, apt install libqt5gui5 (elsewhere, Qt 5's Core and Gui)"


class BreakoutVector(PooledGames):
    """N games of Breakout, all in one pool, since the seed does not matter."""

    title, task = "Breakout", "Breakout-v5"
    names = ("nothing", "fire", "right", "left")
    longest = 27_000

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        """Start episodes in these games, and look at them."""
        if not self.pools:
            height, width, channels = self.frames.shape[1:]
            envs = self.new_pool(
                [0] * self.num_envs,
                stack_num=1,
                img_height=height,
                img_width=width,
                gray_scale=channels == 1,
                noop_max=1,
                use_fire_reset=False,
                episodic_life=False,
                reward_clip=False,
                repeat_action_probability=0.0,  # actions that stick are the policy's, so that what is recorded was done
            )
            every = np.arange(self.num_envs)
            self.pools = [GamePool(envs, every, every >= 0, every[:0])]
        (pool,) = self.pools
        pool.running = np.union1d(pool.running, rows)
        screens, info = pool.envs.reset(rows)
        self.look(info["env_id"], screens)

    def look(self, games: np.ndarray, screens: np.ndarray) -> None:
        """Take the screens (n, channels, size, size) of some games as their frames."""
        self.frames[games] = np.moveaxis(screens, 1, -1)


class CoinRunVector(PooledGames):
    """N games of CoinRun."""

    title, task = "CoinRun", "CoinrunEasy-v0"
    names = (
        *("left down", "left", "left jump", "down", "nothing", "jump", "right down", "right", "right jump"),
        *("d", "a", "w", "s", "q", "e"),
    )
    longest = 1000

    def new_pool(self, seeds: list[int], **options: Any) -> Any:
        """An EnvPool with a level for each of these seeds."""
        try:
            return super().new_pool(seeds, **options)
        except ImportError as fault:
            raise Problem(QT) from fault

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        """Step these games; the game ends what nothing has decided in 1,000 steps, which cuts it short."""
        super().drive(rows, actions)
        self.cut = self.ended & (self.steps + 1 >= self.longest) & (self.rewards <= 0)
        self.ended &= ~self.cut

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


def world(kind: type[PooledGames], **others: Any) -> World:
    """One of these worlds."""
    choices = len(kind.names)
    return World(
        environment=kind.task,
        package="envpool",
        vector=kind,
        options=("size", "grey"),
        frame=lambda env: frame_shape(env.size, env.grey),
        longest=kind.longest,
        actions=1,
        choices=choices,
        action_names=kind.names,
        action_space=gymnasium.spaces.Discrete(choices),
        execute=partial(actions.choose, choices=choices),
        unexecute=partial(actions.unchoose, choices=choices),
        to_env=partial(np.asarray, dtype=np.int64),
        from_env=partial(np.asarray, dtype=np.float32),
        fps=FPS,
        digits=2,
        **others,
    )


BREAKOUT = world(BreakoutVector, score="score", solved=400, recorded=16, rates=Rates(episode=250, extract=2_500))
COINRUN = world(CoinRunVector, score="return", solved=10, recorded=8, rest=4.0, rates=Rates(episode=250, extract=4_800))
