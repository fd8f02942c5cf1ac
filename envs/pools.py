"""EnvPool's environments as games side by side, each episode with a seed of its own."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from envs.sidebyside import SideBySide, keep_freed_memory, pixels
from experiment.hardware import thread_count
from experiment.problem import Problem

FPS = 15


@dataclass
class GamePool:
    """An EnvPool, whose environments cannot be given other seeds: it serves until all of its games begin anew."""

    envs: Any
    games: np.ndarray  # the game that each of its environments plays
    ours: np.ndarray  # which of them, bool, it still plays
    running: np.ndarray  # the numbers of its environments whose games are not over


class PooledGames(SideBySide):
    """N games in EnvPool, stepped by several threads, with actions to choose from, and frames of a size that is asked for.

    Games that begin together are stepped with the least overhead.
    """

    title: str  # what it is called in messages
    task: str  # what EnvPool calls it
    names: tuple[str, ...]  # of the actions
    longest: int  # the most steps that an episode can have
    metadata = {"render_modes": [], "render_fps": FPS}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self, num_envs: int, max_steps: int = 0, size: int = 84, grey: bool = True, threads: int = 0, **common: Any
    ):
        """max_steps: 0 for the most. threads: 0 for one a core, but a thread with fewer than eight games to itself mostly waits.
        common: see SideBySide."""
        space, frame = gymnasium.spaces.Discrete(len(self.names)), pixels(*frame_shape(size, grey))
        super().__init__(num_envs, frame, space, max_steps or self.longest, **common)
        self.threads = threads or min(num_envs, thread_count(), max(2, -(-num_envs // 8)))
        self.pools: list[GamePool] = []
        self._make = import_envpool(self.title)

    def new_pool(self, seeds: list[int], **options: Any) -> Any:
        """An EnvPool with an environment for each of these seeds."""
        return self._make(
            self.task,
            num_envs=len(seeds),
            seed=seeds,
            num_threads=min(self.threads, len(seeds)),
            max_episode_steps=self.max_steps + 1,  # which is never reached, so that `done` means the episode's own end
            **options,
        )

    def look(self, games: np.ndarray, screens: np.ndarray) -> None:
        """Make the frames of n games of their screens, (n, ...) uint8."""
        raise NotImplementedError

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        for pool in self.pools:
            pool.ours &= ~np.isin(pool.games, rows)
            pool.running = pool.running[pool.ours[pool.running]]
        self.pools = [pool for pool in self.pools if pool.ours.any()]
        number = len(rows)
        envs = self.new_pool(seeds)
        self.pools.append(GamePool(envs, rows, np.ones(number, bool), np.arange(number)))
        screens, info = envs.reset()
        self.look(rows[info["env_id"]], screens)

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        # EnvPool begins an episode of its own in an environment that is stepped after its end: only live ones are.
        for pool in self.pools:
            pool.running = pool.running[self.live[pool.games[pool.running]]]
        working = [pool for pool in self.pools if pool.running.size]
        for pool in working:
            pool.envs.send(actions[pool.games[pool.running]], pool.running)
        if working:
            done = [receive(pool) for pool in working]  # by now all of them are at work
            games, screens, rewards, ended = (join(parts) for parts in zip(*done, strict=True))
            self.rewards[games], self.ended[games] = rewards, ended
            self.look(games, screens)

    def close_extras(self, **kwargs: Any) -> None:
        """End the simulators."""
        self.pools = []


def frame_shape(size: int, grey: bool) -> tuple[int, int, int]:
    """Of a frame: height, width, channels."""
    return size, size, 1 if grey else 3


def receive(pool: GamePool) -> tuple[np.ndarray, ...]:
    """The games that a pool has stepped, and their screens, rewards and ends."""
    screens, rewards, terminated, _, info = pool.envs.recv()
    return pool.games[info["env_id"]], screens, rewards, terminated


def join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One array of several, without a copy where there is only one."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def import_envpool(title: str) -> Callable[..., Any]:
    """EnvPool's way to make a pool. title: of the game that needs it, for the message.

    Imported, EnvPool has matplotlib draw without a screen, in this process and those that it starts: not here.
    """
    keep_freed_memory()
    import viz  # noqa: F401 (matplotlib, as the user has it)

    before = dict(os.environ)
    try:
        from envpool import make_gymnasium
    except ImportError as fault:
        raise Problem(f"{title} needs EnvPool: pip install 'envpool>=1.2.5' ({fault})") from fault
    finally:
        for name in [name for name in os.environ if name not in before]:  # MPLBACKEND and MPLCONFIGDIR
            del os.environ[name]
    return make_gymnasium
