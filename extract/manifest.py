"""What a run's rollouts are, in words: read from the shards themselves, so that it is never out of date."""

from pathlib import Path
from typing import Any

import numpy as np

from experiment.schema import Extract
from extract.policies import describe_policy
from extract.rollouts import FORMAT, Rollouts, Shard


def manifest(folder: Path) -> str:
    """Game, policy, steps, frames, seeds, versions, and the shards with their counts, as YAML.

    Raises Problem if there are no rollouts, or naming the shard that cannot be used.
    """
    rollouts = Rollouts(folder)
    about = rollouts.shards[0].attributes
    height, width, channels = rollouts.frame_shape
    seeds = np.concatenate([shard.seeds for shard in rollouts.shards])
    returns = np.concatenate([shard.played_returns for shard in rollouts.shards])
    lines: list[tuple[str, Any]] = [
        ("game", about.get("env.name", "unknown")),
        ("environment", about.get("environment", "unknown")),
        ("steps", f"{rollouts.frames:,}"),
        ("episodes", f"{rollouts.episodes:,}, of {rollouts.lengths.min():,} to {rollouts.lengths.max():,} steps"),
        ("returns", f"{returns.mean():.2f} ± {returns.std():.2f} in {len(returns):,} episodes played"),
        ("frames", f"uint8 (step, {height}, {width}, {channels}): height, width, {'grey' if channels == 1 else 'RGB'}"),
        ("actions", actions(about)),
        ("policy", policy(about)),
        ("seeds", f"{seeds.min()} to {seeds.max()}, drawn with extract.seed={about.get('extract.seed', 'unknown')}"),
        ("format", f"{FORMAT}, version {about['version']}"),
        ("shards", ""),
    ]
    return "\n".join([*(f"{key}: {value}".rstrip() for key, value in lines), *map(line, rollouts.shards)])


def actions(about: dict[str, Any]) -> str:
    """How actions were recorded."""
    if "actions" in about:
        return f"float32 in [-1, 1], of which equal parts stand for the actions 0 to {about['actions'] - 1}"
    return "float32 in [-1, 1], see envs/actions.py"


def policy(about: dict[str, Any]) -> str:
    """Who played, from the settings that the shard was recorded with."""
    prefix = "extract."
    known = {key.removeprefix(prefix): value for key, value in about.items() if key.startswith(prefix)}
    named = {key: value for key, value in known.items() if key in ("policy", "hold_max", "stickiness")}
    return describe_policy(Extract(**named)) if "policy" in named else "unknown"


def line(shard: Shard) -> str:
    """A shard, its steps, episodes and size."""
    size = shard.path.stat().st_size / 1e6
    return f"  {shard.path.name}: {shard.lengths.sum():,} steps in {len(shard.lengths):,} episodes, {size:.1f} MB"
