"""How prediction error compounds: what `python -m openloop` has measured of several runs."""

import itertools
from collections.abc import Sequence

from experiment.run import Run
from gallery.runs import title
from openloop import report
from viz.curves import DARK_PALETTE, Curves


def error_panel(run: Run, metric: str = "mse") -> Curves:
    """Every curve of a run, with its band. Raises Problem where it has not been measured.

    metric: mse, psnr or ssim.
    """
    means, draws = report.read_means(run), run.read_results().get("openloop", {}).get("draws", 1)
    return report.error_panel(means, metric, draws, f"{title(run)}: {metric.upper()} against horizon")


def relative_panel(runs: Sequence[Run]) -> Curves:
    """Open-loop MSE of several runs, as a share of the MSE of copying the last frame: below 1, predicting pays."""
    series = {}
    for run in runs:
        curves = report.read_means(run)["mse"]
        shares = curves["open_loop"].mean / curves["copy"].mean
        series[title(run)] = range(1, len(shares) + 1), shares
    heading = "Open-loop error relative to copying"
    # Here a colour stands for a run, so none of them is that of a curve beside it.
    colours = dict(zip(series, itertools.cycle(DARK_PALETTE), strict=False))
    return Curves(series, "horizon (steps)", "MSE / MSE of the copy", heading, hlines={"copy": 1}, colours=colours)


def measured(runs: Sequence[Run]) -> list[Run]:
    """Those of the runs that `python -m openloop` has measured."""
    return [run for run in runs if (run.metrics / "openloop.csv").exists()]
