"""Sliders and a box to type into: pictures that a notebook draws anew as its reader asks. They need a running kernel."""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import numpy as np

from experiment.problem import Problem
from gallery.branch import Branch
from gallery.exhibit import Exhibit
from gallery.notebook import png
from gallery.stepping import Steps
from viz.frames import enlarge, evenly
from viz.strips import strip

SCALE = 6  # screen pixels to a pixel of V, where there is one picture


def temperature_slider(branch: Branch, steps: int, count: int = 10) -> ipywidgets.VBox:
    """A dream from one moment, C acting, at a temperature that the slider sets: `count` frames of it."""
    slider = ipywidgets.FloatSlider(1.0, min=0.1, max=2.0, step=0.05, description="τ", continuous_update=False)

    def draw(temperature: float) -> np.ndarray:
        dreamt = branch.with_controller(steps, temperature)
        return strip({f"τ {temperature:g}": evenly(dreamt.frames, count, steps)})

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
        return enlarge(exhibit.agent.vae.pictures(changed[None])[0], SCALE)

    return _redrawn(sliders, draw)


def typed_steps(steps: Steps, count: int = 10) -> ipywidgets.VBox:
    """A box to type actions into; below it the last frames that the model has predicted under them."""
    box = ipywidgets.Text(placeholder=steps.actions, description="action", continuous_update=False)
    box.layout.width = "90%"
    said = ipywidgets.Label()
    picture = ipywidgets.Image(format="png")

    def draw() -> None:
        frames = np.stack(steps.frames[-count:])
        scale = max(1, round(96 / frames.shape[1]))
        picture.value = png(strip({f"step {len(steps.frames) - 1}\n{steps.words[-1]}": frames}, scale))

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
