"""What a real world is, and which there are. Everything else in the project works on any of them.

A new world is one file here, with its games and, at its end, a `World` that says all that is peculiar to it; and a line in
FILES. A world is stepped as a Gymnasium vector environment whose finished games wait, with reward 0, until
`reset(seed=[...], options={"reset_mask": ...})` begins others in them.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode

from experiment.problem import UsageProblem
from experiment.schema import STEPS, Env, Experiment

FRAME = (64, 64, 3)
"""What V, M and C see: height, width, RGB."""
Vector = Any
Speeds = tuple[float, float, float]
"""What the reference machine of each class of processors does a second; see experiment.estimate."""


@dataclass(frozen=True)
class Rates:
    """How long episodes are, and what the reference machines do a second; 0 where nobody asks."""

    episode: int  # steps of a recorded episode
    extract: float  # steps recorded
    random: int = 0  # steps of one of the random policy, of a fixed one, or of a controller that has learnt nothing yet
    agent_episode: int = 0  # steps of an episode of a trained controller
    blind: float = 0  # steps of the fixed policies, in the same games
    agent: float | Speeds = 0  # steps, in the world that C is trained and tried in
    final: float | Speeds = 0  # steps, in the one that is reported
    alone: float | Speeds = 0  # steps there of a few games, to be filmed
    rnn: Speeds = (0, 0, 0)  # frames
    dream: Speeds = (0, 0, 0)  # steps
    vae: Speeds = (1_300, 919, 300)  # frames, as many in every world
    encode: Speeds = (24_000, 10_701, 4_000)  # frames, likewise


@dataclass(frozen=True)
class World:
    """One real world, in code and in words."""

    environment: str  # which it is, for the record
    package: str  # what it comes with; its version is recorded too
    vector: Callable[..., Vector]
    """vector(games, max_steps=, patience=, autoreset_mode=, and `options`): as fast as they can be had; see
    envs.sidebyside."""
    options: tuple[str, ...]  # the settings in `env` that are the games' own
    longest: int  # the most that env.max_steps can be
    actions: int  # A, the numbers in C's output. Raw actions are (N,) where it is 1, else (N, A)
    execute: Callable[..., Any]
    """execute(raw, xp=numpy): the action that is executed, of the same shape; see envs.actions."""
    action_space: gymnasium.Space[Any]  # of one environment
    fps: int  # steps a second in real time
    score: str  # what a return is called, with its unit
    solved: float | None  # the mean return over 100 episodes that counts as solved, if any does
    rates: Rates
    recorded: int  # games that one worker of extraction steps side by side
    limit: int = STEPS  # steps after which the environment itself cuts an episode, if it does: M knows nothing of it
    spread: int = 4
    """Episodes from which on an agent's are spread over processes, since one does not keep all cores busy. Starting them
    takes 10 to 20 seconds, once."""
    final: Callable[..., Vector] | None = None
    """As `vector`: the games that final figures are measured in, where those are others."""
    blind: Callable[..., Any] | None = None
    """blind(`options`): a game for whole episodes of players who do not look (see envs.doom.Game.play), where that is
    faster."""
    frame: Callable[[Env], tuple[int, int, int]] = lambda env: FRAME
    """The shape of an observation: height, width, channels."""
    to_env: Callable[[Any], Any] = np.asarray  # executed actions as the environments take them
    from_env: Callable[[Any], Any] = np.asarray  # the other way
    unexecute: Callable[[Any], Any] = np.asarray  # a raw action that is executed as this executed one
    action_names: tuple[str, ...] = ()
    """What the environments' actions are called, in their order; of a Box, its numbers. Where there are `choices`, an
    action is called by all the controls that a player holds for it ("left jump")."""
    rest: float = 0.0  # the executed action, or each number of it, of a player who touches nothing
    choices: int = 0
    """How many actions there are, where an environment takes the number of one; 0 where it takes a quantity."""
    step: str = "step"  # what a step is called
    digits: int = 0  # decimals of a return that matter
    random: tuple[float, float] | None = None
    """The paper's random policy, a random action every step: mean and standard deviation."""
    published_in: str = "real"  # where the published generations were tried: 'dream' or 'real'
    detail: str = "details"  # what is small in the picture, and matters
    shows_detail: Callable[[np.ndarray], np.ndarray] = lambda frames: np.zeros(frames.shape[:-1], bool)
    """Which pixels are part of it: frames (..., h, w, 3) uint8 to (..., h, w) bool; by default none is."""
    fixed: dict[str, list[list[float]]] = field(default_factory=dict)
    """Raw actions (T, A) to compare dream and world by, each row a step's; repeated to the end of an episode."""
    compared: int = 100  # episodes of each to compare them in

    def open(self, env: Env, games: int, patience: int = 0, final: bool = False) -> Vector:
        """That many games with these settings, which wait when they are over; see `controller.patience`.

        final: those that final figures are measured in.
        """
        kind = (self.final if final else None) or self.vector
        return kind(
            games,
            max_steps=env.max_steps,
            patience=patience,
            autoreset_mode=AutoresetMode.DISABLED,
            **self.options_of(env),
        )

    def options_of(self, env: Env) -> dict[str, Any]:
        """The games' own settings."""
        return {name: getattr(env, name) for name in self.options}

    def version(self) -> str:
        """Which environment, and its version, as recorded with rollouts."""
        return f"{self.environment}, {self.package} {metadata.version(self.package)}"


FILES = {
    "doom": "envs.doom",
    "carracing": "envs.carracing",
    "breakout": "envs.arcade",
    "coinrun": "envs.arcade",
    "gymnasium": "envs.gymnasium_world",
}
"""Where each world is: by its name in capitals a World, or a function that makes one of the settings in `env`."""


class Worlds(dict[str, Any]):
    """Name -> world. Its file, and what that needs of other packages, is imported when it is first asked for."""

    def __missing__(self, name: str) -> World | Callable[[Env], World]:
        self[name] = world = getattr(importlib.import_module(FILES[name]), name.upper())
        return world


WORLDS = Worlds()


def world_of(settings: Experiment) -> World:
    """The world of an experiment. Raises Problem where it cannot be opened."""
    world = WORLDS[settings.env.name]
    return world if isinstance(world, World) else world(settings.env)


def dream_steps(settings: Experiment) -> int:
    """Steps after which a dream is cut: dream.max_steps, but no more than an episode of the world can have."""
    return min(settings.dream.max_steps, world_of(settings).limit)


def check(settings: Experiment) -> None:
    """Raise UsageProblem for a setting that is impossible in this world, whose actions and episodes have their own sizes."""
    world, env, extract = world_of(settings), settings.env, settings.extract
    if env.max_steps > world.longest:
        limit = f"{env.name} lasts at most {world.longest:,} steps"
        raise UsageProblem(f"impossible value env.max_steps={env.max_steps}: {limit}")
    for name in ("brownian_centre", "brownian_spread"):
        if len(values := getattr(extract, name)) not in (1, world.actions):
            each = f", or {world.actions}, one for each of an action's" if world.actions > 1 else ""
            raise UsageProblem(f"impossible value extract.{name}={values}: expected one number{each}")
