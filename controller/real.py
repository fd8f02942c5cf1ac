"""The real world: a run's agent, or the random policy, on given seeds; here, or in slices spread over workers."""

import contextlib
import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from controller.agent import Agent, AgentPlayer, Recording, load_agent
from envs.play import Played, moments, play
from envs.worlds import Vector, world_of
from experiment.hardware import thread_count
from experiment.run import Run
from experiment.schema import Experiment, Hardware
from experiment.workers import run_tasks
from extract.policies import Each, held

Progressed = Callable[[int], Any]
FEW, MANY = 4, 1000
"""Final and other episodes that are spread over processes where a world asks for it: starting them takes 10 to 20 seconds."""


class RealWorld(contextlib.AbstractContextManager["RealWorld"]):
    """The real world of a run: `with RealWorld(settings, run) as world: world.play(parameters, seeds)`.

    final: whether it is the one that final figures are measured in (for CarRacing Gymnasium's own, not EnvPool's).
    patience: see controller.patience. V, M and the games themselves are opened when they are first needed, and kept.
    """

    def __init__(self, settings: Experiment, run: Run, final: bool = False, patience: int = 0):
        self.settings, self.run, self.final, self.patience = settings, run, final, patience
        self.world = world_of(settings)
        self.opened: Vector | None = None

    @functools.cached_property
    def agent(self) -> Agent:
        """V, M and C, loaded once."""
        return load_agent(self.settings, self.run)

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

    def processes(self, episodes: int) -> int:
        """How many processes so many episodes are spread over where the settings leave it open: 1, or one for each core."""
        spread = self.world.processes and episodes >= (FEW if self.final else MANY)
        return self.settings.workers.processes or (thread_count() if spread else 1)

    def play(self, parameters: np.ndarray | None, seeds: Sequence[int], progress: Progressed | None = None) -> Played:
        """`play_here`, in slices of seeds on the workers of the settings where there are several; the same result."""
        workers, processes = self.settings.workers, self.processes(len(seeds))
        if workers.backend == "local" and processes <= 1:
            return self.play_here(parameters, seeds, progress)
        settings = dataclasses.replace(self.settings, hardware=measured(self.settings.hardware))
        size = min(settings.env.games, -(-len(seeds) // processes))
        slices = [
            (part(parameters, first, size), list(seeds[first : first + size])) for first in range(0, len(seeds), size)
        ]
        play_elsewhere = functools.partial(play_slice, settings, self.run.path, self.final, self.patience)
        results: dict[int, Played] = {}
        for index, result in run_tasks(play_elsewhere, slices, workers, processes, tensorflow=True):
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


def part(parameters: np.ndarray | None, first: int, size: int) -> np.ndarray | None:
    """The rows of a slice, where every episode has its own controller; else the one there is, or none."""
    return parameters[first : first + size] if parameters is not None and parameters.ndim == 2 else parameters


def measured(hardware: Hardware) -> Hardware:
    """With the precision of this process, so that no worker measures and chooses another."""
    from experiment.backend import keras

    bfloat16 = "bfloat16" in keras.config.dtype_policy().name
    return dataclasses.replace(hardware, precision="bfloat16" if bfloat16 else "float32")


def play_slice(
    settings: Experiment, run: Path, final: bool, patience: int, task: tuple[np.ndarray | None, list[int]]
) -> Played:
    """Some episodes of a run's agent, its parameters and their seeds, in whatever process is given them."""
    from experiment.hardware import prepare

    prepare(settings.hardware)
    with RealWorld(settings, Run(run), final, patience) as world:
        return world.play_here(*task)
