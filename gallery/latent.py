"""V's latent space, one dimension at a time."""

from collections.abc import Sequence

import numpy as np

from controller.agent import Recording
from gallery.exhibit import Exhibit
from vae.model import DECODED_AT_ONCE

VALUES = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # where a dimension is looked at: V's prior is a standard normal


def means(exhibit: Exhibit, recording: Recording) -> np.ndarray:
    """V's mu of an episode's frames, (T, Z): z without its noise."""
    parts = np.array_split(recording.frames, -(-len(recording.frames) // DECODED_AT_ONCE))
    return np.concatenate([np.asarray(exhibit.agent.vae.encode(part)[0]) for part in parts])


def liveliest(exhibit: Exhibit, recording: Recording, count: int) -> list[int]:
    """The dimensions whose mu varies most over an episode, most first.

    In those that V does not use, mu stays near 0 and z is noise.
    """
    return np.argsort(-means(exhibit, recording).var(axis=0), kind="stable")[:count].tolist()


def vary(z: np.ndarray, dimension: int, values: Sequence[float]) -> np.ndarray:
    """The latent z (Z,), with one dimension at each of n values: (n, Z)."""
    varied = np.repeat(np.asarray(z, np.float32)[None], len(values), axis=0)
    varied[:, dimension] = values
    return varied


def traverse(
    exhibit: Exhibit, z: np.ndarray, dimensions: Sequence[int], values: Sequence[float] = VALUES
) -> dict[str, np.ndarray]:
    """V's pictures of z (Z,) with each of the dimensions at each value: label -> (n, 64, 64, 3) uint8."""
    return {f"z[{dimension}]": exhibit.agent.vae.pictures(vary(z, dimension, values)) for dimension in dimensions}
