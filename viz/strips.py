"""Strips: rows of frames, one labelled row under the other."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiment.files import atomic
from viz.frames import Labelled, enlarge
from viz.text import text_image, text_size

MARGIN = 8  # pixels around everything, and between label and frames
GAP = 2  # pixels between frames
ROW_GAP = 6  # pixels between rows
LINE = 11  # characters of a label after which it goes on in another line


def strip(rows: Labelled, columns: Sequence[str] = (), scale: int = 2) -> np.ndarray:
    """Lay rows of frames out under each other, each with its label on the left.

    columns: what stands over each column, where all frames are as wide; a row that is shorter leaves the others empty.
    scale: whole number of screen pixels per frame pixel.
    Returns one picture, (height, width, 3) uint8.
    """
    lines = {label: textwrap.fill(label, LINE, break_long_words=False, break_on_hyphens=False) for label in rows}
    large = {lines[label]: enlarge(row, scale) for label, row in rows.items()}  # (n, h·scale, w·scale, 3)
    frames = list(large.values())
    size = max(11, min(24, frames[0].shape[1] // 5))  # seven columns of 128 pixels can be read on a phone
    left = max(text_size(label, size)[0] for label in large) + 2 * MARGIN
    width = left + max(max(len(row), len(columns)) * (row.shape[2] + GAP) - GAP for row in frames) + MARGIN
    top = MARGIN + max((text_size(column, size)[1] + MARGIN for column in columns), default=0)
    height = top + sum(row.shape[1] for row in frames) + ROW_GAP * (len(rows) - 1) + MARGIN
    picture = np.full((height, width, 3), 255, np.uint8)
    for i, column in enumerate(columns):
        w = frames[0].shape[2] - MARGIN
        x = left + i * (w + MARGIN + GAP) + MARGIN // 2
        picture[:top, x : x + w] = text_image(column, w, top, size)
    for label, row in large.items():
        n, h, w, _ = row.shape
        picture[top : top + h, MARGIN : left - MARGIN] = text_image(label, left - 2 * MARGIN, h, size, align="right")
        for i in range(n):
            x = left + i * (w + GAP)
            picture[top : top + h, x : x + w] = row[i]
        top += h + ROW_GAP
    return picture


def save_strip(path: Path | str, rows: Labelled, columns: Sequence[str] = ()) -> None:
    """Write `strip(rows, columns)` as PNG."""
    picture = strip(rows, columns)
    with atomic(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG")
