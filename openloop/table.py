"""The figures of an evaluation as text, without loading TensorFlow."""

from collections.abc import Mapping
from typing import Any

from experiment.progress import ruled

NAMES = {
    "open_loop": "open loop",
    "best_of_n": "best of {}",
    "mean_frame": "mean frame of {}",
    "teacher_forced": "teacher-forced",
    "copy": "copy of the last frame",
    "floor": "reconstruction floor",
}
"""The curves, in the order that they are shown in, and what they are called there; {}: of how many predictions."""
UNITS = {"mse": "MSE", "psnr": "PSNR (dB, at most 58.9)", "ssim": "SSIM"}
FORMS = {"mse": "#.3g", "psnr": ".2f", "ssim": ".3f"}
"""How each is written: MSE can be anything from 0.1 down to that of a game where hardly a pixel moves."""


def table(record: Mapping[str, Any], draws: int) -> str:
    """The record as text: a line for each horizon and metric."""
    first = next(iter(record["horizons"].values()))
    lines = [["", "horizon", "windows", *(NAMES[name].format(draws) for name in first["mse"])]]
    for metric, form in FORMS.items():
        for k, figures in record["horizons"].items():
            means = [format(mean, form) for mean, *_ in figures[metric].values()]
            lines.append([UNITS[metric], k, f"{figures['windows']:,}", *means])
    return ruled([lines[:1], lines[1:]], left=0)


def seen_line(record: Mapping[str, Any]) -> str:
    """What report.without_seen found, as a line."""
    found = f"{record['windows']:,} of {record['of']:,} windows begin with frames that training has too, exactly"
    shares = [f"{of['open_loop'] / of['copy']:.1%} at {k}" for k, of in record["mse_without"].items() if of["copy"]]
    if not record["windows"] or not shares:
        return found
    return f"{found};\nwithout them, open-loop MSE is this share of the copy's: {', '.join(shares)}"
