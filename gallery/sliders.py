"""Sliders and a box to type into: pictures that a notebook draws anew as its reader asks. They need a running kernel."""

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import numpy as np

from experiment.problem import Problem
from gallery.branch import Branch
from gallery.exhibit import Exhibit
from gallery.notebook import png
from gallery.stepping import Steps, describe_actions
from viz.frames import enlarge, evenly
from viz.strips import strip

SCALE = 6  # screen pixels to a pixel of V, where there is one picture


def temperature_slider(branch: Branch, steps: int, count: int = 10) -> ipywidgets.VBox:
    """A dream from one moment, C acting, at a temperature that the slider sets: `count` frames of it."""
    slider = ipywidgets.FloatSlider(1.0, min=0.1, max=2.0, step=0.05, description="τ", continuous_update=False)

    def draw(temperature: float) -> np.ndarray:
        dreamt = branch.with_controller(steps, temperature)
        return strip(*evenly({f"τ {temperature:g}": dreamt.frames}, count, steps, branch.exhibit.world.fps))

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
    wanted = f"{describe_actions(steps.world)}; x5 behind it repeats"
    box = ipywidgets.Text(placeholder=wanted, description="action", continuous_update=False)
    box.layout.width = "90%"
    said = ipywidgets.Label()
    picture = _picture()

    def draw() -> None:
        done = [f"step {step}\n{words}" for step, words in enumerate(steps.words)]
        frames = np.stack(steps.frames[-count:])
        picture.value = png(strip({"": frames}, done[-count:], max(1, round(96 / frames.shape[1]))))

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


def _picture() -> ipywidgets.Image:
    """Where a picture is shown as large as it is; a VBox would stretch it to its own width."""
    return ipywidgets.Image(format="png", layout={"align_self": "flex-start", "max_width": "100%"})


def _redrawn(sliders: Sequence[ipywidgets.FloatSlider], draw: Callable[..., np.ndarray]) -> ipywidgets.VBox:
    """Sliders, and what `draw` makes of their values, drawn anew when one is moved."""
    picture = _picture()

    def update(_: Any = None) -> None:
        picture.value = png(draw(*(slider.value for slider in sliders)))

    for slider in sliders:
        slider.observe(update, "value")
    update()
    return ipywidgets.VBox([*sliders, picture])
