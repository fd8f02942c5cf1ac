"""What is specific to each real world. Everything else in the project works on any of them.

A world is stepped as a Gymnasium vector environment whose finished games wait, with reward 0, until
`reset(seed=[...], options={"reset_mask": ...})` begins others in them; observations are (N, 64, 64, 3) uint8 where V, M
and C learn, and (N, size, size, channels) in the worlds of the next-frame model.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import gymnasium
import numpy as np

from envs import actions
from experiment.schema import Env, Experiment

Vector = Any


@dataclass(frozen=True)
class World:
    """One real world, in code and in words."""

    actions: int
    """A, the numbers in C's output. Raw actions are (N,) where it is 1, else (N, A)."""
    execute: Callable[..., Any]
    """execute(raw, xp=numpy): the action that is executed, of the same shape; see envs.actions."""
    to_env: Callable[[Any], Any]
    """Executed actions as the environments take them."""
    from_env: Callable[[Any], Any]
    """The other way."""
    unexecute: Callable[[Any], Any]
    """A raw action that is executed as this executed one."""
    action_space: gymnasium.Space[Any]
    """Of one environment."""
    open: Callable[[Env, int, int], Vector]
    """open(settings.env, games, patience): that many games, as fast as they can be had; see `controller.patience`."""
    open_blind: Callable[[Env], Any] | None
    """open_blind(settings.env): a game for whole episodes of players who do not look (see envs.doom.DoomBlind), where
    that is faster."""
    open_final: Callable[[Env, int], Vector]
    """open_final(settings.env, games): the games that final figures are measured in."""
    version: Callable[[], str]
    """Which environment, and its version, for the record."""
    recorded: int
    """Games that one worker of extraction steps side by side."""
    recorded_on: int
    """Cores that such a worker keeps busy: its simulator's threads, or itself."""
    processes: bool
    """Whether to spread the final games over processes, since one does not keep all cores busy; and a thousand or more
    of the others, since EnvPool does not give back all memory of a game (26 KB) until its process ends."""
    fps: int
    """Steps a second in real time."""
    step: str
    """What a step is called."""
    score: str
    """What a return is called, with its unit."""
    solved: float
    """The mean return over 100 episodes that counts as solved."""
    random: float | None
    """The paper's random policy."""
    detail: str
    """What is small in the picture, and matters."""
    shows_detail: Callable[[np.ndarray], np.ndarray]
    """Which pixels are part of it: frames (..., h, w, 3) uint8 to (..., h, w) bool."""
    fixed: dict[str, list[float]] = field(default_factory=dict)
    """Raw actions to compare dream and world by, each held for a whole episode."""
    compared: int = 100
    """Episodes of each to compare them in."""
    action_names: tuple[str, ...] = ()
    """What the environments' actions are called, in their order; of a Box, its numbers. Where there are `choices`, an
    action is called by all the controls that a player holds for it ("left jump")."""
    rest: float = 0.0
    """The executed action, or each number of it, of a player who touches nothing."""
    choices: int = 0
    """How many actions there are, where an executed action is the number of one; 0 where it is a quantity."""


def burning(frames: np.ndarray) -> np.ndarray:
    """In DoomTakeCover nothing but fireballs is so bright: walls, floor and monsters stay below 150 in red."""
    return (frames[..., 0] >= 200) & (frames[..., 1] >= 120)


def white(frames: np.ndarray) -> np.ndarray:
    """In CarRacing nothing but the kerbs of sharp bends has white in it: road is grey, grass green, the car red."""
    return frames.min(axis=-1) >= 160


def doom(env: Env, games: int, patience: int = 0) -> Vector:
    """Games of DoomTakeCover."""
    from envs.doom import DoomVector

    return DoomVector(games, env.max_steps, **doom_options(env))


def doom_blind(env: Env) -> Any:
    """A game of DoomTakeCover for players who do not look."""
    from envs.doom import DoomBlind

    return DoomBlind(env.max_steps, **doom_options(env))


def doom_options(env: Env) -> dict[str, Any]:
    """The settings of the game, as envs.doom.Game takes them."""
    return {"screen": env.screen, "flashes": env.flashes, "start_tic": env.start_tic}


def doom_version() -> str:
    """As recorded with rollouts."""
    from importlib import metadata

    return f"DoomTakeCover-v0, vizdoom {metadata.version('vizdoom')}"


