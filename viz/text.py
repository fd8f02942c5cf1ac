"""Text as pixels, for labels beside frames and captions over videos."""

from functools import lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER = (34, 34, 34), (255, 255, 255)


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
