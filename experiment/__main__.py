"""`python -m experiment CONFIG`: the whole pipeline, stage after stage, in one process."""

import argparse
import dataclasses
import shlex
import sys
import textwrap
from typing import Any

import controller.__main__
import controller.evaluate
import extract.__main__
import nextframe.__main__
import openloop.__main__
import rnn.__main__
import vae.__main__
import vae.encode
from envs.worlds import check
from experiment.beginning import settle
from experiment.config import load_config, with_preset
from experiment.estimate import estimate
from experiment.hardware import core_count, processor_name
from experiment.progress import duration
from experiment.run import Run, shipped
from experiment.schema import OFFLINE, Experiment, for_iteration
from experiment.stage import guard, new_parser, run_folder, run_stage

# The stages of V, M and C in their order, and those of the next-frame model; each module has its STAGE and run.
AGENT: list[Any] = [
    extract.__main__, vae.__main__, vae.encode, rnn.__main__, controller.__main__, controller.evaluate,
]  # fmt: skip
NEXT_FRAME: list[Any] = [extract.__main__, nextframe.__main__, openloop.__main__]
MODULES = {module.STAGE.name: module for module in (*AGENT, *NEXT_FRAME)}
WIDTH = 80  # columns of the plan

TEXT = """
Run a whole experiment: record rollouts, train V, encode them, train M, evolve C in the dream, in the real world or
in both, and play 100 real episodes; with iterations=n, n times, each time with what the last controller saw. In breakout
and coinrun: record rollouts, train the next-frame model, and measure how its error compounds. What is complete is skipped,
what was cut short goes on: run the same command again after an interruption. Each stage is a command of its own:
python -m """ + "|".join(MODULES)


def main() -> None:
    """Run every stage."""
    sections = [entry.name for entry in dataclasses.fields(Experiment)]
    run_pipeline(new_parser("experiment", TEXT, sections).parse_intermixed_args())


def run_pipeline(arguments: argparse.Namespace) -> None:
    """Say what is going to be done, do it, and say where it is."""
    first = run_folder(arguments)
    settings = load_config(arguments.config, arguments.preset, arguments.overrides)
    settings = settle(settings, first, arguments.overrides)
    check(settings)
    runs = [first.at(number) for number in range(first.iteration, max(first.iteration, settings.iterations) + 1)]
    for run in runs:
        for name in stages(settings, run, runs):
            if record := run.read_record(name):
                run.compare(name, record["settings"], for_iteration(settings, run.iteration))
    _, preset, _ = with_preset(arguments.config, arguments.preset)
    print(f"World Models: {arguments.config}, {f'preset {preset}, ' if preset else ''}in {first.path}")
    print(f"on {core_count()} cores, {processor_name()}")
    if settings.begin:
        print(f"beginning with {begun_with(settings)}")
    print("\nabout how long each stage takes here:")
    total = 0.0
    for run in runs:
        if len(runs) > 1:
            print(f"  iteration {run.iteration}, in {run.path}")
        expected = estimate(settings, run.iteration)
        for name in stages(settings, run, runs):
            text, seconds = expected[name]
            wanted = for_iteration(settings, run.iteration)
            complete = run.is_complete(name, wanted, MODULES[name].STAGE.sections)
            total += 0 if complete else seconds
            print(plan_line(name, "complete" if complete else duration(seconds), text))
    print(plan_line("in all", duration(total), "") + "\n", flush=True)
    for run in runs:
        for name in stages(settings, run, runs):
            print(f"── {name}" + (f", iteration {run.iteration}" if len(runs) > 1 else ""), flush=True)
            run_stage(MODULES[name].STAGE, MODULES[name].run, settings, run)
    if settings.begin:
        print(f"\n{what_was_made(settings, runs)}")
    print(f"\n{where_everything_is(settings, runs[-1])}")


def plan_line(stage: str, lasts: str, text: str) -> str:
    """A line of the plan, or a few, no wider than a terminal."""
    first = f"  {stage:<19} {lasts:>13}  "
    indent = " " * len(first)
    lines = textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=indent, break_on_hyphens=False)
    return "\n".join(lines or [first.rstrip()])


def begun_with(settings: Experiment) -> str:
    """Whose weights `begin` names, in words."""
    return f"the shipped {settings.begin} weights" if shipped(settings.begin) else f"those of {settings.begin}"


def what_was_made(settings: Experiment, runs: list[Run]) -> str:
    """What a run began with, and what was made in it."""
    source = begun_with(settings)
    if settings.env.name in OFFLINE:
        return f"The model began with {source} and was trained {settings.train.max_steps:,} steps more."
    made = [for_iteration(settings, run.iteration) for run in runs]
    v, m = (f"{sum(getattr(part, name).steps for part in made):,}" for name in ("vae", "rnn"))
    if settings.rnn.train:
        trained = f"V and M began with {source} and were trained {v} and {m} steps more"
    else:
        trained = f"V began with {source} and was trained {v} steps more; M is random"
    return textwrap.fill(f"{trained}; C was evolved from zero.", WIDTH, break_long_words=False, break_on_hyphens=False)


def stages(settings: Experiment, run: Run, runs: list[Run]) -> list[str]:
    """What is done in an iteration: only the last is evaluated; the others' trials are in metrics/controller_real.csv."""
    modules = NEXT_FRAME if settings.env.name in OFFLINE else AGENT
    return [each.STAGE.name for each in modules if each is not controller.evaluate or run is runs[-1]]


def where_everything_is(settings: Experiment, run: Run) -> str:
    """The last words of a run."""
    weights, notebooks = [run.vae_weights, run.rnn_weights, run.controller], "notebooks"
    if settings.env.name in OFFLINE:
        weights, notebooks = [run.nextframe_weights], "notebooks/compounding_error.ipynb"
    path, setup = shlex.quote(str(run.path)), "bash launch_scripts/setup.bash"
    path = f"./{path}" if shipped(path) else path
    places = {
        "figures": run.results,
        "plots": run.plots,
        "videos": run.videos,
        "metrics": run.metrics,
        "weights": f"{', '.join(file.name for file in weights)} in {run.path}",
        "TensorBoard": f".venv/bin/tensorboard --logdir {shlex.quote(str(run.tensorboard))}",
        "notebooks": f"{setup} notebooks; RUNS={path} .venv/bin/jupyter lab {notebooks}",
        "play it": f"{setup} play; .venv/bin/python -m play {path}",
    }
    return "\n".join(f"  {label:<12} {place}" for label, place in places.items())


if __name__ == "__main__":
    sys.exit(guard(main))
