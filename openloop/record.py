"""What results.json says of an evaluation: whether it is of this run and these settings, and its figures as text.

Without loading TensorFlow.
"""

import dataclasses
import textwrap
from collections.abc import Mapping
from typing import Any

from experiment.files import checksum
from experiment.run import Run, difference
from experiment.schema import Experiment
from experiment.tables import ruled
from extract.recorded import fingerprint
from openloop.predictor import trained_stages

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


def describe(run: Run, record: dict[str, Any]) -> str:
    """The figures as text, and where everything is."""
    heading = f"{record['title']}: {record['windows']} windows of {record['episodes']} held-out episodes"
    if "seen_in_training" in record:
        heading += f"\n{seen_line(record['seen_in_training'])}"
    places = f"bands: {products(run)[0]}\ncurves: {run.plots}/*_vs_horizon.png\nvideos: {run.videos}/openloop_*"
    return f"{heading}\n{table(record)}\n{places}"


def record_in(settings: Experiment, run: Run) -> dict[str, Any] | None:
    """What results.json has of these weights and settings, if everything that goes with it is there."""
    record: dict[str, Any] = run.read_results().get("openloop", {})
    current = origin(settings, run)
    with run.reading_results():
        if not (is_of(record, current) and all(path.exists() for path in products(run))):
            return None
        describe(run, record)  # and if that cannot be done, it is not what was written
    return record


def is_of(record: dict[str, Any], current: dict[str, Any]) -> bool:
    """Whether a record is of this origin. Earlier versions did not record of which data: theirs counts as of this."""
    unsaid = {name: current[name] for name in ("rollouts", "val_ratio")} | {"precision": record.get("precision")}
    return difference(record.get("of", {}), current, unsaid) is None


def origin(settings: Experiment, run: Run) -> dict[str, Any]:
    """All that the figures depend on: weights by their checksums, rollouts, and the settings that change them."""
    weights = {f"{stage}_weights": f"{checksum(run.weights(stage)):08x}" for stage in trained_stages(run)}
    own = {name: value for name, value in dataclasses.asdict(settings.openloop).items() if name != "batch"}
    asked = settings.hardware.precision
    precision = {} if asked == "auto" else {"precision": asked}
    return {**weights, "rollouts": fingerprint(run), "val_ratio": settings.data.val_ratio, **precision, **own}


def products(run: Run) -> list[Any]:
    """The files that are written."""
    tables = [run.metrics / f"{name}.csv" for name in ("openloop", "openloop_windows")]
    plots = [run.plots / f"{metric}_vs_horizon.png" for metric in ("mse", "psnr", "ssim")]
    names = ("best", "median", "worst")
    return tables + plots + [run.videos / f"openloop_{name}{end}" for name in names for end in (".mp4", ".gif")]


def table(record: Mapping[str, Any]) -> str:
    """The record as text of at most 80 columns: a column for each horizon, a line for each metric and curve."""
    horizons = record["horizons"]
    heading = [["horizon", *horizons], ["windows", *(f"{at['windows']:,}" for at in horizons.values())]]
    sections = [heading]
    for metric, form in FORMS.items():
        lines = [[UNITS[metric], *[""] * len(horizons)]]
        for name in next(iter(horizons.values()))[metric]:
            means = [format(at[metric][name][0], form) for at in horizons.values()]
            lines.append([NAMES[name].format(record["draws"]), *means])
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
