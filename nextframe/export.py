"""`python -m nextframe.export RUN NAME`: make a run's next-frame model small enough to ship, as the run folder pretrained/NAME."""

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hdf5plugin
import numpy as np

from experiment.config import to_yaml
from experiment.files import atomic, write_json
from experiment.hardware import import_tensorflow
from experiment.pretrained import copy_half, copy_metrics, size_of
from experiment.problem import Problem
from experiment.run import CONFIG_HEADER, PRETRAINED, Run
from experiment.schema import Experiment, Openloop
from experiment.stage import guard
from extract.recorded import actions_of, open_rollouts
from extract.rollouts import Episode, Rollouts, new_shard, shard_path
from openloop.__main__ import is_of, origin
from openloop.predictor import load_predictor, open_run, weights_of
from openloop.windows import Window, open_recorded

WINDOWS = 16
"""Held-out windows that are kept, at most: what the player and the notebook begin with."""
METRICS = ("openloop",)
"""Those of the run that are kept."""
COMPRESSION = hdf5plugin.Zstd(clevel=19)
"""Written once, read by everyone."""
TEXT = """
Make pretrained/NAME from the run of a next-frame model: the model in float16, its config, a results.json with where it
comes from and how it does, and some of the held-out windows that it was measured on, so that it can be played and
evaluated without any data. It is a run folder: whatever takes one takes this. `python -m openloop RUN` comes first: its
figures are kept, and those of the shipped model on the shipped windows are added.
"""


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(prog="python -m nextframe.export", description=TEXT.strip())
    parser.add_argument("run", metavar="RUN", help="the run folder")
    parser.add_argument("name", metavar="NAME", help="what it is to be called")
    arguments = parser.parse_args()
    export(arguments.run, PRETRAINED / arguments.name)


def export(path: str, folder: Path) -> None:
    """Write `folder`. Raises Problem if the run is not finished, or its model was not measured."""
    settings, run = open_run(path)
    if "nextframe" not in weights_of(run):
        raise Problem(f"{path} has another model: ship it with `python -m controller.export`")
    settings, record = as_measured(settings, run)
    shipped, results = Run(folder), run.read_results()
    rollouts, _, windows = open_recorded(settings, run)
    keep_windows(rollouts, choose(windows), settings.openloop.context, shipped)
    with atomic(shipped.config) as temporary:
        temporary.write_text(CONFIG_HEADER + to_yaml(settings))
    copy_half(run.nextframe_weights, shipped.nextframe_weights)
    copy_metrics(run, shipped, METRICS)
    import_tensorflow()
    own = measure(settings, shipped)
    kept = {key: results[key] for key in ("machine", "stages", "evaluations") if key in results}
    write_json(shipped.results, {**kept, "openloop": record, "shipped": own})
    figures = "; ".join(
        f"{horizon}: {at['mse']['open_loop'][0]:.2g}, copy {at['mse']['copy'][0]:.2g}"
        for horizon, at in own["horizons"].items()
    )
    print(f"{folder}: {size_of(folder):.1f} MB; MSE in its {own['windows']} windows at horizon {figures}")


def as_measured(settings: Experiment, run: Run) -> tuple[Experiment, dict[str, Any]]:
    """What `python -m openloop` found of these weights, and the settings that it used. Raises Problem if it was not run."""
    record = run.read_results().get("openloop", {})
    names = {entry.name for entry in dataclasses.fields(Openloop)}
    used = {name: value for name, value in record.get("of", {}).items() if name in names}
    settings = dataclasses.replace(settings, openloop=dataclasses.replace(settings.openloop, **used))
    if not is_of(record, origin(settings, run)):
        raise Problem(
            f"the model of {run.path} was not measured yet: run `python -m openloop {shlex.quote(str(run.path))}` first"
        )
    return settings, record


def choose(windows: Sequence[Window]) -> list[Window]:
    """WINDOWS of the windows that the model was measured on, evenly spread over those that last longest."""
    longest = max(window.steps for window in windows)
    whole = [window for window in windows if window.steps == longest]
    return [whole[i] for i in np.linspace(0, len(whole) - 1, min(WINDOWS, len(whole))).astype(int)]


def keep_windows(rollouts: Rollouts, windows: Sequence[Window], context: int, shipped: Run) -> None:
    """Write windows as held-out episodes of their own."""
    about = {**rollouts.shards[0].attributes, "held_out": True}
    with new_shard(shard_path(shipped.rollouts, 0), about, compression=COMPRESSION) as shard:
        for window in windows:
            part = slice(window.start, window.start + context + window.steps)
            *series, seed = rollouts.episode(window.episode)
            frames, actions, rewards, terminated, _ = (values[part] for values in series)
            cut = (np.arange(len(actions)) == len(actions) - 1) & ~terminated
            shard.append(Episode(frames, actions, rewards, terminated, cut, seed))


def measure(settings: Experiment, shipped: Run) -> dict[str, Any]:
    """How the shipped model does in the shipped windows: a record as `python -m openloop` has it."""
    from experiment.hardware import prepare
    from openloop.evaluation import evaluate
    from openloop.report import means_of, record_of

    precision, rollouts, o = prepare(settings.hardware), open_rollouts(settings, shipped), settings.openloop
    windows = [Window(number, number, 0, length - o.context) for number, length in enumerate(rollouts.lengths.tolist())]
    curves = evaluate(load_predictor(settings, shipped), rollouts, actions_of(rollouts), windows, o)
    return {"precision": precision, **record_of(curves, means_of(curves, windows, o), windows, o)}


if __name__ == "__main__":
    sys.exit(guard(main))
