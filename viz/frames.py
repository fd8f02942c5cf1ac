"""Frames as numbers and as colours, whoever they are of."""

from collections.abc import Mapping

import numpy as np

Labelled = Mapping[str, np.ndarray]  # label -> frames (T, h, w, 3) uint8; T, h and w may differ
Table = tuple[Labelled, list[str]]  # rows of frames, and what stands over each column


def to_unit(frames: np.ndarray) -> np.ndarray:
    """Frames as float32 in [0, 1]: uint8 is divided by 255, floats are taken as they are.

    Of tensors: vae.model.to_unit.
    """
    return frames.astype(np.float32) / np.float32(255) if frames.dtype == np.uint8 else frames.astype(np.float32)


def to_rgb(frames: np.ndarray) -> np.ndarray:
    """Frames (..., h, w, 1 or 3), uint8 or float in [0, 1], as uint8 (..., h, w, 3)."""
    frames = frames if frames.dtype == np.uint8 else np.round(frames.clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames


def enlarge(frames: np.ndarray, scale: int) -> np.ndarray:
    """Repeat every pixel: (..., h, w, 3) uint8 to (..., h·scale, w·scale, 3)."""
    if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
        raise ValueError(f"frames must be uint8 with shape (..., h, w, 3), not {frames.dtype} with {frames.shape}")
    return frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


def evenly(frames: Labelled, count: int, steps: int, fps: float | None = None) -> Table:
    """Every so many frames of each row, `count` of so many steps, or fewer where a row ends before; and when they are.

    fps: steps a second; without it, the columns are called by their steps.
    """
    chosen = np.unique(np.linspace(0, steps - 1, count).round().astype(int))
    shown = {label: row[chosen[chosen < len(row)]] for label, row in frames.items()}
    return shown, [f"{step / fps:.1f} s" if fps else f"step {step}" for step in chosen]
