"""What an evaluation leaves behind: the record, CSV files, plots and videos."""

import itertools
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiment.metrics import damaged, read_metrics_rows, write_rows
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Openloop
from openloop.evaluation import Compared, Mean, mean_with_band, survivors
from openloop.record import NAMES, UNITS
from openloop.windows import Window
from viz.curves import DARK_PALETTE, PALETTE, Curves, save_panels
from viz.frames import to_rgb, to_unit
from viz.scores import Scores
from viz.video import save_video, side_by_side

HORIZONS = (1, 5, 10, 32, 64)  # what is said in the record and in the table
FPS = 10  # of the videos: slower than real time, to be looked at
COLOURS = dict(zip(NAMES, PALETTE, strict=False))  # of each curve, whichever others a model has
Means = Mapping[str, Mapping[str, Mean]]  # metric -> curve -> mean and band


def means_of(curves: Mapping[str, Scores], windows: Sequence[Window], settings: Openloop) -> dict[str, dict[str, Mean]]:
    """The mean of every curve, with its band."""
    episodes = np.array([window.episode for window in windows])
    return {
        metric: {name: mean_with_band(getattr(scores, metric), episodes, settings) for name, scores in curves.items()}
        for metric in Scores._fields
    }


def horizons_said(settings: Openloop) -> list[int]:
    """The horizons whose figures are in the record."""
    return sorted({k for k in (*HORIZONS, settings.horizon) if k <= settings.horizon})


def record_of(
    curves: Mapping[str, Scores], means: Means, windows: Sequence[Window], settings: Openloop
) -> dict[str, Any]:
    """The figures at HORIZONS, and at the last: for each, the windows there, every curve as [mean, low, high], and
    how open loop compares with the copy on the same windows: copy's MSE less its own, and where it is the better one.
    """
    episodes, alive = np.array([window.episode for window in windows]), survivors(windows, settings.horizon)
    gain = curves["copy"].mse - curves["open_loop"].mse  # (W, H)
    gained = mean_with_band(gain, episodes, settings)
    figures = {}
    for k in horizons_said(settings):
        if not alive[k - 1]:
            continue
        figures[str(k)] = {
            "windows": int(alive[k - 1]),
            **{
                metric: {name: [float(part[k - 1]) for part in mean] for name, mean in by_curve.items()}
                for metric, by_curve in means.items()
            },
            "mse_gained_on_copy": [float(part[k - 1]) for part in gained],
            "windows_better_than_copy": int((gain[:, k - 1] > 0).sum()),
        }
    return {"windows": len(windows), "episodes": len(np.unique(episodes)), "horizons": figures}


def without_seen(curves: Mapping[str, Scores], seen: np.ndarray, settings: Openloop) -> dict[str, Any]:
    """How many windows begin as training does, see windows.seen_in_training, and MSE without them, at the same horizons.

    seen: (W,) bool.
    """
    figures = {}
    for k in horizons_said(settings):
        errors = {name: curves[name].mse[~seen, k - 1] for name in ("open_loop", "copy")}
        if np.isfinite(errors["copy"]).any():
            figures[str(k)] = {name: float(np.nanmean(of)) for name, of in errors.items()}
    return {"windows": int(seen.sum()), "of": len(seen), "mse_without": figures}


def save_tables(run: Run, curves: Mapping[str, Scores], means: Means, windows: Sequence[Window]) -> None:
    """metrics/openloop.csv: a row for each curve and horizon, means with bands and the windows that last so long;
    metrics/openloop_windows.csv: a row for each window, curve and horizon that the window lasts to.
    """
    alive = survivors(windows, len(means["mse"]["copy"].mean))
    rows = [
        [name, k + 1, alive[k], *(float(part[k]) for by_curve in means.values() for part in by_curve[name])]
        for name in curves
        for k in range(len(alive))
        if alive[k]
    ]
    write_rows(run.metrics / "openloop.csv", ["curve", "horizon", "windows", *columns_of(means)], rows)
    single = [
        [w.number, w.episode, w.start, name, k + 1, *(float(part[w.number, k]) for part in scores)]
        for w in windows
        for name, scores in curves.items()
        for k in range(w.steps)
    ]
    columns = ["window", "episode", "start", "curve", "horizon", *Scores._fields]
    write_rows(run.metrics / "openloop_windows.csv", columns, single)


def columns_of(metrics: Iterable[str]) -> list[str]:
    """The names of the columns with a mean and its band, of each metric."""
    return [metric + part for metric in metrics for part in ("", "_low", "_high")]


