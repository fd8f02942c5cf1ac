"""Strips: rows of frames, one labelled row under the other."""

from pathlib import Path

import numpy as np
from PIL import Image

from experiment.files import atomic
from viz.frames import Labelled, enlarge
from viz.text import text_image, text_size

MARGIN = 8  # pixels around everything, and between label and frames
GAP = 2  # pixels between frames
ROW_GAP = 6  # pixels between rows


def strip(rows: Labelled, scale: int = 2) -> np.ndarray:
    """Lay rows of frames out under each other, each with its label on the left, which may contain newlines.

    scale: whole number of screen pixels per frame pixel.
    Returns one picture, (height, width, 3) uint8.
    """
    large = {label: enlarge(row, scale) for label, row in rows.items()}  # (n, h·scale, w·scale, 3)
    frames = list(large.values())
    size = max(11, min(18, frames[0].shape[1] // 6))
    left = max(text_size(label, size)[0] for label in rows) + 2 * MARGIN
    width = left + max(len(row) * (row.shape[2] + GAP) - GAP for row in frames) + MARGIN
    height = 2 * MARGIN + sum(row.shape[1] for row in frames) + ROW_GAP * (len(rows) - 1)
    picture = np.full((height, width, 3), 255, np.uint8)
    top = MARGIN
    for label, row in large.items():
        n, h, w, _ = row.shape
        picture[top : top + h, MARGIN : left - MARGIN] = text_image(label, left - 2 * MARGIN, h, size, align="right")
        for i in range(n):
            x = left + i * (w + GAP)
            picture[top : top + h, x : x + w] = row[i]
        top += h + ROW_GAP
    return picture


def save_strip(path: Path | str, rows: Labelled, scale: int = 2) -> None:
    """Write `strip(rows, scale)` as PNG."""
    picture = strip(rows, scale)
    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
