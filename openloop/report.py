"""What an evaluation leaves behind: the record, CSV files, plots and videos."""

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiment.metrics import damaged, read_metrics_rows, write_rows
from experiment.problem import Problem
from experiment.run import Run
from openloop.evaluation import Evaluation, Mean, Means
from openloop.record import NAMES, UNITS
from viz.curves import DARK_PALETTE, PALETTE, Curves, save_panels
from viz.frames import to_rgb, to_unit
from viz.scores import Scores
from viz.video import save_video, side_by_side

HORIZONS = (1, 5, 10, 32, 64)  # what is said in the record and in the table
FPS = 10  # of the videos: slower than real time, to be looked at
COLUMNS = [metric + part for metric in Scores._fields for part in ("", "_low", "_high")]  # a mean and its band
COLOURS = dict(zip(NAMES, PALETTE, strict=False))  # of each curve, whichever others a model has


def horizons_said(evaluation: Evaluation) -> list[int]:
    """The horizons whose figures are in the record: some, and the last, as far as any window lasts to them."""
    horizon = evaluation.settings.horizon
    return [k for k in sorted({*HORIZONS, horizon}) if k <= horizon and evaluation.lasting[k - 1]]


def record_of(evaluation: Evaluation) -> dict[str, Any]:
    """The figures at these horizons: for each, the windows there, every curve as [mean, low, high], and
    how open loop compares with the copy on the same windows: copy's MSE less its own, and where it is the better one.
    """
    episodes = {window.episode for window in evaluation.windows}
    gain = evaluation.curves["copy"].mse - evaluation.curves["open_loop"].mse  # (W, H)
    gained = evaluation.mean(gain)
    figures = {
        str(k): {
            "windows": int(evaluation.lasting[k - 1]),
            **{
                metric: {name: [float(part[k - 1]) for part in mean] for name, mean in by_curve.items()}
                for metric, by_curve in evaluation.means.items()
            },
            "mse_gained_on_copy": [float(part[k - 1]) for part in gained],
            "windows_better_than_copy": int((gain[:, k - 1] > 0).sum()),
        }
        for k in horizons_said(evaluation)
    }
    return {"windows": len(gain), "episodes": len(episodes), "horizons": figures}


def without_seen(evaluation: Evaluation, seen: np.ndarray) -> dict[str, Any]:
    """How many windows begin as training does, see windows.seen_in_training, and MSE without them, at the same horizons.

    seen: (W,) bool.
    """
    figures = {}
    for k in horizons_said(evaluation):
        errors = {name: evaluation.curves[name].mse[~seen, k - 1] for name in ("open_loop", "copy")}
        if np.isfinite(errors["copy"]).any():
            figures[str(k)] = {name: float(np.nanmean(of)) for name, of in errors.items()}
    return {"windows": int(seen.sum()), "of": len(seen), "mse_without": figures}


def save_tables(run: Run, evaluation: Evaluation) -> None:
    """metrics/openloop.csv: a row for each curve and horizon, means with bands and the windows that last so long;
    metrics/openloop_windows.csv: a row for each window, curve and horizon that the window lasts to.
    """
    means, columns = evaluation.means.values(), ["curve", "horizon", "windows", *COLUMNS]
    rows = [
        [name, k + 1, lasting, *(float(part[k]) for by_curve in means for part in by_curve[name])]
        for name in evaluation.curves
        for k, lasting in enumerate(evaluation.lasting)
        if lasting
    ]
    write_rows(run.metrics / "openloop.csv", columns, rows)
    single = [
        [w.number, w.episode, w.start, name, k + 1, *(float(part[w.number, k]) for part in scores)]
        for w in evaluation.windows
        for name, scores in evaluation.curves.items()
        for k in range(w.steps)
    ]
    columns = ["window", "episode", "start", "curve", "horizon", *Scores._fields]
    write_rows(run.metrics / "openloop_windows.csv", columns, single)


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
        values.setdefault(row["curve"], []).append([float(row[name]) for name in COLUMNS])
    if not {"open_loop", "copy"} <= values.keys() <= NAMES.keys() or len({len(of) for of in values.values()}) > 1:
        raise damaged(path, "it lacks a curve, or a part of one")
    parts = {name: np.array(of).T.reshape(len(Scores._fields), 3, -1) for name, of in values.items()}
    return {
        metric: {name: Mean(*part[number]) for name, part in parts.items()}
        for number, metric in enumerate(Scores._fields)
    }


def curves_panel(means: Means, metric: str, draws: int, title: str) -> Curves:
    """Every curve of a metric against horizon, with its band."""
    series, colours = {}, {}
    for name, (mean, low, high) in means[metric].items():
        label = NAMES[name].format(draws)
        series[label], colours[label] = (range(1, len(mean) + 1), mean, np.stack([low, high])), COLOURS[name]
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
    series, titles = {}, [run.title for run in runs]
    for run in runs:
        curves = read_means(run)["mse"]
        shares = curves["open_loop"].mean / curves["copy"].mean
        series[run.title if titles.count(run.title) == 1 else str(run.path)] = range(1, len(shares) + 1), shares
    heading = "Open-loop error relative to copying"
    # Here a colour stands for a run, so none of them is that of a curve beside it.
    colours = dict(zip(series, itertools.cycle(DARK_PALETTE), strict=False))
    return Curves(series, "horizon (steps)", "MSE / MSE of the copy", heading, hlines={"copy": 1}, colours=colours)


def save_plots(run: Run, evaluation: Evaluation, title: str, draws: int) -> None:
    """plots/mse_vs_horizon.png, psnr_vs_horizon.png and ssim_vs_horizon.png: the curves, and how many windows last."""
    lasting = {"windows": (range(1, len(evaluation.lasting) + 1), evaluation.lasting)}
    windows = Curves(lasting, "horizon (steps)", "windows", "Windows that last so long")
    band = f"mean of the windows, {evaluation.settings.confidence:.0%} band"
    for metric in evaluation.means:
        curves = curves_panel(evaluation.means, metric, draws, f"{title}: {metric.upper()} against horizon, {band}")
        save_panels(run.plots / f"{metric}_vs_horizon.png", [curves, windows])


def save_comparison(path: Path, steps: Sequence[tuple[np.ndarray, dict[str, np.ndarray]]], row: int) -> None:
    """PATH.mp4 and .gif: one window's recorded frames, side by side with what the model makes of them.

    steps: as from `predict`; row: which of its windows. Of several predictions the first is shown, and the best.
    """
    truth = np.stack([truth[row, 0] for truth, _ in steps])  # (T, h, w, c)
    shown = {name: np.stack([frames[name][row] for _, frames in steps], axis=1) for name in steps[0][1]}  # (D, T, ...)
    videos = {"recorded": truth}
    if "floor" in shown:
        videos["reconstruction"] = shown["floor"][0]
    videos |= {"teacher-forced": shown["teacher_forced"][0], "open loop": shown["open_loop"][0]}
    if (draws := len(shown["open_loop"])) > 1:
        errors = np.square(shown["open_loop"] - to_unit(truth)).mean(axis=(1, 2, 3, 4))  # (D,)
        videos[f"best of {draws}"] = shown["open_loop"][errors.argmin()]
    save_video(path, side_by_side({label: to_rgb(video) for label, video in videos.items()}), FPS)
