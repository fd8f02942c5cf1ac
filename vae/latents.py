"""The latent series: what V makes of every recorded frame. This module is its only reader and writer.

mu, logvar       float16 (F, Z), of all F frames, episodes one after the other
actions          float32 (F,) or (F, A), raw, as recorded
rewards          float32 (F,); terminated, truncated bool (F,)
episode_starts   int64 (episodes,), the row where each episode begins
groups           int64 (iterations,), how many of the episodes each iteration recorded
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from experiment.arrays import check, needed, open_hdf5, written
from experiment.problem import Problem
from extract.rollouts import SERIES, Sequences, split_episodes

FORMAT = "world-models latents"
VERSION = 1
ACTIVE_NATS = 0.1  # a latent dimension is active if its KL is more than this on average
SAMPLE = 50_000  # frames that this is found out from


@dataclass(frozen=True)
class Latents:
    """Everything of a latents file, in memory (about 270 bytes a frame at Z = 64)."""

    mu: np.ndarray
    logvar: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    episode_starts: np.ndarray
    groups: np.ndarray

    @classmethod
    def load(cls, path: Path) -> "Latents":
        """Read a file. Raises Problem if it is missing, damaged or something else."""
        needed(path, "python -m vae.encode")
        remedy = "delete it and run `python -m vae.encode` again"
        with open_hdf5(path, remedy, compressed=None) as file:
            if (file.attrs.get("format"), file.attrs.get("version")) != (FORMAT, VERSION):
                raise Problem(f"{path} is not a latents file of version {VERSION}: {remedy}")
            check(file, path.stat().st_size)
            series = {field.name: file[field.name][:] for field in fields(cls) if field.name in file}
            latents = cls(**{"groups": np.array([len(series["episode_starts"])]), **series})
            if {len(getattr(latents, name)) for name in ("mu", "logvar", *SERIES)} != {latents.frames}:
                raise ValueError("its series differ in length")
            starts, groups = latents.episode_starts, latents.groups
            if starts[0] != 0 or (latents.lengths <= 0).any() or groups.sum() != len(starts) or (groups <= 0).any():
                raise ValueError("its episodes do not fit its frames")
            if latents.mu.shape != latents.logvar.shape or latents.mu.ndim != 2:
                raise ValueError(f"mu {latents.mu.shape}, logvar {latents.logvar.shape}")
        return latents

    @property
    def frames(self) -> int:
        """F, of all episodes."""
        return len(self.mu)

    @property
    def episodes(self) -> int:
        return len(self.episode_starts)

    @property
    def lengths(self) -> np.ndarray:
        """(episodes,) int64, frames of each."""
        return np.diff(self.episode_starts, append=self.frames)

    def active(self) -> np.ndarray:
        """Which dimensions V uses, (Z,) bool: their KL from N(0, 1) is above ACTIVE_NATS on average. The others are noise."""
        from vae.model import kl_divergence

        rows = slice(None, None, -(-self.frames // SAMPLE))
        mu, logvar = (part[rows].astype(np.float32) for part in (self.mu, self.logvar))
        return np.asarray(np.asarray(kl_divergence(mu, logvar)).mean(axis=0) > ACTIVE_NATS)

    def split(self, val_ratio: float) -> tuple[np.ndarray, np.ndarray]:
        """Training and validation episodes, the same as Rollouts.split gives."""
        return split_episodes(self.groups.tolist(), val_ratio)


def write_latents(path: Path, parts: Iterable[tuple[np.ndarray, np.ndarray]], sequences: Sequences) -> None:
    """Write a latents file atomically from mu and logvar in parts, (n, Z) each, and everything else recorded."""
    frames, row = int(sequences.lengths.sum()), 0
    with written(path, libver="earliest") as (file, _):
        file.attrs.update({"format": FORMAT, "version": VERSION})
        for name in SERIES:
            file[name] = getattr(sequences, name)
        file["episode_starts"] = np.cumsum(sequences.lengths) - sequences.lengths
        file["groups"] = np.asarray(sequences.groups)
        for mu, logvar in parts:
            for name, values in (("mu", mu), ("logvar", logvar)):
                series = file.require_dataset(name, (frames, values.shape[1]), np.float16)
                series[row : row + len(values)] = values
            row += len(mu)
        if row != frames:
            raise ValueError(f"{row} frames were encoded of {frames} recorded")
