"""Frames as numbers and as colours, whoever they are of, and text as pixels, for labels and captions."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER = (34, 34, 34), (255, 255, 255)
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


def enlarge(frames: np.ndarray, scale: int) -> np.ndarray:
    """Repeat every pixel: (..., h, w, 3) uint8 to (..., h·scale, w·scale, 3)."""
    if frames.dtype != np.uint8 or frames.ndim < 3 or frames.shape[-1] != 3:
        raise ValueError(f"frames must be uint8 with shape (..., h, w, 3), not {frames.dtype} with {frames.shape}")
    return frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


def evenly(frames: np.ndarray, count: int, steps: int) -> np.ndarray:
    """Every so many of the frames (T, ...) that there would be `count` of `steps`; fewer where T is less."""
    chosen = np.linspace(0, steps - 1, count).round().astype(int)
    return frames[chosen[chosen < len(frames)]]


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and has the Greek letters, at a size in pixels."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def text_size(text: str, size: int) -> tuple[int, int]:
    """Width and height in pixels of a text, which may have several lines."""
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font=font(size), spacing=size // 4)
    return int(np.ceil(box[2])), int(np.ceil(box[3]))


@lru_cache(maxsize=32)
def text_image(text: str, width: int, height: int, size: int, align: str = "center") -> np.ndarray:
    """A text in the middle of a (height, width, 3) uint8 picture; `size` shrinks, to 8 at least, until it fits."""
    while size > 8 and (text_size(text, size)[0] > width or text_size(text, size)[1] > height):
        size -= 1
    image = Image.new("RGB", (width, height), PAPER)
    anchor, x = {"center": ("mm", width // 2), "right": ("rm", width)}[align]
    ImageDraw.Draw(image).multiline_text(
        (x, height // 2), text, fill=INK, font=font(size), anchor=anchor, align=align, spacing=size // 4
    )
    return np.asarray(image)
