"""The figures of an evaluation as text, without loading TensorFlow."""

import textwrap
from collections.abc import Mapping
from typing import Any

from experiment.tables import ruled

NAMES = {
    "open_loop": "open loop",
    "best_of_n": "best of {}",
    "mean_frame": "mean frame of {}",
    "teacher_forced": "teacher-forced",
    "copy": "copy of last frame",
    "floor": "reconstruction floor",
}
"""The curves, in the order that they are shown in, and what they are called there; {}: of how many predictions."""
UNITS = {"mse": "MSE", "psnr": "PSNR (dB, max 58.9)", "ssim": "SSIM"}
FORMS = {"mse": "#.3g", "psnr": ".2f", "ssim": ".3f"}
"""How each is written: MSE can be anything from 0.1 down to that of a game where hardly a pixel moves."""


def table(record: Mapping[str, Any], draws: int) -> str:
    """The record as text of at most 80 columns: a column for each horizon, a line for each metric and curve."""
    horizons = record["horizons"]
    heading = [["horizon", *horizons], ["windows", *(f"{at['windows']:,}" for at in horizons.values())]]
    sections = [heading]
    for metric, form in FORMS.items():
        lines = [[UNITS[metric], *[""] * len(horizons)]]
        for name in next(iter(horizons.values()))[metric]:
            means = [format(at[metric][name][0], form) for at in horizons.values()]
            lines.append([NAMES[name].format(draws), *means])
        sections.append(lines)
    return ruled(sections, left=1)


def seen_line(record: Mapping[str, Any]) -> str:
    """What report.without_seen found, in words."""
    found = f"{record['windows']:,} of {record['of']:,} windows begin with frames that training has too, exactly"
    shares = [f"{of['open_loop'] / of['copy']:.1%} at {k}" for k, of in record["mse_without"].items() if of["copy"]]
    if not record["windows"] or not shares:
        return found
    without = f"without them, open-loop MSE is this share of the copy's: {', '.join(shares)}"
    return f"{found};\n{textwrap.fill(without, 80)}"
