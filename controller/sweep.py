"""`python -m controller.sweep`: the paper's table of temperatures, with a controller or several evolved at each."""

import functools
import sys
from typing import Any

from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, guard, new_parser, run_alone

STAGE = Stage(
    name="controller.sweep",
    sections=("env", "extract", "data", "begin", "vae", "rnn", "dream", "controller", "evaluate"),
    needs=("controller",),
    lets_be=("evaluate",),
    of_last=True,
    whole=lambda settings, run: False,  # it finds for itself what is left to measure
    text="""
    For every temperature in evaluate.temperatures, evolve a controller in the dream at that temperature (the one
    that the run has is used for its own), and measure it there and in the real game; then measure the run's own
    controller in the dreams of all temperatures. Prints the paper's table beside ours. With evaluate.controllers=3,
    three are evolved at each, and the standard error is over them.

    Where C goes on in the real world (controller.real_generations), that is left out here.

    Reads what `python -m controller` reads. Writes sweep/tau-*/ in the run folder, results.json and plots/temperatures.png.
    Interrupted, it goes on where it was; what is measured is not measured again.
    """,
)


def run(settings: Experiment, folder: Run, evolve_each: bool) -> dict[str, Any]:
    """Evolve, measure and print."""
    from controller.evaluation import sweep

    return sweep(settings, folder, evolve_each)


def main() -> None:
    """The command line: that of every stage, and --evaluate-only."""
    parser = new_parser(STAGE.name, STAGE.text, STAGE.sections)
    only = "evolve nothing: only the run's own controller, in the dreams of all temperatures"
    parser.add_argument("--evaluate-only", action="store_true", help=only)
    arguments = parser.parse_intermixed_args()
    run_alone(STAGE, functools.partial(run, evolve_each=not arguments.evaluate_only), arguments)


if __name__ == "__main__":
    sys.exit(guard(main))
