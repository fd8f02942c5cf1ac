"""The figures of an evaluation as text, without loading TensorFlow."""

from collections.abc import Mapping
from typing import Any

from experiment.tables import ruled

UNITS = {"mse": "MSE", "psnr": "PSNR (dB, at most 58.9)", "ssim": "SSIM"}
FORMS = {"mse": "#.3g", "psnr": ".2f", "ssim": ".3f"}
"""How each is written: MSE can be anything from 0.1 down to that of a game where hardly a pixel moves."""


def names(draws: int) -> dict[str, str]:
    """The curves' names as they are shown."""
    return {
        "open_loop": "open loop",
        "best_of_n": f"best of {draws}",
        "mean_frame": f"mean frame of {draws}",
        "teacher_forced": "teacher-forced",
        "copy": "copy of the last frame",
        "floor": "reconstruction floor",
    }


def table(record: Mapping[str, Any], draws: int) -> str:
    """The record as text: a line for each horizon and metric."""
    shown = names(draws)
    first = next(iter(record["horizons"].values()))
    lines = [["", "horizon", "windows", *(shown[name] for name in first["mse"])]]
    for metric, form in FORMS.items():
        for k, figures in record["horizons"].items():
            means = [format(mean, form) for mean, *_ in figures[metric].values()]
            lines.append([UNITS[metric], k, f"{figures['windows']:,}", *means])
    return ruled([lines[:1], lines[1:]], left=0)
