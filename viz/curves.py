"""Curves and histograms, one or several in a figure.

Figures are made without pyplot, so that nothing global changes: no backend, no style, no figure kept alive.
"""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from experiment.files import atomic

# Okabe and Ito's colours, told apart with any colour vision; their yellow is too pale for lines.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, GREY = "#E69F00", "#56B4E9", "#555555"
PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY)
# Paul Tol's darker colours, for lines that share a picture with the lines above and mean something else.
DARK_PALETTE = ("#332288", "#882255", "#117733", "#999933", "#44AA99", "#661100")
INK = "#222222"
FAINT = "#777777"
WIDTH, HEIGHT = 6.4, 4.0  # of a panel, in inches
LEGEND_ROW = 12.5  # points
DPI = 150  # of plots that are files
BINS = 30  # of a histogram
STYLE: Any = {name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"}
"""matplotlib's own, and not that of the user's matplotlibrc, which may also ask for LaTeX."""


@dataclass(frozen=True)
class Curves:
    """Lines over a common x.

    series: label -> (x, y) or (x, y, band); x, y (n,); band (n,) drawn as y ± band, or (2, n) as low and high.
        Points whose x or y is NaN are left out, so series that were measured now and then are drawn through.
    hlines: label -> y of a dashed level, such as a published score, named at the right edge.
    colours: label -> colour, for what is to look the same in several panels; other series have the palette's, by their
        position.
    """

    series: Mapping[str, Sequence[Any]]
    xlabel: str
    ylabel: str
    title: str
    logx: bool = False
    hlines: Mapping[str, float] = field(default_factory=dict)
    colours: Mapping[str, str] = field(default_factory=dict)

    def draw(self, axes: Axes) -> None:
        for i, (label, (x, y, *band)) in enumerate(self.series.items()):
            x, y = np.asarray(x, float), np.asarray(y, float)
            kept = np.isfinite(x) & np.isfinite(y)
            x, y, colour = x[kept], y[kept], self.colours.get(label, PALETTE[i % len(PALETTE)])
            marker = "o" if len(x) <= 30 else None
            width = 1.8 if len(x) <= 500 else 1.0
            axes.plot(x, y, color=colour, linewidth=width, marker=marker, markersize=4, label=label, zorder=3)
            if band:
                spread = np.asarray(band[0], float)
                low, high = (y - spread[kept], y + spread[kept]) if spread.ndim == 1 else spread[:, kept]
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0, zorder=2)
        if self.logx:
            axes.set_xscale("log")
        elif all(float(x).is_integer() for line in axes.lines for x in np.asarray(line.get_xdata())):
            axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))  # no generation 2.5
        _decorate(axes, self.xlabel, self.ylabel, self.title, labels=list(self.series))
        for y in self.hlines.values():
            axes.axhline(y, color=FAINT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
        _name_levels(axes, self.hlines)


@dataclass(frozen=True)
class Histogram:
    """Several samples in common bins, each as shares of its own size.

    samples: label -> (n,); the legend adds mean ± standard deviation (of the sample) and n. Bins begin at 0 or below.
    lines: label -> x of a dashed upright, such as the score that counts as solved, named at its top.
    """

    samples: Mapping[str, Any]
    xlabel: str
    title: str
    lines: Mapping[str, float] = field(default_factory=dict)

    def draw(self, axes: Axes) -> None:
        samples = {label: np.asarray(values, float).ravel() for label, values in self.samples.items()}
        samples = {label: values for label, values in samples.items() if values.size}
        together = np.concatenate([*samples.values(), [0.0, *self.lines.values()]])
        edges = np.histogram_bin_edges(together, bins=BINS)
        decimals = 0 if np.abs(together).max() >= 100 else 2  # the same for all, so that they can be compared
        labels = [f"{label}: {_figures(values, decimals)}" for label, values in samples.items()]
        for i, (values, label) in enumerate(zip(samples.values(), labels, strict=True)):
            colour, weights = PALETTE[i % len(PALETTE)], np.full(len(values), 100 / len(values))
            style: dict[str, Any] = {"bins": edges, "weights": weights, "color": colour}
            axes.hist(values, **style, histtype="stepfilled", alpha=0.25, zorder=2)
            axes.hist(values, **style, histtype="step", linewidth=1.6, zorder=3)
            axes.plot([], [], color=colour, linewidth=5, alpha=0.7, label=label)
        _decorate(axes, self.xlabel, "share (%)", self.title, labels)
        for label, x in self.lines.items():
            axes.axvline(x, color=FAINT, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1)
            axes.annotate(label, (x, 1), xytext=(4, -4), xycoords=("data", "axes fraction"), textcoords="offset points",
                          rotation=90, ha="left", va="top", fontsize=8, color=FAINT)  # fmt: skip


def save_panels(path: Path | str, panels: Sequence[Curves | Histogram]) -> None:
    """Write `draw_panels(panels, DPI)` as PNG."""
    picture = draw_panels(panels, DPI)
    with atomic(path) as temporary:
        temporary.write_bytes(picture)


@matplotlib.rc_context(STYLE)
def draw_panels(panels: Sequence[Curves | Histogram], dpi: float) -> bytes:
    """Several panels in one figure, two in a row, as a PNG file."""
    columns = min(2, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    for i, panel in enumerate(panels):
        panel.draw(figure.add_subplot(rows, columns, i + 1))
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=dpi)
    return file.getvalue()


def _decorate(axes: Axes, xlabel: str, ylabel: str, title: str, labels: Sequence[str]) -> None:
    """Light grid, two spines, thousands separated, and the legend between title and axes, where it hides nothing."""
    axes.set_xlabel(xlabel, color=INK, fontsize=9.5)
    axes.set_ylabel(ylabel, color=INK, fontsize=9.5)
    axes.tick_params(labelsize=8.5, colors=INK, length=3, width=0.6)
    axes.grid(True, color="#E4E4E4", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set(color=FAINT, linewidth=0.8)
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    axes.yaxis.set_major_formatter(plain)
    axes.xaxis.set_major_formatter(plain)
    rows = 0
    if labels:
        columns = max(1, min(len(labels), 70 // (max(map(len, labels)) + 6)))
        rows = math.ceil(len(labels) / columns)
        axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), borderaxespad=0.2, ncols=columns, frameon=False,
                    fontsize=8.5, labelcolor=INK, handlelength=1.6, labelspacing=0.25)  # fmt: skip
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=6 + LEGEND_ROW * rows)


def _name_levels(axes: Axes, levels: Mapping[str, float]) -> None:
    """Name levels at the right edge, pushed apart where they would overlap."""
    low, high = axes.get_ylim()
    apart, last = 0.045, -math.inf
    for label, y in sorted(levels.items(), key=lambda level: level[1]):
        last = max((y - low) / (high - low), last + apart)
        axes.annotate(label, (1, last), xytext=(4, 0), xycoords="axes fraction", textcoords="offset points",
                      va="center", fontsize=8, color=FAINT)  # fmt: skip


def _figures(values: np.ndarray, decimals: int) -> str:
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():,.{decimals}f} ± {deviation:,.{decimals}f} (n = {len(values):,})"
