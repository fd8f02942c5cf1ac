"""What was recorded for a run, checked: is it of the game, the frames and the actions that its settings say?"""

import zlib
from dataclasses import asdict, dataclass

import numpy as np

from envs.worlds import world_of
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from extract.rollouts import PATTERN, Rollouts


@dataclass(frozen=True)
class Signature:
    """What data is of, and a model for: its game, frames and actions."""

    game: str
    height: int
    width: int
    channels: int
    actions: int
    """How many to choose from, or how many numbers one is."""


def signature_from(settings: Experiment) -> Signature:
    """What the settings say that the data is of."""
    world, env = world_of(settings), settings.env
    frame = (env.size, env.size, 1 if env.grey else 3) if world.choices else (64, 64, 3)
    return Signature(env.name, *frame, world.choices or world.actions)


def signature_of(rollouts: Rollouts, settings: Experiment) -> Signature:
    """What the recorded data is of. Raises Problem if any is of another game, frames or actions than the settings.

    Where a shard does not say its game or how many actions there are to choose from, these count as right.
    """
    wanted = signature_from(settings)
    for shard in rollouts.shards:
        about, (height, width, channels) = shard.attributes, shard.frame_shape
        game, actions = str(about.get("env.name", wanted.game)), int(about.get("actions", wanted.actions))
        found = Signature(game, height, width, channels, actions)
        for key, value in asdict(found).items():
            if value != asdict(wanted)[key]:
                raise Problem(
                    f"{shard.path} was recorded with {key}={value}, but the settings say {asdict(wanted)[key]}: "
                    "use the settings it was recorded with, or another run folder"
                )
    return wanted


def open_rollouts(settings: Experiment, run: Run) -> Rollouts:
    """All rollouts of a run. Raises Problem if there are none, or they are not of the run's settings."""
    rollouts = Rollouts(*run.all_rollouts)
    signature_of(rollouts, settings)
    return rollouts


def fingerprint(run: Run) -> str:
    """What tells a run's rollouts from others: a checksum of the names and sizes of all shards, which are not read."""
    paths = [path for folder in run.all_rollouts for path in sorted(folder.glob(PATTERN))]
    shards = [(str(path.relative_to(run.at(1).path)), path.stat().st_size) for path in paths]
    return f"{zlib.crc32(repr(shards).encode()):08x}"


def actions_of(rollouts: Rollouts) -> np.ndarray:
    """The raw actions of all frames, (F,) or (F, A) float32. Raises Problem, naming a shard, if one is no number."""
    actions = rollouts.sequences().actions
    spoilt = np.flatnonzero(~np.isfinite(actions.reshape(len(actions), -1)).all(axis=1))  # of (F, A)
    if len(spoilt):
        ends = np.cumsum([shard.lengths.sum() for shard in rollouts.shards])  # (shards,)
        path = rollouts.shards[int(np.searchsorted(ends, spoilt[0], side="right"))].path
        raise Problem(f"{path} has recorded actions that are not numbers: delete it and run `python -m extract` again")
    return actions
