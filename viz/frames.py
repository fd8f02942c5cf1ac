"""Frames as numbers and as colours, whoever they are of."""

from collections.abc import Mapping

import numpy as np

Labelled = Mapping[str, np.ndarray]  # label -> frames (T, h, w, 3) uint8; T, h and w may differ


def to_unit(frames: np.ndarray) -> np.ndarray:
    """Frames as float32 in [0, 1]: uint8 is divided by 255, floats are taken as they are.

    Of tensors: vae.model.to_unit.
    """
    return frames.astype(np.float32) / np.float32(255) if frames.dtype == np.uint8 else frames.astype(np.float32)


def to_rgb(frames: np.ndarray) -> np.ndarray:
    """Frames (..., h, w, 1 or 3), uint8 or float in [0, 1], as uint8 (..., h, w, 3)."""
    frames = frames if frames.dtype == np.uint8 else np.round(frames.clip(0, 1) * 255).astype(np.uint8)
    return np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames
