"""EnvPool's environments as games side by side, each episode with a seed of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.memory import keep_freed_memory
from envs.sidebyside import SideBySide
from experiment.hardware import thread_count
from experiment.problem import Problem


@dataclass
class Pool:
    """An EnvPool, whose environments cannot be given other seeds: it serves until all of its games begin anew."""

    envs: Any
    games: np.ndarray
    """The game that each of its environments plays."""
    ours: np.ndarray
    """Which of them, bool, it still plays."""
    running: np.ndarray
    """The numbers of its environments whose games are not over."""


class PooledGames(SideBySide):
    """N games in EnvPool. Games that begin together are stepped with the least overhead."""

    pools: list[Pool]

    def new_pool(self, seeds: list[int]) -> Any:
        """An EnvPool with an environment for each of these seeds."""
        raise NotImplementedError

    def look(self, games: np.ndarray, screens: np.ndarray) -> None:
        """Make the frames of n games of their screens, (n, ...) uint8."""
        raise NotImplementedError

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        """Start the episodes of these seeds in these games, and look at them."""
        for pool in self.pools:
            pool.ours &= ~np.isin(pool.games, rows)
            pool.running = pool.running[pool.ours[pool.running]]
        self.pools = [pool for pool in self.pools if pool.ours.any()]
        number = len(rows)
        envs = self.new_pool(seeds)
        self.pools.append(Pool(envs, rows, np.ones(number, bool), np.arange(number)))
        screens, info = envs.reset()
        self.look(rows[info["env_id"]], screens)

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Step these games with their actions and look at them; see SideBySide."""
        rewards, terminated = np.zeros(self.num_envs), np.zeros(self.num_envs, bool)
        # EnvPool begins an episode of its own in an environment that is stepped after its end: only live ones are.
        for pool in self.pools:
            pool.running = pool.running[self.live[pool.games[pool.running]]]
        working = [pool for pool in self.pools if pool.running.size]
        for pool in working:
            pool.envs.send(actions[pool.games[pool.running]], pool.running)
        if working:
            done = [self._receive(pool) for pool in working]  # by now all of them are at work
            games, screens, reward, ended = (join(parts) for parts in zip(*done, strict=True))
            rewards[games], terminated[games] = reward, ended
            self.look(games, screens)
        return rewards, terminated

    def _receive(self, pool: Pool) -> tuple[np.ndarray, ...]:
        """The games that it has stepped, and their screens, rewards and ends."""
        screens, rewards, terminated, _, info = pool.envs.recv()
        return pool.games[info["env_id"]], screens, rewards, terminated

    def close_extras(self, **kwargs: Any) -> None:
        """End the simulators."""
        self.pools = []


def pool_threads(games: int) -> int:
    """Threads to step so many games: one a core, but a thread with fewer than eight games to itself mostly waits."""
    return min(games, thread_count(), max(2, -(-games // 8)))


def join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """One array of several, without a copy where there is only one."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def import_envpool(title: str) -> Callable[..., Any]:
    """EnvPool's way to make a pool. title: of the game that needs it, for the message."""
    keep_freed_memory()
    try:
        from envpool import make_gymnasium
    except ImportError as fault:
        raise Problem(f"{title} needs EnvPool: pip install 'envpool>=1.2.5' ({fault})") from fault
    return make_gymnasium
