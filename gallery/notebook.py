"""Pictures, plots, videos and sliders, as a notebook shows them."""

import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
from IPython.display import Image, Video
from PIL import Image as Picture

from controller.report import decode
from experiment.problem import Problem
from gallery.branch import Branch, evenly
from gallery.compounding import Steps
from gallery.exhibit import Exhibit
from viz.curves import Curves, Histogram, draw_panels
from viz.strips import enlarge, strip
from viz.video import save_mp4, side_by_side

DPI = 80
"""Of plots: some 40 KB a panel."""
SCALE = 3
"""Screen pixels to a pixel of V, in videos and sliders."""
Frames = Mapping[str, np.ndarray]
"""Label -> (T, h, w, 3) uint8."""


def png(picture: np.ndarray) -> bytes:
    """A picture (h, w, 3) uint8 as a PNG file."""
    file = io.BytesIO()
    Picture.fromarray(picture).save(file, format="PNG", optimize=True)
    return file.getvalue()


def rows(frames: Frames, scale: int = 1) -> Image:
    """Rows of frames under each other, each with its label."""
    return Image(png(strip(list(frames.values()), list(frames), scale)))


def plot(panels: Sequence[Curves | Histogram], columns: int = 2) -> Image | str:
    """Panels in one figure, or a word where the run has nothing to show."""
    if not panels:
        return "This run has not measured that."
    file = io.BytesIO()
    draw_panels(panels, columns).savefig(file, format="png", dpi=DPI)
    return Image(file.getvalue())


def video(frames: Frames, fps: float, scale: int = SCALE) -> Video:
    """Videos next to each other, kept in the notebook itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        save_mp4(path, side_by_side(list(frames.values()), list(frames), scale), fps)
        return Video(path.read_bytes(), embed=True, mimetype="video/mp4", html_attributes="controls loop muted")


def temperature_slider(branch: Branch, steps: int, count: int = 10) -> ipywidgets.VBox:
    """A dream from one moment, C acting, at a temperature that the slider sets: `count` frames of it."""
    slider = ipywidgets.FloatSlider(1.0, min=0.1, max=2.0, step=0.05, description="τ", continuous_update=False)

    def draw(temperature: float) -> np.ndarray:
        (dreamt,) = branch.with_controller(steps, temperature)
        return strip([evenly(dreamt.frames, count, steps)], [f"τ {temperature:g}"], 2)

    return _redrawn([slider], draw)


def latent_sliders(exhibit: Exhibit, z: np.ndarray, dimensions: Sequence[int]) -> ipywidgets.VBox:
    """V's picture of z (Z,), with a slider for each of some dimensions."""
    sliders = [
        ipywidgets.FloatSlider(float(z[dimension]), min=-4, max=4, step=0.1, description=f"z[{dimension}]")
        for dimension in dimensions
    ]

    def draw(*values: float) -> np.ndarray:
        changed = z.copy()
        changed[list(dimensions)] = values
        return enlarge(decode(exhibit.agent.vae, changed[None])[0], 2 * SCALE)

    return _redrawn(sliders, draw)


def typed_steps(steps: Steps, count: int = 10) -> ipywidgets.VBox:
    """A box to type actions into; below it the last frames that the model has predicted under them."""
    box = ipywidgets.Text(placeholder=steps.actions, description="action", continuous_update=False)
    box.layout.width = "90%"
    said = ipywidgets.Label()
    picture = ipywidgets.Image(format="png")

    def draw() -> None:
        frames = np.stack(steps.frames[-count:])
        picture.value = png(strip([frames], [f"step {len(steps.frames) - 1}\n{steps.words[-1]}"], 1))

    def submit(change: Any) -> None:
        if not change["new"]:
            return
        try:
            steps.type(change["new"])
            said.value = ""
        except Problem as problem:
            said.value = str(problem)
        box.value = ""
        draw()

    box.observe(submit, "value")
    draw()
    return ipywidgets.VBox([box, said, picture])


def _redrawn(sliders: Sequence[ipywidgets.FloatSlider], draw: Callable[..., np.ndarray]) -> ipywidgets.VBox:
    """Sliders, and what `draw` makes of their values, drawn anew when one is moved."""
    picture = ipywidgets.Image(format="png")

    def update(_: Any = None) -> None:
        picture.value = png(draw(*(slider.value for slider in sliders)))

    for slider in sliders:
        slider.observe(update, "value")
    update()
    return ipywidgets.VBox([*sliders, picture])
