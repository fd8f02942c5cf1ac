"""The real world: a run's agent, or the random policy, on given seeds; here, or in slices spread over workers."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from controller.agent import Agent, AgentPlayer, Recording, agent_with, load_agent
from envs.play import Played, moments, play
from envs.worlds import Vector, world_of
from experiment.hardware import prepare, thread_count
from experiment.run import Run
from experiment.schema import Experiment
from experiment.workers import Pool
from extract.policies import Each, held

Progressed = Callable[[int], Any]
MANY = 1000
"""Episodes that are spread over processes where a world asks for it: starting them takes some seconds."""
SLICES = 3
"""For each worker of a cluster: whoever is faster plays more of them."""
RENEWED = 50_000
"""Episodes after which processes are started anew, since EnvPool keeps some memory of each (26 KB)."""


class RealWorld(contextlib.AbstractContextManager["RealWorld"]):
    """The real world of a run: `with RealWorld(settings, run) as world: world.play(parameters, seeds)`.

    final: whether it is the one that final figures are measured in (for CarRacing Gymnasium's own, not EnvPool's).
    patience: see controller.patience. pool: another real world's of this run, to be shared with it. V, M, the games and the
    workers are opened when they are first needed, and kept.
    """

    def __init__(
        self, settings: Experiment, run: Run, final: bool = False, patience: int = 0, pool: Pool | None = None
    ):
        self.settings, self.run, self.final, self.patience = settings, run, final, patience
        self.world = world_of(settings)
        self.opened: Vector | None = None
        self.pool = pool or Pool(settings.workers, settings.workers.processes or thread_count(), tensorflow=True)
        self.spread = 0
        """Episodes that the workers have played."""

    @functools.cached_property
    def agent(self) -> Agent:
        """V, M and C, loaded once."""
        return load_agent(self.settings, self.run)

    @functools.cached_property
    def elsewhere(self) -> "Elsewhere":
        """This world for a worker, with the agent's weights."""
        return Elsewhere(self)

    def games(self, episodes: int) -> Vector:
        """env.games games, or as many as there are episodes if these are fewer; what is open serves if it has enough."""
        games = min(self.settings.env.games, episodes)
        if self.opened is not None and self.opened.num_envs < games:
            self.close()
        if self.opened is None:
            env = self.settings.env
            self.opened = self.world.open(env, games, self.patience, self.final)
        return self.opened

    def play_here(
        self, parameters: np.ndarray | None, seeds: Sequence[int], progress: Progressed | None = None
    ) -> Played:
        """One episode per seed, in this process.

        parameters: (D,), one controller for all, or (n, D), one for each; None is the random policy, a new action
        every step.
        """
        vector = self.games(len(seeds))
        games = vector.num_envs
        if parameters is None:
            player: Any = Each(functools.partial(held, actions=self.world.actions, hold_max=1), games, seed=0)
        else:
            player = AgentPlayer(self.agent, games, parameters)
        return play(self.world, vector, player, seeds, progress)

    def record(self, parameters: np.ndarray, seeds: Sequence[int], steps: int | None = None) -> list[Recording]:
        """One whole episode per seed, side by side; or what happens in the first steps."""
        vector = self.games(len(seeds))
        player = AgentPlayer(self.agent, vector.num_envs, parameters, record=range(len(seeds)))
        rewards: list[list[float]] = [[] for _ in seeds]
        for moment in itertools.islice(moments(self.world, vector, player, iter(seeds)), steps):
            for episode, reward in zip(moment.episodes, moment.rewards, strict=True):
                rewards[episode].append(reward)
        if steps is not None:  # the episodes may be going on still
            self.close()
        return [player.recording(episode, np.array(each)) for episode, each in enumerate(rewards)]

    def parts(self, episodes: int) -> int:
        """How many slices so many episodes are played in, at least; where it is one, this process plays it.

        On this machine as many as the settings say, else 1, or one for each core; on a cluster some for each worker.
        """
        if self.settings.workers.backend == "ray":
            return SLICES * self.pool.crew.size()
        spread = self.world.processes and (self.final or episodes >= MANY)
        return self.settings.workers.processes or (thread_count() if spread else 1)

    def play(self, parameters: np.ndarray | None, seeds: Sequence[int], progress: Progressed | None = None) -> Played:
        """`play_here`, in slices of seeds on the workers of the settings where there are several; the same result."""
        parts = self.parts(len(seeds))
        if parts <= 1:
            return self.play_here(parameters, seeds, progress)
        if self.spread > RENEWED:
            self.pool.close()
            self.spread = 0
        self.spread += len(seeds)
        size = min(self.settings.env.games, -(-len(seeds) // parts))
        slices = [
            (part(parameters, first, size), list(seeds[first : first + size])) for first in range(0, len(seeds), size)
        ]
        results: dict[int, Played] = {}
        for index, result in self.pool.run(self.elsewhere, slices):
            results[index] = result
            if progress is not None:
                progress(len(result.returns))
        return Played(*(np.concatenate(parts) for parts in zip(*(results[i] for i in range(len(slices))), strict=True)))

    def trial(self, parameters: np.ndarray) -> np.ndarray:
        """The returns of one controller on the trial seeds: always the same ones, just below the held-out ones."""
        first = self.settings.evaluate.seed
        return self.play(parameters, range(first - self.settings.controller.trial_episodes, first)).returns

    def close(self) -> None:
        """Close the games."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def __exit__(self, *error: object) -> None:
        self.close()
        self.pool.close()


def part(parameters: np.ndarray | None, first: int, size: int) -> np.ndarray | None:
    """The rows of a slice, where every episode has its own controller; else the one there is, or none."""
    return parameters[first : first + size] if parameters is not None and parameters.ndim == 2 else parameters


def for_workers(settings: Experiment) -> Experiment:
    """With the precision of this process, so that no worker measures and chooses another, and a core's one thread on Ray."""
    from experiment.backend import keras

    bfloat16 = "bfloat16" in keras.config.dtype_policy().name
    threads = settings.hardware.threads or (1 if settings.workers.backend == "ray" else 0)
    precision: Literal["bfloat16", "float32"] = "bfloat16" if bfloat16 else "float32"
    return dataclasses.replace(
        settings, hardware=dataclasses.replace(settings.hardware, threads=threads, precision=precision)
    )


class Elsewhere:
    """A real world that is sent to a worker, where it stays open: called with slices, parameters and seeds, it plays them."""

    def __init__(self, world: RealWorld):
        self.settings = for_workers(world.settings)
        self.run, self.final, self.patience = world.run, world.final, world.patience
        self.weights = world.agent.weights()

    @functools.cached_property
    def world(self) -> RealWorld:
        """Opened by the first call."""
        prepare(self.settings.hardware)
        world = RealWorld(self.settings, self.run, self.final, self.patience)
        world.agent = agent_with(self.settings, self.weights)
        return world

    def __call__(self, task: tuple[np.ndarray | None, list[int]]) -> Played:
        return self.world.play_here(*task)
