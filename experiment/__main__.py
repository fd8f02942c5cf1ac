"""`python -m experiment CONFIG`: the whole pipeline, stage after stage, in one process."""

import argparse
import importlib
import sys
import textwrap

from experiment.config import DEFAULT_PRESET, load_config
from experiment.estimate import estimate
from experiment.files import read_json
from experiment.hardware import core_count, processor_name
from experiment.progress import duration
from experiment.run import Run
from experiment.stage import Stage, add_arguments, default_run, guard, run_stage

MODULES = {
    "extract": "extract.__main__",
    "vae": "vae.__main__",
    "vae.encode": "vae.encode",
    "rnn": "rnn.__main__",
    "controller": "controller.__main__",
    "controller.evaluate": "controller.evaluate",
}
"""The stages in their order, and where each has its STAGE and run."""

TEXT = """
Run a whole experiment: record rollouts, train V, encode them, train M, evolve C in the dream, and play 100
episodes of the real game. What is complete is skipped, what was cut short goes on: run the same command again
after an interruption. Each stage is a command of its own: python -m """ + "|".join(MODULES)


def main() -> int:
    """Run every stage; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m experiment",
        description=textwrap.dedent(TEXT).strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_arguments(parser)
    arguments = parser.parse_intermixed_args()
    return guard(lambda: run_pipeline(arguments))


def run_pipeline(arguments: argparse.Namespace) -> None:
    """Say what is going to be done, do it, and say where it is."""
    settings = load_config(arguments.config, arguments.preset, arguments.overrides)
    run = Run(arguments.run or default_run(arguments.config, arguments.preset))
    print(f"World Models: {arguments.config}, preset {arguments.preset or DEFAULT_PRESET}, in {run.path}")
    print(f"on {core_count()} cores, {processor_name()}\n")
    total = 0.0
    for name, (text, seconds) in estimate(settings).items():
        complete = (read_json(run.record(name)) or {}).get("complete", False)
        total += 0 if complete else seconds
        print(f"  {name:<20} {text:<75} {'complete' if complete else 'about ' + duration(seconds)}")
    print(f"  {'':<96} about {duration(total)} in all\n", flush=True)
    for name, module_name in MODULES.items():
        print(f"── {name}", flush=True)
        module = importlib.import_module(module_name)
        stage: Stage = module.STAGE
        run_stage(stage, module.run, arguments)
    print(f"\n{where_everything_is(run)}")


def where_everything_is(run: Run) -> str:
    """The last words of a run."""
    lines = [
        ("figures", run.results),
        ("plots", run.plots),
        ("videos", run.videos),
        ("metrics", run.metrics),
        ("weights", f"{run.vae_weights.name}, {run.rnn_weights.name}, {run.controller.name} in {run.path}"),
        ("TensorBoard", f".venv/bin/tensorboard --logdir {run.tensorboard}"),
    ]
    return "\n".join(f"  {label:<12} {place}" for label, place in lines)


if __name__ == "__main__":
    sys.exit(main())
