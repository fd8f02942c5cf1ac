"""The real world: a run's agent, or the random policy, on given seeds; here, or in slices spread over workers."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from controller.agent import Agent, AgentPlayer, Recording, Weights, agent_with, load_agent, recorded
from controller.policy import Controller, load_controller, policy_from
from envs.episodes import Each, Played, moments, play
from envs.worlds import Vector, dream_steps, world_of
from experiment.hardware import prepare, thread_count
from experiment.run import Run
from experiment.schema import HELD_OUT, Experiment
from experiment.workers import open_pool
from extract.policies import held

Progressed = Callable[[int], Any]
Slice = tuple[np.ndarray | None, Sequence[int], int]  # parameters, seeds and patience, as `RealWorld.play` takes them
SLICES = 3  # for each worker of a cluster: whoever is faster plays more of them


class RealWorld(contextlib.AbstractContextManager["RealWorld"]):
    """The real world of a run: `with RealWorld(settings, run) as world: world.play(parameters, seeds)`.

    final: whether it is the one that final figures are measured in (CarRacing with Gymnasium's own picture).
    V, M, the games and the workers are opened when they are first needed, and kept.
    """

    def __init__(self, settings: Experiment, run: Run, final: bool = False):
        self.settings, self.run, self.final = settings, run, final
        self.world = world_of(settings)
        self.opened: dict[int, Vector] = {}  # games, by the patience that they have
        processes = settings.workers.processes or thread_count()
        self.pool = open_pool(self.play_slice, settings.workers, processes, tensorflow=True)

    def __reduce__(self) -> Any:
        """What a worker makes its own of: the settings, and the weights, since it may be without the run folder."""
        return elsewhere, (for_workers(self.settings), self.run, self.final, self.agent.weights())

    @functools.cached_property
    def agent(self) -> Agent:
        """V, M and C, loaded once."""
        return load_agent(self.settings, self.run)

    @functools.cached_property
    def controller(self) -> Controller:
        """The one that the run has evolved."""
        return load_controller(self.run.controller, policy_from(self.settings))

    def games(self, episodes: int, patience: int = 0) -> Vector:
        """env.games games, or as many as there are episodes if these are fewer; what is open serves if it has enough."""
        games = min(self.settings.env.games, episodes)
        if patience in self.opened and self.opened[patience].num_envs < games:
            self.opened.pop(patience).close()
        if patience not in self.opened:
            self.opened[patience] = self.world.open(self.settings.env, games, patience, self.final)
        return self.opened[patience]

    def record(self, parameters: np.ndarray, seeds: Sequence[int], steps: int | None = None) -> list[Recording]:
        """One whole episode per seed, side by side; or what happens in the first steps."""
        vector = self.games(len(seeds))
        player = AgentPlayer(self.agent, vector.num_envs, parameters)
        played = itertools.islice(moments(self.world, vector, player, iter(seeds)), steps)
        recordings = recorded(played, player, len(seeds))
        if steps is not None:  # the episodes may be going on still
            self.close()
        return recordings

    def play_slice(self, task: Slice, progress: Progressed | None = None) -> Played:
        """What `play` is asked for, in this process."""
        parameters, seeds, patience = task
        vector = self.games(len(seeds), patience)
        games = vector.num_envs
        if parameters is None:
            actions = self.world.actions
            player: Any = Each(lambda _, seed: held(np.random.default_rng((0, seed)), actions, hold_max=1), games)
        else:
            player = AgentPlayer(self.agent, games, parameters)
        return play(self.world, vector, player, seeds, progress, dream_steps(self.settings))

    def parts(self, episodes: int) -> int:
        """How many slices so many episodes are played in, at least; where it is one, this process plays it.

        On this machine as many as the settings say, else 1, or one for each core (World.spread). On a cluster some for each
        worker, and none with more episodes than are played side by side: one that is lost is played again.
        """
        if self.settings.workers.backend == "ray":
            return max(SLICES * self.pool.size(), -(-episodes // self.settings.env.games))
        return self.settings.workers.processes or (thread_count() if episodes >= self.world.spread else 1)

    def play(
        self,
        parameters: np.ndarray | None,
        seeds: Sequence[int],
        progress: Progressed | None = None,
        patience: int = 0,
    ) -> Played:
        """One episode per seed, in slices on the workers of the settings where there are several; the same result.

        parameters: (D,), one controller for all, or (n, D), one for each; None is the random policy, a new action
        every step. patience: see controller.patience.
        """
        parts = self.parts(len(seeds))
        if parts <= 1:
            return self.play_slice((parameters, seeds, patience), progress)
        size = -(-len(seeds) // parts)
        slices: list[Slice] = []
        for first in range(0, len(seeds), size):
            part = slice(first, first + size)
            own = parameters[part] if parameters is not None and parameters.ndim == 2 else parameters
            slices.append((own, list(seeds[part]), patience))
        results: dict[int, Played] = {}
        for index, result in self.pool.run(slices):
            results[index] = result
            if progress is not None:
                progress(len(result.returns))
        return Played(*(np.concatenate(parts) for parts in zip(*(results[i] for i in range(len(slices))), strict=True)))

    def trial(self, parameters: np.ndarray) -> Played:
        """What one controller's episodes give on the trial seeds: always the same ones, just below the held-out ones."""
        return self.play(parameters, range(HELD_OUT - self.settings.controller.trial_episodes, HELD_OUT))

    def close(self) -> None:
        """Close the games."""
        while self.opened:
            self.opened.popitem()[1].close()

    def __exit__(self, *error: object) -> None:
        self.close()
        self.pool.close()


def for_workers(settings: Experiment) -> Experiment:
    """With the precision of this process, so that no worker measures and chooses another, and its share of the threads."""
    from experiment.backend import keras

    bfloat16 = "bfloat16" in keras.config.dtype_policy().name
    processes = settings.workers.processes or thread_count()
    share = 1 if settings.workers.backend == "ray" else max(thread_count() // processes, 1)
    threads = settings.hardware.threads or share
    precision: Literal["bfloat16", "float32"] = "bfloat16" if bfloat16 else "float32"
    return dataclasses.replace(
        settings, hardware=dataclasses.replace(settings.hardware, threads=threads, precision=precision)
    )


def elsewhere(settings: Experiment, run: Run, final: bool, weights: Weights) -> RealWorld:
    """A real world in a worker, with the weights of V and M."""
    prepare(settings.hardware)
    world = RealWorld(settings, run, final)
    world.agent = agent_with(settings, weights)
    return world
