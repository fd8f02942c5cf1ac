"""The pictures of a run that are kept: strips, GIFs and plots, small enough for a README."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from controller.agent import Recording
from controller.report import Results
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import OFFLINE
from gallery.branch import TEMPERATURES, at_temperatures, compare, eventful_branch
from gallery.exhibit import Exhibit
from openloop.report import error_panel, relative_panel, with_figures
from viz.curves import save_panels
from viz.frames import Labelled, Table, evenly
from viz.strips import save_strip
from viz.video import save_gif, side_by_side

LIMIT = 2_000_000  # bytes of a GIF, at most
FRAMES = (120, 90, 60, 40, 25)  # of a GIF: as many as the limit allows
SECONDS = 2.0  # of the real world that M dreams beside
DREAMT = 10.0  # seconds of a dream that is shown alone
EPISODE = 1000  # steps of the real world that are looked at, at most
COLUMNS = 7  # frames in a strip
DIMENSIONS = 6  # of V's latent space


def save_all(runs: Sequence[Run], out: Path, seed: int) -> Iterator[Path]:
    """All pictures of some runs; yields each file.

    Raises Problem for an agent without weights, two agents of one world, or if there is nothing to draw.
    """
    agents = [results for results in map(Results, runs) if results.settings.env.name not in OFFLINE]
    names = [agent.settings.env.name for agent in agents]
    if twice := [str(agent.run.path) for agent, name in zip(agents, names, strict=True) if names.count(name) > 1]:
        raise Problem(f"{' and '.join(twice)} would be drawn into the same files: draw one at a time, with --out")
    measured = with_figures(runs)
    if not agents and not measured:
        raise Problem("there is nothing to draw of an unmeasured next-frame model: run `python -m openloop` first")
    for results in agents:
        yield from save_agent(Exhibit(results.run), out, seed)
        for what, panels in results.panels("training", "temperatures", "returns").items():
            path = out / f"{results.settings.env.name}_{what}.png"
            save_panels(path, panels)
            yield path
    if measured:
        path = out / "compounding_error.png"
        save_panels(path, [*(error_panel(run) for run in measured), relative_panel(measured)])
        yield path


def save_agent(exhibit: Exhibit, out: Path, seed: int) -> Iterator[Path]:
    """Everything that shows V, M and C at work."""
    world, recording = exhibit.world, exhibit.live(seed, EPISODE)
    branch, steps = eventful_branch(exhibit, recording, SECONDS), exhibit.steps(SECONDS)

    def path(what: str) -> Path:
        return out / f"{exhibit.settings.env.name}_{what}"

    def gif(what: str, frames: Labelled, scale: int) -> Path:
        save_small_gif(path(f"{what}.gif"), frames, world.fps, scale)
        return path(f"{what}.gif")

    def rows(what: str, table: Table) -> Path:
        save_strip(path(f"{what}.png"), *table)
        return path(f"{what}.png")

    same = compare(branch, steps)
    yield gif("imagined", same, scale=2)
    yield rows("imagined", evenly(same, COLUMNS, steps, world.fps))
    warm = at_temperatures(branch, 2 * steps, TEMPERATURES)
    yield gif("dreams", warm, scale=2)
    yield rows("dreams", evenly(warm, COLUMNS, 2 * steps, world.fps))
    temperature = exhibit.settings.dream.temperature
    dream = branch.with_controller(exhibit.steps(DREAMT), temperature)
    yield gif("dream", {f"a dream, τ {temperature:g}": dream.frames}, scale=3)
    dimensions = exhibit.liveliest(recording, DIMENSIONS)
    yield rows("latent", exhibit.traverse(recording.z[branch.at], dimensions))
    if shown := details(exhibit, recording):
        yield rows(world.detail, shown)


def details(exhibit: Exhibit, recording: Recording) -> Table | None:
    """Frames that show most of what is small and matters, one of each part of the episode that shows any, V's pictures
    of them, and when they were; None where nothing does.
    """
    shown = exhibit.world.shows_detail(recording.frames).sum(axis=(1, 2))  # (T,) pixels
    parts = [part for part in np.array_split(np.arange(len(shown)), COLUMNS) if shown[part].any()]
    if not parts:
        return None
    best = np.array([part[shown[part].argmax()] for part in parts])
    frames = {"real": recording.frames[best], "V's reconstruction": exhibit.agent.vae.pictures(recording.z[best])}
    return frames, [f"{step / exhibit.world.fps:.1f} s" for step in best]


def save_small_gif(path: Path, frames: Labelled, fps: float, scale: int) -> None:
    """Videos next to each other as a GIF below LIMIT. Raises Problem where even few frames are too much."""
    for most in FRAMES:
        shown = side_by_side(frames, scale)
        save_gif(path, shown, fps, most, width=10_000)
        if path.stat().st_size < LIMIT:
            return
    raise Problem(f"{path} has {path.stat().st_size / 1e6:.1f} MB with {FRAMES[-1]} frames: show fewer steps")
