"""The real game: a run's agent, or the random policy, on given seeds; here, or in slices spread over workers."""

import dataclasses
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from controller.agent import Agent, AgentPlayer, RandomPlayer, Recording, World, play
from controller.policy import policy_from
from experiment.run import Run
from experiment.schema import Experiment, Hardware
from experiment.workers import run_tasks

Progressed = Callable[[int], Any]


def load_agent(settings: Experiment, run: Run) -> Agent:
    """The agent of a run's V and M."""
    from rnn.model import load_rnn
    from vae.model import load_vae

    return Agent(load_vae(run, settings), load_rnn(run, settings), policy_from(settings), settings.rnn.action)


def open_world(settings: Experiment, games: int) -> World:
    """That many real games side by side."""
    from envs.doom import DoomVector

    return DoomVector(games, settings.env.max_steps)


def to_action(raw: np.ndarray) -> np.ndarray:
    """What the game takes, from raw actions (N,)."""
    from envs.doom import execute, to_discrete

    return to_discrete(execute(raw))


class RealGame:
    """The real game of a run: `with RealGame(settings, run) as game: game.returns(parameters, seeds)`.

    V, M and the games themselves are opened when they are first needed, and kept.
    """

    def __init__(self, settings: Experiment, run: Run):
        self.settings, self.run = settings, run
        self.opened: World | None = None

    @cached_property
    def agent(self) -> Agent:
        return load_agent(self.settings, self.run)

    def world(self, episodes: int) -> World:
        """env.games games, or as many as there are episodes if these are fewer; what is open serves if it has enough."""
        games = min(self.settings.env.games, episodes)
        if self.opened is not None and self.opened.num_envs < games:
            self.close()
        if self.opened is None:
            self.opened = open_world(self.settings, games)
        return self.opened

    def play(
        self, parameters: np.ndarray | None, seeds: Sequence[int], progress: Progressed | None = None
    ) -> np.ndarray:
        """The returns (n,) of one episode per seed, in this process.

        parameters: (D,), one controller for all, or (n, D), one for each; None is the random policy.
        """
        world = self.world(len(seeds))
        games = world.num_envs
        player = RandomPlayer(games, seeds) if parameters is None else AgentPlayer(self.agent, games, parameters, seeds)
        return play(world, player, seeds, to_action, progress).returns

    def record(self, parameters: np.ndarray, seed: int) -> Recording:
        """One whole episode."""
        world = self.world(1)
        player = AgentPlayer(self.agent, world.num_envs, parameters, [seed], record=[0])
        play(world, player, [seed], to_action)
        return player.recording(0)

    def returns(
        self, parameters: np.ndarray | None, seeds: Sequence[int], progress: Progressed | None = None
    ) -> np.ndarray:
        """`play`, in slices of seeds on the workers of the settings where there are several; the same returns."""
        workers = self.settings.workers
        if workers.backend == "local" and workers.processes <= 1:
            return self.play(parameters, seeds, progress)
        settings = dataclasses.replace(self.settings, hardware=measured(self.settings.hardware))
        size = min(settings.env.games, -(-len(seeds) // max(workers.processes, 1)))
        firsts = range(0, len(seeds), size)
        slices = [
            Slice(settings, self.run.path, part(parameters, first, size), list(seeds[first : first + size]))
            for first in firsts
        ]
        results: dict[int, np.ndarray] = {}
        for index, result in run_tasks(play_slice, slices, workers):
            results[index] = result
            if progress is not None:
                progress(len(result))
        return np.concatenate([results[index] for index in range(len(slices))])

    def trial(self, parameters: np.ndarray) -> np.ndarray:
        """The returns of one controller on the trial seeds: always the same ones, just below the held-out ones."""
        first = self.settings.evaluate.seed
        return self.returns(parameters, range(first - self.settings.controller.real_episodes, first))

    def close(self) -> None:
        """Close the games."""
        if self.opened is not None:
            self.opened.close()
            self.opened = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Slice(NamedTuple):
    """The task of a worker: some episodes of a run's agent."""

    settings: Experiment
    run: Path
    parameters: np.ndarray | None
    seeds: list[int]


def part(parameters: np.ndarray | None, first: int, size: int) -> np.ndarray | None:
    """The rows of a slice, where every episode has its own controller; else the one there is, or none."""
    return parameters[first : first + size] if parameters is not None and parameters.ndim == 2 else parameters


def measured(hardware: Hardware) -> Hardware:
    """With the precision of this process, so that no worker measures and chooses another."""
    import keras

    bfloat16 = "bfloat16" in keras.config.dtype_policy().name
    return dataclasses.replace(hardware, precision="bfloat16" if bfloat16 else "float32")


def play_slice(task: Slice) -> np.ndarray:
    """Do a task in whatever process it is given to."""
    from experiment.hardware import prepare

    prepare(task.settings.hardware)
    with RealGame(task.settings, Run(task.run)) as game:
        return game.play(task.parameters, task.seeds)
