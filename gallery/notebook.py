"""Pictures, plots and videos, as a notebook shows them."""

import base64
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from IPython.display import Image, Video
from PIL import Image as Picture

from controller.scores import NOT_MEASURED
from viz.curves import Curves, Histogram, draw_panels
from viz.frames import Labelled, evenly
from viz.strips import strip
from viz.video import save_mp4, side_by_side

DPI = 90  # of plots: some 15 KB a panel
SCALE = 3  # screen pixels to a pixel of V, in videos


def png(picture: np.ndarray) -> bytes:
    """A picture (h, w, 3) uint8 as a PNG file of 256 colours, a third of the bytes.

    They cover all that there are, rare ones such as a fireball's too, instead of doing best on average.
    """
    file = io.BytesIO()
    few = Picture.fromarray(picture).quantize(256, Picture.Quantize.MAXCOVERAGE, dither=Picture.Dither.NONE)
    few.save(file, format="PNG", optimize=True)
    return file.getvalue()


def rows(frames: Labelled, columns: Sequence[str] = ()) -> Image:
    """Rows of frames under each other, each with its label, and what stands over each column."""
    return Image(png(strip(frames, columns)))


def timeline(frames: Labelled, steps: int | None = None, fps: float | None = None, count: int = 8) -> Image:
    """`count` frames of each row, evenly over so many steps (those of the longest), and when they are; see evenly."""
    return rows(*evenly(frames, count, steps or max(map(len, frames.values())), fps))


def plot(panels: Sequence[Curves | Histogram]) -> Image | str:
    """Panels in one figure, or a word where the run has nothing to show."""
    if not panels:
        return NOT_MEASURED
    drawn = Picture.open(io.BytesIO(draw_panels(panels, DPI)))
    return Image(png(np.asarray(drawn.convert("RGB"))))


def video(frames: Labelled, fps: float, scale: int = SCALE) -> Video:
    """Videos next to each other, kept in the notebook itself; until they are played, their first frame is shown."""
    first = base64.b64encode(png(next(side_by_side(frames, scale)))).decode()
    attributes = f'controls loop muted poster="data:image/png;base64,{first}"'
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        save_mp4(path, side_by_side(frames, scale), fps)
        return Video(path.read_bytes(), embed=True, mimetype="video/mp4", html_attributes=attributes)
