"""`python -m controller.export RUN NAME`: make a run's agent small enough to ship, as the run folder pretrained/NAME."""

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from controller.report import history
from experiment.config import load_config
from experiment.files import atomic, write_json
from experiment.hardware import import_tensorflow
from experiment.metrics import write_metrics
from experiment.pretrained import copy_half, copy_metrics, find_run, size_of
from experiment.problem import Problem
from experiment.run import PRETRAINED, Run
from experiment.stage import guard

STARTS = 1000
"""Moments that dreams can begin at are kept, at most."""
CONTROLLER = ("controller", "controller_real")
OTHERS = ("vae", "vae_heldout", "rnn", "rnn_losses", "openloop")
"""Metrics that are kept, some kilobytes each."""
TEXT = """
Make pretrained/NAME from a finished run: V, M and C, the moments where its dreams begin, its config, and a results.json
with where it comes from and how it does, and the metrics of its training. V and M are kept in float16. It is a run
folder: whatever takes one takes this.
The agent that is shipped plays evaluate.episodes real episodes first, so that the figures are its own.
"""


def main() -> None:
    """Export."""
    parser = argparse.ArgumentParser(prog="python -m controller.export", description=TEXT.strip())
    parser.add_argument("run", metavar="RUN", help="the run folder; of several iterations, the last")
    parser.add_argument("name", metavar="NAME", help="what it is to be called")
    arguments = parser.parse_args()
    export(find_run(arguments.run), PRETRAINED / arguments.name)


def export(run: Run, folder: Path) -> None:
    """Write `folder`. Raises Problem if the run is not finished."""
    results = run.read_results()
    for path in (run.config, run.vae_weights, run.rnn_weights, run.controller):
        if not path.exists():
            raise Problem(f"{path} is missing: finish the run first")
    shipped = Run(folder)
    for source, target in ((run.config, shipped.config), (run.controller, shipped.controller)):
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)
    copy_half(run.vae_weights, shipped.vae_weights)
    copy_half(run.rnn_weights, shipped.rnn_weights)
    keep_metrics(run, shipped)
    import_tensorflow()
    figures = measure(run, shipped)
    kept = {key: results[key] for key in ("machine", "stages", "survival", "openloop") if key in results}
    write_json(shipped.results, {**kept, "evaluations": {**results.get("evaluations", {}), **figures}})
    game = figures["game"]
    print(f"{folder}: {size_of(folder):.1f} MB, {game['mean']:,.0f} ± {game['std']:,.0f} in {game['n']} real episodes")


def measure(run: Run, shipped: Run) -> dict[str, Any]:
    """Keep some of the run's starts, and let the shipped agent play and dream: its evaluations.game and .dream."""
    from controller.evaluation import can_dream, measure_dream, measure_real
    from controller.policy import policy_from
    from controller.real import RealWorld
    from controller.weights import load_controller
    from experiment.hardware import prepare
    from rnn.dream import load_dream
    from rnn.model import load_rnn
    from rnn.starts import Starts, load_starts, made_with, write_starts

    settings = load_config(shipped.config)
    prepare(settings.hardware)
    policy = policy_from(settings)
    controller = load_controller(shipped.controller, policy)
    figures = {}
    shipped.results.unlink(missing_ok=True)
    if can_dream(settings):
        starts = load_starts(settings, run, load_rnn(run, settings))
        chosen = np.linspace(0, len(starts.mu) - 1, min(STARTS, len(starts.mu))).astype(int)
        fewer = Starts(*(part[chosen].astype("float16") for part in starts))
        write_starts(shipped.starts, fewer, made_with(settings, shipped))
        dream = load_dream(settings, shipped)
        temperature = settings.dream.temperature
        figures["dream"] = measure_dream(settings, dream, policy, controller, temperature, shipped, "dream")
    with RealWorld(settings, shipped, final=True) as world:
        figures["game"] = measure_real(world, controller, shipped, "game")
    return figures


def keep_metrics(run: Run, shipped: Run) -> None:
    """Keep the metrics that a run's curves are drawn from; those of C in several iterations as one."""
    for name in CONTROLLER:
        if columns := history(run, name):
            write_metrics(shipped.metrics / f"{name}.csv", columns)
    copy_metrics(run, shipped, OTHERS)


if __name__ == "__main__":
    sys.exit(guard(main))
