"""How prediction error compounds: the curves of several runs, and a model that is stepped through by hand."""

import copy
import itertools
import shlex
from collections.abc import Sequence

import numpy as np

from controller.agent import Recording
from envs.worlds import world_of
from experiment.metrics import damaged, read_metrics_rows
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from gallery.exhibit import Exhibit
from gallery.runs import title
from openloop.interactive import Session, begin, describe_actions, read_command
from openloop.predictor import kind_of, open_run
from openloop.report import COLOURS
from openloop.table import UNITS, names
from openloop.windows import Batch
from viz.curves import DARK_PALETTE, Curves
from viz.frames import to_rgb


def error_panel(run: Run, metric: str = "mse") -> Curves:
    """Every curve of `python -m openloop` of a run, with its band. Raises Problem where it has not been run.

    metric: mse, psnr or ssim.
    """
    curves = _curves(run)
    draws = run.read_results().get("openloop", {}).get("draws", 1)
    shown = names(draws)
    series = {
        shown[name]: (of["horizon"], of[metric], np.stack([of[f"{metric}_low"], of[f"{metric}_high"]]))
        for name, of in curves.items()
    }
    heading = f"{title(run)}: {UNITS[metric]} against horizon"
    colours = {shown[name]: colour for name, colour in COLOURS.items()}
    return Curves(series, "horizon (steps)", UNITS[metric], heading, colours=colours)


def relative_panel(runs: Sequence[Run]) -> Curves:
    """Open-loop MSE of several runs, as a share of the MSE of copying the last frame: below 1, predicting pays."""
    series = {}
    for run in runs:
        curves = _curves(run)
        ours, still = curves["open_loop"], curves["copy"]
        series[title(run)] = ours["horizon"], ours["mse"] / still["mse"]
    heading = "Open-loop error relative to copying"
    # Here a colour stands for a run, so none of them is that of a curve beside it.
    colours = dict(zip(series, itertools.cycle(DARK_PALETTE), strict=False))
    return Curves(series, "horizon (steps)", "MSE / MSE of the copy", heading, hlines={"copy": 1}, colours=colours)


def _curves(run: Run) -> dict[str, dict[str, np.ndarray]]:
    """metrics/openloop.csv: curve -> column -> (H,)."""
    path = run.metrics / "openloop.csv"
    rows = read_metrics_rows(path, text=["curve"])
    if not rows:
        raise Problem(
            f"{run.path} has no metrics/openloop.csv: run `python -m openloop {shlex.quote(str(run.path))}` first"
        )
    columns = ["horizon", *(metric + end for metric in UNITS for end in ("", "_low", "_high"))]
    curves = {
        curve: {name: np.array([float(row[name]) for row in rows if row["curve"] == curve]) for name in columns}
        for curve in dict.fromkeys(row["curve"] for row in rows)
    }
    lengths = {len(of["horizon"]) for of in curves.values()}
    if not {"open_loop", "copy"} <= curves.keys() <= names(1).keys() or len(lengths) > 1:
        raise damaged(path, "it lacks a curve, or a part of one")
    return curves


def measured(runs: Sequence[Run]) -> list[Run]:
    """Those of the runs that `python -m openloop` has measured."""
    return [run for run in runs if (run.metrics / "openloop.csv").exists()]


class Steps:
    """A model stepped through under actions that are typed, as in `python -m openloop.interactive`."""

    def __init__(self, session: Session, settings: Experiment):
        self.session, self.name, self.world = session, settings.env.name, world_of(settings)
        self.frames = [to_rgb(session.begun)]
        """The last recorded frame, and those predicted since, (h, w, 3) uint8 each."""
        self.words = ["recorded"]
        """The action before each."""

    @property
    def actions(self) -> str:
        """What can be typed."""
        return describe_actions(self.world).replace(" or quit", "") + "; x5 behind it repeats"

    def fork(self) -> "Steps":
        """Another that goes on from here by itself."""
        other = copy.copy(self)
        other.session, other.frames, other.words = copy.copy(self.session), list(self.frames), list(self.words)
        return other

    def type(self, *lines: str) -> np.ndarray:
        """Do what lines such as 'left x5' ask for; all frames so far, (T, h, w, 3) uint8. Raises Problem for another line."""
        for line in lines:
            command = read_command(line, self.world)
            if command.action is None and command.times > self.session.left:
                raise Problem(f"the recorded window has {self.session.left} more steps, not {command.times}")
            for _ in range(command.times):
                self.frames.append(to_rgb(self.session.step(command.action)[0]))
                self.words.append(command.word)
        return np.stack(self.frames)


def from_recording(exhibit: Exhibit, recording: Recording, at: int, temperature: float = 1.0) -> Steps:
    """V+M that has seen an episode up to step `at`, to go on from there under other actions."""
    if not 0 <= at < len(recording.frames) - 1:
        raise Problem(f"no frame follows step {at}: the episode has steps 0 to {len(recording.frames) - 1}")
    overrides = ["openloop.dreams=1", f"openloop.temperature={temperature}"]
    settings, run = open_run(str(exhibit.run.path), overrides)
    window = Batch(
        np.zeros(1, np.int64), np.array([len(recording.frames) - at - 1]), recording.frames[None], recording.raw[None]
    )
    return Steps(Session(kind_of(run).load(settings, run), window, at + 1), settings)


def from_window(run: Run, number: int = 0) -> Steps:
    """The model of a run that has seen the context of one of its recorded windows."""
    settings, run = open_run(str(run.path), ["openloop.dreams=1"])
    return Steps(begin(settings, run, number), settings)


def futures(steps: Steps, lines: Sequence[str]) -> dict[str, np.ndarray]:
    """What the model predicts from one moment under each of some lines: line -> (T, h, w, 3) uint8, the moment first."""
    return {line: steps.fork().type(line) for line in lines}


def begin_steps(run: Run, seed: int, steps: int, seconds: float) -> Steps:
    """The model of a run at a moment: where an agent's episode of that seed shows most in the seconds that follow, of so
    many steps at most; a next-frame model in the first of its windows.
    """
    if not run.controller.exists():
        return from_window(run)
    exhibit = Exhibit(run)
    recording = exhibit.live(seed, steps)
    return from_recording(exhibit, recording, exhibit.eventful(recording, exhibit.steps(seconds)))