def read_means(run: Run) -> Means:
    """The means in metrics/openloop.csv. Raises Problem if there are none, or they are damaged."""
    path = run.metrics / "openloop.csv"
    rows = read_metrics_rows(path, text=["curve"])
    if not rows:
        raise Problem(
            f"{run.path} has no metrics/openloop.csv: run `python -m openloop {shlex.quote(str(run.path))}` first"
        )
    values: dict[str, list[list[float]]] = {}
    for row in rows:
        values.setdefault(row["curve"], []).append([float(row[name]) for name in columns_of(Scores._fields)])
    if not {"open_loop", "copy"} <= values.keys() <= NAMES.keys() or len({len(of) for of in values.values()}) > 1:
        raise damaged(path, "it lacks a curve, or a part of one")
    parts = {name: np.array(of).T.reshape(len(Scores._fields), 3, -1) for name, of in values.items()}
    return {
        metric: {name: Mean(*part[number]) for name, part in parts.items()}
        for number, metric in enumerate(Scores._fields)
    }


def curves_panel(means: Means, metric: str, draws: int, title: str) -> Curves:
    """Every curve of a metric against horizon, with its band."""
    shown = {name: NAMES[name].format(draws) for name in means[metric]}
    series = {
        shown[name]: (range(1, len(mean) + 1), mean, np.stack([low, high]))
        for name, (mean, low, high) in means[metric].items()
    }
    colours = {label: COLOURS[name] for name, label in shown.items()}
    return Curves(series, "horizon (steps)", UNITS[metric], title, colours=colours)


def error_panel(run: Run, metric: str = "mse") -> Curves:
    """The same of a run, metric mse, psnr or ssim. Raises Problem where it has not been measured."""
    draws = run.read_results().get("openloop", {}).get("draws", 1)
    return curves_panel(read_means(run), metric, draws, f"{run.title}: {metric.upper()} against horizon")


def with_figures(runs: Sequence[Run]) -> list[Run]:
    """Those of the runs that `python -m openloop` has measured."""
    return [run for run in runs if (run.metrics / "openloop.csv").exists()]


def relative_panel(runs: Sequence[Run]) -> Curves:
    """Open-loop MSE of several runs, as a share of the MSE of copying the last frame: below 1, predicting pays."""
    series = {}
    for run in runs:
        curves = read_means(run)["mse"]
        shares = curves["open_loop"].mean / curves["copy"].mean
        series[run.title] = range(1, len(shares) + 1), shares
    heading = "Open-loop error relative to copying"
    # Here a colour stands for a run, so none of them is that of a curve beside it.
    colours = dict(zip(series, itertools.cycle(DARK_PALETTE), strict=False))
    return Curves(series, "horizon (steps)", "MSE / MSE of the copy", heading, hlines={"copy": 1}, colours=colours)


def save_plots(run: Run, means: Means, windows: Sequence[Window], settings: Openloop, title: str, draws: int) -> None:
    """plots/mse_vs_horizon.png, psnr_vs_horizon.png and ssim_vs_horizon.png: the curves, and how many windows last."""
    alive, horizons = survivors(windows, settings.horizon), np.arange(1, settings.horizon + 1)
    lasting = Curves({"windows": (horizons, alive)}, "horizon (steps)", "windows", "Windows that last so long")
    for metric in means:
        heading = f"{title}: {metric.upper()} against horizon, mean of the windows, {settings.confidence:.0%} band"
        save_panels(run.plots / f"{metric}_vs_horizon.png", [curves_panel(means, metric, draws, heading), lasting])


def save_comparison(path: Path, steps: Sequence[Compared], row: int, draws: int) -> None:
    """PATH.mp4 and .gif: one window's recorded frames, side by side with what the model makes of them.

    steps: as from `predict`; row: which of its windows. Of several predictions the first is shown, and the best.
    """
    truth = np.stack([step.truth[row] for step in steps])  # (T, h, w, c)
    open_loop = np.stack([step.open_loop[row] for step in steps], axis=1)  # (D, T, h, w, c)
    floors = [step.floor[row] for step in steps if step.floor is not None]
    errors = np.square(open_loop - to_unit(truth)).mean(axis=(1, 2, 3, 4))  # (D,)
    videos = {
        "recorded": truth,
        **({"reconstruction": np.stack(floors)} if floors else {}),
        "teacher-forced": np.stack([step.teacher_forced[row, 0] for step in steps]),
        "open loop": open_loop[0],
        **({f"best of {draws}": open_loop[errors.argmin()]} if draws > 1 else {}),
    }
    save_video(path, side_by_side({label: to_rgb(video) for label, video in videos.items()}), FPS)