def carracing(env: Env, games: int, patience: int = 0) -> Vector:
    """Tracks of EnvPool's CarRacing."""
    from envs.carracing import CarRacingVector

    return CarRacingVector(games, env.max_steps, patience, env.dashboard)


def carracing_final(env: Env, games: int) -> Vector:
    """Tracks of Gymnasium's own CarRacing."""
    from envs.carracing import CarRacingOwnVector

    return CarRacingOwnVector(games, env.max_steps, dashboard=env.dashboard)


def carracing_version() -> str:
    """As recorded with rollouts."""
    from importlib import metadata

    return f"CarRacing-v3, envpool {metadata.version('envpool')}"


def nothing(frames: np.ndarray) -> np.ndarray:
    """No pixel."""
    return np.zeros(frames.shape[:-1], bool)


def breakout(env: Env, games: int, patience: int = 0) -> Vector:
    """Games of Breakout."""
    from envs.arcade import BreakoutVector

    return BreakoutVector(games, env.max_steps, env.size, env.grey, patience)


def coinrun(env: Env, games: int, patience: int = 0) -> Vector:
    """Levels of CoinRun."""
    from envs.arcade import CoinRunVector

    return CoinRunVector(games, env.max_steps, env.size, env.grey, patience)


def envpool_version(name: str) -> str:
    """As recorded with rollouts."""
    from importlib import metadata

    return f"{name}, envpool {metadata.version('envpool')}"


def numbered(choices: int) -> dict[str, Any]:
    """What worlds with so many actions to choose from have in common."""
    return {
        "actions": 1,
        "choices": choices,
        "execute": partial(actions.choose, choices=choices),
        "unexecute": partial(actions.unchoose, choices=choices),
        "to_env": actions.to_number,
        "from_env": actions.from_number,
        "action_space": gymnasium.spaces.Discrete(choices),
    }


WORLDS = {
    "doom": World(
        actions=1,
        execute=actions.move,
        to_env=actions.to_discrete,
        from_env=actions.from_discrete,
        unexecute=np.asarray,
        action_space=gymnasium.spaces.Discrete(3),
        open=doom,
        open_blind=doom_blind,
        open_final=doom,
        version=doom_version,
        recorded=1,
        recorded_on=1,
        processes=False,
        fps=35,
        step="tic",
        score="survival in tics",
        solved=750,
        random=210,
        detail="fireballs",
        shows_detail=burning,
        fixed={"always stay": [0.0], "always left": [-1.0], "always right": [1.0]},
        action_names=("stay", "left", "right"),
    ),
    "carracing": World(
        actions=3,
        execute=actions.drive,
        to_env=np.asarray,
        from_env=np.asarray,
        unexecute=actions.undrive,
        action_space=gymnasium.spaces.Box(np.array([-1, 0, 0], np.float32), np.ones(3, np.float32)),
        open=carracing,
        open_blind=None,
        open_final=carracing_final,
        version=carracing_version,
        recorded=16,
        recorded_on=2,
        processes=True,
        fps=50,
        step="step",
        score="return",
        solved=900,
        random=None,
        detail="kerbs",
        shows_detail=white,
        fixed={
            "straight, gas 0.2": [0.0, -0.6, 0.0],
            "left, gas 0.2": [-0.3, -0.6, 0.0],
            "right, gas 0.2": [0.3, -0.6, 0.0],
        },
        compared=32,
        action_names=("steer", "gas", "brake"),
    ),
    "breakout": World(
        **numbered(4),
        open=breakout,
        open_blind=None,
        open_final=breakout,
        version=partial(envpool_version, "Breakout-v5"),
        recorded=16,
        recorded_on=1,
        processes=False,
        fps=15,
        step="step",
        score="score",
        solved=400,
        random=None,
        detail="details",
        shows_detail=nothing,
        action_names=("nothing", "fire", "right", "left"),
    ),
    "coinrun": World(
        **numbered(15),
        open=coinrun,
        open_blind=None,
        open_final=coinrun,
        version=partial(envpool_version, "CoinrunEasy-v0"),
        recorded=8,
        recorded_on=1,
        processes=False,
        fps=15,
        step="step",
        score="return",
        solved=10,
        random=None,
        detail="details",
        shows_detail=nothing,
        action_names=(
            *("left down", "left", "left jump", "down", "nothing", "jump", "right down", "right", "right jump"),
            *("d", "a", "w", "s", "q", "e"),
        ),
        rest=4.0,
    ),
}


def world_of(settings: Experiment) -> World:
    """The world of an experiment."""
    return WORLDS[settings.env.name]
