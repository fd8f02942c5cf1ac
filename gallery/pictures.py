"""The pictures of a run that are kept: strips, GIFs and plots, small enough for a README."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from controller.agent import Recording
from experiment.problem import Problem
from experiment.run import Run
from gallery.branch import TEMPERATURES, at_temperatures, compare, eventful_branch
from gallery.compounding import error_panel, measured, relative_panel
from gallery.exhibit import Exhibit
from gallery.latent import liveliest, traverse
from gallery.results import Results
from viz.curves import save_panels
from viz.strips import evenly, save_strip
from viz.video import save_gif, side_by_side

LIMIT = 2_000_000
"""Bytes of a GIF, at most."""
FRAMES = (120, 90, 60, 40, 25)
"""Of a GIF: as many as the limit allows."""
SECONDS = 2.0
"""Of the real world that M dreams beside."""
DREAMT = 10.0
"""Seconds of a dream that is shown alone."""
EPISODE = 1000
"""Steps of the real world that are looked at, at most."""
COLUMNS = 9
"""Frames in a strip."""
DIMENSIONS = 6
"""Of V's latent space."""
Said = Callable[[Path], None]


def save_agent(exhibit: Exhibit, out: Path, seed: int, said: Said) -> None:
    """Everything that shows V, M and C at work; `said` is told of each file."""
    name, world = exhibit.settings.env.name, exhibit.world
    recording = exhibit.live(seed, EPISODE)
    branch, steps = eventful_branch(exhibit, recording, SECONDS), exhibit.steps(SECONDS)

    def path(what: str) -> Path:
        return out / f"{name}_{what}"

    same = compare(branch, steps)
    save_small_gif(path("imagined.gif"), same, world.fps, scale=2)
    said(path("imagined.gif"))
    save_strip(path("imagined.png"), [evenly(frames, COLUMNS, steps) for frames in same.values()], list(same))
    said(path("imagined.png"))

    warm = at_temperatures(branch, 2 * steps, TEMPERATURES)
    save_small_gif(path("dreams.gif"), warm, world.fps, scale=2)
    said(path("dreams.gif"))
    save_strip(path("dreams.png"), [evenly(frames, COLUMNS, 2 * steps) for frames in warm.values()], list(warm))
    said(path("dreams.png"))

    (dream,) = branch.with_controller(exhibit.steps(DREAMT), exhibit.settings.dream.temperature)
    label = f"a dream, τ {exhibit.settings.dream.temperature:g}"
    save_small_gif(path("dream.gif"), {label: dream.frames}, world.fps, scale=3)
    said(path("dream.gif"))

    dimensions = liveliest(exhibit, recording, DIMENSIONS)
    varied = traverse(exhibit, recording.z[branch.at], dimensions)
    save_strip(path("latent.png"), list(varied.values()), list(varied))
    said(path("latent.png"))
    rows = details(exhibit, recording)
    if rows is not None:
        save_strip(path(f"{world.detail}.png"), rows, ["real", "V's reconstruction"])
        said(path(f"{world.detail}.png"))


def details(exhibit: Exhibit, recording: Recording) -> list[np.ndarray] | None:
    """Frames that show most of what is small and matters, one of each part of the episode that shows any, and V's
    pictures of them; None where nothing does.
    """
    shown = exhibit.world.shows_detail(recording.frames).sum(axis=(1, 2))  # (T,) pixels
    parts = [part for part in np.array_split(np.arange(len(shown)), COLUMNS) if shown[part].any()]
    if not parts:
        return None
    best = np.array([part[shown[part].argmax()] for part in parts])
    return [recording.frames[best], exhibit.agent.vae.pictures(recording.z[best])]


def save_results(results: Results, out: Path, said: Said) -> None:
    """The plots of what a run has measured, as far as it has."""
    name = results.settings.env.name
    for what, panels in (
        ("training", results.training()),
        ("temperatures", results.temperatures()),
        ("returns", results.returns()),
    ):
        if panels:
            path = out / f"{name}_{what}.png"
            save_panels(path, panels)
            said(path)


def save_compounding(runs: Sequence[Run], out: Path, said: Said) -> None:
    """compounding_error.png: the open-loop curves of the runs that have any, and all of them in one panel."""
    if runs := measured(runs):
        path, panels = out / "compounding_error.png", [error_panel(run) for run in runs]
        save_panels(path, [*panels, relative_panel(runs)])
        said(path)


def save_small_gif(path: Path, frames: dict[str, np.ndarray], fps: float, scale: int) -> None:
    """Videos next to each other as a GIF below LIMIT. Raises Problem where even few frames are too much."""
    for most in FRAMES:
        shown = side_by_side(list(frames.values()), list(frames), scale)
        save_gif(path, shown, fps, most, width=10_000)
        if path.stat().st_size < LIMIT:
            return
    raise Problem(f"{path} has {path.stat().st_size / 1e6:.1f} MB with {FRAMES[-1]} frames: show fewer steps")
