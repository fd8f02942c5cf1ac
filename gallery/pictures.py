"""The pictures of a run that are kept: strips, GIFs and plots, small enough for a README."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from controller.agent import Recording
from controller.report import decode
from experiment.problem import Problem
from experiment.run import Run
from gallery.branch import TEMPERATURES, at_temperatures, compare, eventful_branch
from gallery.compounding import error_panel, measured, relative_panel
from gallery.exhibit import Exhibit
from gallery.expected import episode_panels, expect, mixture_panels
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

    real = {
        f"{world.score} {recording.rewards.sum():,.0f}, {len(recording.z):,} {world.step}s": recording.frames,
        "V's reconstruction": exhibit.reconstruct(recording),
    }
    save_small_gif(path("game.gif"), real, world.fps, scale=3)
    said(path("game.gif"))
    (dream,) = branch.with_controller(EPISODE, exhibit.settings.dream.temperature)
    label = f"a dream, τ {exhibit.settings.dream.temperature:g}, {len(dream.z):,} {world.step}s"
    save_small_gif(path("dream.gif"), {label: dream.frames}, world.fps, scale=4)
    said(path("dream.gif"))

    dimensions = liveliest(exhibit, recording, DIMENSIONS)
    varied = traverse(exhibit, recording.z[branch.at], dimensions)
    save_strip(path("latent.png"), list(varied.values()), list(varied))
    said(path("latent.png"))
    expected = expect(exhibit, recording)
    panels = mixture_panels(expected, recording, branch.at, dimensions[:2])
    save_panels(path("expected.png"), panels + episode_panels(exhibit, recording, expected, dimensions))
    said(path("expected.png"))
    rows = details(exhibit, recording)
    if rows is not None:
        save_strip(path(f"{world.detail}.png"), rows, ["real", "V's reconstruction"])
        said(path(f"{world.detail}.png"))


def details(exhibit: Exhibit, recording: Recording) -> list[np.ndarray] | None:
    """COLUMNS frames that show most of what is small and matters, each the best of its part of the episode, and V's
    pictures of them; None where there are not that many.
    """
    shown = exhibit.world.shows_detail(recording.frames).sum(axis=(1, 2))  # (T,) pixels
    parts = np.array_split(np.arange(len(shown)), COLUMNS)
    best = np.array([part[shown[part].argmax()] for part in parts if len(part)])
    if len(best) < COLUMNS or not shown[best].all():
        return None
    return [recording.frames[best], decode(exhibit.agent.vae, recording.z[best])]


def save_results(results: Results, out: Path, said: Said) -> None:
    """The plots of what a run has measured, as far as it has."""
    name = results.settings.env.name
    for what, panels in (
        ("training", results.training()),
        ("temperatures", results.temperatures()),
        ("returns", results.returns()),
        ("losses", results.losses()),
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
