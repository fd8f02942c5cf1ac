"""Strips: rows of frames, one labelled row under the other."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiment.files import atomic
from viz.text import text_image, text_size

MARGIN = 8  # pixels around everything, and between label and frames
GAP = 2  # pixels between frames
ROW_GAP = 6  # pixels between rows


def strip(rows: Sequence[np.ndarray], labels: Sequence[str], scale: int = 2) -> np.ndarray:
    """Lay rows of frames out under each other, each with its label on the left.

    rows: each (n, h, w, 3) uint8; n, h and w may differ between rows. labels: one a row; may contain newlines.
    scale: whole number of screen pixels per frame pixel.
    Returns one picture, (height, width, 3) uint8.
    """
    if len(rows) != len(labels) or not rows:
        raise ValueError(f"{len(rows)} rows and {len(labels)} labels: one label is needed for each of one or more rows")
    rows = [enlarge(row, scale) for row in rows]  # (n, h·scale, w·scale, 3)
    size = max(11, min(18, rows[0].shape[1] // 6))
    left = max(text_size(label, size)[0] for label in labels) + 2 * MARGIN
    width = left + max(len(row) * (row.shape[2] + GAP) - GAP for row in rows) + MARGIN
    height = 2 * MARGIN + sum(row.shape[1] for row in rows) + ROW_GAP * (len(rows) - 1)
    picture = np.full((height, width, 3), 255, np.uint8)
    top = MARGIN
    for row, label in zip(rows, labels, strict=True):
        n, h, w, _ = row.shape
        picture[top : top + h, MARGIN : left - MARGIN] = text_image(label, left - 2 * MARGIN, h, size, align="right")
        for i in range(n):
            x = left + i * (w + GAP)
            picture[top : top + h, x : x + w] = row[i]
        top += h + ROW_GAP
    return picture


def save_strip(path: Path | str, rows: Sequence[np.ndarray], labels: Sequence[str], scale: int = 2) -> None:
    """Write `strip(rows, labels, scale)` as PNG."""
    picture = strip(rows, labels, scale)
    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")


def enlarge(frames: np.ndarray, scale: int) -> np.ndarray:
    """Repeat every pixel: (..., h, w, 3) uint8 to (..., h·scale, w·scale, 3)."""
    if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
        raise ValueError(f"frames must be uint8 with shape (..., h, w, 3), not {frames.dtype} with {frames.shape}")
    return frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


def evenly(frames: np.ndarray, count: int, steps: int) -> np.ndarray:
    """Every so many of the frames (T, ...) that there would be `count` of `steps`; fewer where T is less."""
    chosen = np.linspace(0, steps - 1, count).round().astype(int)
    return frames[chosen[chosen < len(frames)]]
