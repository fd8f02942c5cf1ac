"""`python -m openloop.again RUN`: record fresh episodes, and compare a next-frame model's errors there with what is stated."""

import math
import sys
import tempfile
from dataclasses import replace
from statistics import NormalDist

import numpy as np

from controller.again import CHANCE, FRESH
from controller.scores import Record
from experiment.hardware import import_tensorflow, prepare
from experiment.problem import Problem, UsageProblem
from experiment.run import Run
from experiment.schema import SEED, Experiment
from experiment.stage import Parser, guard
from experiment.tables import aligned
from openloop.predictor import NEXT_FRAME, load_predictor, open_run, trained_stages
from openloop.record import FORMS

TEXT = """
Record as many fresh episodes as a next-frame model's run held out, let what is shipped under a name, or the run's
model, predict in windows of them, and compare its open-loop MSE with the figures in its results.json. Leaves nothing
behind. Says whether the two agree; the exit code is 1 where they differ by more than chance explains.
"""


def main() -> None:
    parser = Parser("openloop.again", TEXT)
    parser.add_argument("run", metavar="RUN", help="a shipped name, such as breakout, or a run folder")
    parser.add_argument("--seed", metavar="S", type=int, default=FRESH, help=f"extract.seed of the episodes ({FRESH})")
    arguments = parser.parse_args()
    again(arguments.run, arguments.seed)


def again(name: str, seed: int) -> None:
    """Print the stated and the new MSE at each horizon, and that they agree. Raises Problem where not, or none is stated."""
    settings, run = open_run(name, command="openloop.again")
    if trained_stages(run) is not NEXT_FRAME:
        raise UsageProblem(f"{run.path} has V and M, whose agent `python -m controller.again` lets play again")
    if not 0 <= seed <= SEED or seed == settings.extract.seed:
        raise UsageProblem(f"expected a --seed from 0 to {SEED}, other than the run's own {settings.extract.seed}")
    record = run.read_results().get("openloop")
    if not record:
        raise UsageProblem(f"{run.path} states no open-loop error: `python -m openloop` measures it")
    with run.reading_results():
        options = {key: value for key, value in record["of"].items() if hasattr(settings.openloop, key)}
        settings = replace(settings, openloop=replace(settings.openloop, **options))
    import_tensorflow()
    now = measure(settings, run, seed)
    with run.reading_results():
        compare(record["horizons"], now, settings.openloop.confidence)


def measure(settings: Experiment, run: Run, seed: int) -> Record:
    """report.record_of's horizons in windows of fresh episodes, recorded with this extract.seed into a temporary folder."""
    from extract.collect import collect
    from extract.rollouts import Rollouts
    from openloop.evaluation import evaluate
    from openloop.report import record_of
    from openloop.windows import choose_windows

    prepare(settings.hardware)
    extract, held_out = settings.extract, settings.data.val_ratio
    fewer = {name: round(getattr(extract, name) * held_out) for name in ("episodes", "steps")}
    settings = replace(settings, extract=replace(extract, seed=seed, **fewer))
    with tempfile.TemporaryDirectory() as folder:
        collect(settings, Run(folder))
        rollouts = Rollouts(Run(folder).rollouts)
        windows = choose_windows(rollouts.lengths, np.arange(rollouts.episodes), settings.openloop)
        predictor = load_predictor(settings, run)
        return record_of(evaluate(predictor, rollouts, rollouts.actions, windows, settings.openloop))["horizons"]


def compare(stated: Record, now: Record, confidence: float) -> None:
    """Print the MSE of both at each horizon, and that they agree. Raises Problem where they do not.

    confidence: what the bands cover; a standard error is their half width over that of a normal distribution's.
    """
    width = 2 * NormalDist().inv_cdf((1 + confidence) / 2)  # of a band, in standard errors
    rows, apart = [["horizon", "stated", "now", "standard errors apart"]], []
    for horizon in sorted(stated.keys() & now.keys(), key=int):
        errors = [record[horizon]["mse"] for record in (stated, now)]
        (before, *old), (after, *new) = (each["open_loop"] for each in errors)
        error = math.hypot(*(high - low for low, high in (old, new))) / width
        apart.append(abs(after - before) / (error or sys.float_info.min))
        shares = [
            f"{each['open_loop'][0]:{FORMS['mse']}} ({each['open_loop'][0] / each['copy'][0]:.0%})" for each in errors
        ]
        rows.append([horizon, *shares, f"{apart[-1]:.1f}"])
    print("\n".join(["open-loop MSE (as a share of the copy's)", *aligned(rows, left=0)]))
    if max(apart) > CHANCE:
        raise Problem("this is more than chance explains: the model, the game or a library is not what it was")
    print(f"they agree (up to {CHANCE:g} standard errors count as chance)")


if __name__ == "__main__":
    sys.exit(guard(main))
