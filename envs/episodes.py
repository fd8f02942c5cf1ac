"""Playing episodes side by side: the one loop of extraction, training in the real world, and evaluation."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from envs.worlds import Vector, World
from experiment.problem import Problem


class Player(Protocol):
    """Who plays. Games are numbered as in the vector environment, episodes in the order of their seeds."""

    def begin(self, games: np.ndarray, episodes: np.ndarray, seeds: np.ndarray) -> None:
        """These games are about to start these episodes, each int64 (n,)."""

    def act(self, frames: np.ndarray, games: np.ndarray) -> np.ndarray:
        """Raw actions (N,) or (N, A) for the frames (N, 64, 64, 3) of N games that are running."""


class Moment(NamedTuple):
    """One step of the N games that are running."""

    episodes: np.ndarray  # (N,) int64
    frames: np.ndarray  # (N, 64, 64, 3) uint8, before the step
    raw: np.ndarray  # (N,) or (N, A) float32
    rewards: np.ndarray  # (N,)
    terminated: np.ndarray  # (N,) bool
    truncated: np.ndarray  # (N,) bool
    hit: np.ndarray  # (N,) bool, whether it hurt; never where a world does not tell


class Played(NamedTuple):
    """What n episodes gave."""

    returns: np.ndarray  # (n,) float64
    lengths: np.ndarray  # (n,) int64, steps
    first_hits: np.ndarray  # (n,) int64, steps after which they were first hit: the length where they were not
    early: np.ndarray  # (n,) float64, what their first steps brought: as many as a dream has


def moments(world: World, vector: Vector, player: Player, seeds: Iterator[int]) -> Iterator[Moment]:
    """Play one episode per seed to its end, as many side by side as there are games, and yield every step.

    A game that has ended starts the next seed at once; when none is left, its row leaves the batch. The arrays of a
    Moment are the caller's to keep.
    """
    games = vector.num_envs
    episode, begun, more = np.full(games, -1), 0, True  # which episode each game plays, -1 for none
    ended, unhurt = np.ones(games, bool), np.zeros(games, bool)
    while True:
        if ended.any():  # else the same games play on, and each step is as cheap as can be: Doom is stepped one by one
            if more and (idle := np.flatnonzero(episode < 0)).size:
                drawn = [seed for _, seed in zip(idle, seeds, strict=False)]
                more, idle = len(drawn) == len(idle), idle[: len(drawn)]
                if drawn:
                    episode[idle] = begun + np.arange(len(idle))
                    begun += len(idle)
                    player.begin(idle, episode[idle], np.asarray(drawn))
                    frames = start(vector, idle, drawn)
            live = np.flatnonzero(episode >= 0)  # (N,)
            if not len(live):
                return
            numbers = episode[live]
            rows: Any = slice(None) if len(live) == games else live
        seen = frames[rows]
        acted = np.asarray(player.act(seen, live), np.float32)
        if not np.isfinite(acted).all():
            raise Problem(f"{np.sum(~np.isfinite(acted))} actions are not numbers: check V, M and C for NaN")
        raw = np.zeros((games, *acted.shape[1:]), np.float32)
        raw[rows] = acted
        frames, rewards, terminated, truncated, info = vector.step(world.to_env(world.execute(raw)))
        ended, hit = (terminated | truncated)[rows], info.get("hit", unhurt)[rows]
        yield Moment(numbers, seen, acted, rewards[rows], terminated[rows], truncated[rows], hit)
        episode[live[ended]] = -1


def play(
    world: World,
    vector: Vector,
    player: Player,
    seeds: Sequence[int],
    progress: Callable[[int], Any] | None = None,
    first: float = np.inf,
) -> Played:
    """Play one episode per seed. progress: called with the number of episodes that just ended. first: steps of `early`.

    vector: with at most as many games as seeds, unless all of its games were begun before.
    """
    returns, early = np.zeros((2, len(seeds)))
    hurt = np.zeros(len(seeds), bool)
    lengths, first_hits = np.zeros((2, len(seeds)), np.int64)
    for moment in moments(world, vector, player, iter(seeds)):
        returns[moment.episodes] += moment.rewards
        early[moment.episodes] += moment.rewards * (lengths[moment.episodes] < first)
        lengths[moment.episodes] += 1
        first_hits[moment.episodes] += ~hurt[moment.episodes]
        hurt[moment.episodes] |= moment.hit
        ended = int((moment.terminated | moment.truncated).sum())
        if progress is not None and ended:
            progress(ended)
    return Played(returns, lengths, first_hits, early)


def start(vector: Vector, games: np.ndarray, seeds: Sequence[int]) -> np.ndarray:
    """Start these games with these seeds and return the frames of all games, (games, 64, 64, 3) uint8."""
    mask = np.isin(np.arange(vector.num_envs), games)
    all_seeds: list[int | None] = [None] * vector.num_envs
    for game, seed in zip(games, seeds, strict=True):
        all_seeds[game] = int(seed)
    return vector.reset(seed=all_seeds, options={"reset_mask": mask})[0]


class Each:
    """A Player who does not look: plays(episode, seed) yields the raw actions of an episode, () or (A,), one by one."""

    def __init__(self, plays: Callable[[int, int], Iterator[np.ndarray]], games: int):
        self.plays = plays
        self.playing: list[Iterator[np.ndarray]] = [iter(())] * games

    def begin(self, games: np.ndarray, episodes: np.ndarray, seeds: np.ndarray) -> None:
        for game, episode, seed in zip(games, episodes, seeds, strict=True):
            self.playing[game] = self.plays(int(episode), int(seed))

    def act(self, frames: np.ndarray, games: np.ndarray) -> np.ndarray:
        raw = np.array([next(self.playing[game]) for game in games.tolist()])  # (N,) or (N, A)
        return raw[:, 0] if raw.shape[1:] == (1,) else raw
