"""What was recorded for a run: in words, and checked against what its settings say of game, frames and actions."""

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from envs.worlds import world_of
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment, Extract
from extract.policies import describe_policy
from extract.rollouts import FORMAT, PATTERN, Rollouts


class Signature(NamedTuple):
    """What data is of, and a model for: its game, frames and actions."""

    game: str
    height: int
    width: int
    channels: int
    actions: int  # how many to choose from, or how many numbers one is


def signature_from(settings: Experiment) -> Signature:
    """What the settings say that the data is of."""
    world = world_of(settings)
    return Signature(settings.env.name, *world.frame(settings.env), world.choices or world.actions)


def open_rollouts(settings: Experiment, run: Run) -> Rollouts:
    """All rollouts of a run. Raises Problem if there are none, or any of another game, frames or actions than the settings.

    Where a shard does not say its game or how many actions there are to choose from, these count as right.
    """
    rollouts, wanted = Rollouts(*run.all_rollouts), signature_from(settings)
    for shard in rollouts.shards:
        about, (height, width, channels) = shard.attributes, shard.frame_shape
        game, actions = str(about.get("env.name", wanted.game)), int(about.get("actions", wanted.actions))
        found = Signature(game, height, width, channels, actions)
        for key, value in found._asdict().items():
            if value != (right := getattr(wanted, key)):
                raise Problem(
                    f"{shard.path} was recorded with {key}={value}, but the settings say {right}: "
                    "use the settings it was recorded with, or another run folder"
                )
    return rollouts


def fingerprint(run: Run) -> str:
    """What tells a run's rollouts from others: a checksum of the names and sizes of all shards, which are not read."""
    paths = [path for folder in run.all_rollouts for path in sorted(folder.glob(PATTERN))]
    shards = [(str(path.relative_to(run.at(1).path)), path.stat().st_size) for path in paths]
    return f"{zlib.crc32(repr(shards).encode()):08x}"


def manifest(folder: Path) -> str:
    """Game, policy, steps, frames, seeds, versions, and the shards with their counts, as YAML.

    It is read from the shards themselves, so that it is never out of date. Raises Problem if there are no rollouts, or
    naming the shard that cannot be used.
    """
    rollouts = Rollouts(folder)
    about: dict[str, Any] = rollouts.shards[0].attributes
    height, width, channels = rollouts.frame_shape
    seeds = np.concatenate([shard.seeds for shard in rollouts.shards])
    returns = np.concatenate([shard.played_returns for shard in rollouts.shards])
    told = ("policy", "hold_max", "stickiness")
    policy = {name: about[f"extract.{name}"] for name in told if f"extract.{name}" in about}
    meant = "see envs/actions.py"
    if "actions" in about:
        meant = f"of which equal parts stand for the actions 0 to {about['actions'] - 1}"
    lines = [
        f"game: {about.get('env.name', 'unknown')}",
        f"environment: {about.get('environment', 'unknown')}",
        f"steps: {rollouts.frames:,}",
        f"episodes: {rollouts.episodes:,}, of {rollouts.lengths.min():,} to {rollouts.lengths.max():,} steps",
        f"returns: {returns.mean():.2f} ± {returns.std():.2f} in {len(returns):,} episodes played",
        f"frames: uint8 (step, {height}, {width}, {channels}): height, width, {'grey' if channels == 1 else 'RGB'}",
        f"actions: float32 in [-1, 1], {meant}",
        f"policy: {describe_policy(Extract(**policy)) if 'policy' in policy else 'unknown'}",
        f"seeds: {seeds.min()} to {seeds.max()}, drawn with extract.seed={about.get('extract.seed', 'unknown')}",
        f"format: {FORMAT}, version {about['version']}",
        "shards:",
    ]
    for path, lengths, *_ in rollouts.shards:
        size = path.stat().st_size / 1e6
        lines.append(f"  {path.name}: {lengths.sum():,} steps in {len(lengths):,} episodes, {size:.1f} MB")
    return "\n".join(lines)
