"""`python -m controller.sweep`: the paper's table of temperatures, with a controller evolved at each."""

import dataclasses
import sys
from typing import Any

from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Stage, guard, new_parser, run_stage

STAGE = Stage(
    name="controller.sweep",
    sections=("env", "extract", "data", "begin", "vae", "rnn", "dream", "controller", "evaluate"),
    needs=("controller",),
    of_last=True,
    whole=lambda settings, run: False,  # it finds for itself what is left to measure
    text="""
    For every temperature in evaluate.temperatures, evolve a controller in the dream at that temperature (the one
    that the run has is used for its own), and measure it there and in the real game; then measure the run's own
    controller in the dreams of all temperatures. Prints the paper's table beside ours.

    Where C goes on in the real world (controller.real_generations), that is left out here.

    Reads what `python -m controller` reads. Writes sweep/tau-*/ in the run folder, results.json and plots/temperatures.png.
    Interrupted, it goes on where it was; what is measured is not measured again.
    """,
)


def sweep(settings: Experiment, run: Run, evolve_each: bool) -> dict[str, Any]:
    """Evolve (if evolve_each) and measure at every temperature; everything that is there already is kept."""
    from controller.evaluation import measure_dream, measure_real
    from controller.policy import load_controller, policy_from
    from controller.real import RealWorld
    from controller.report import temperatures_panel
    from controller.scores import Record, Row, published_rows, table
    from controller.training import InDream, evolve
    from envs.worlds import world_of
    from experiment.hardware import prepare
    from rnn.dream import load_dream
    from viz.curves import save_panels

    if evolve_each and not settings.controller.generations:
        raise Problem(
            "controller.generations=0: nothing is evolved in the dream; give --evaluate-only to measure what there is"
        )
    prepare(settings.hardware, run)
    policy, dream = policy_from(settings), load_dream(settings, run)
    own = settings.dream.temperature
    rows: list[Row] = []
    measured: dict[float, tuple[Record, Record]] = {}
    with RealWorld(settings, run, final=not settings.evaluate.bulk) as game:
        for temperature in settings.evaluate.temperatures if evolve_each else ():
            here = dataclasses.replace(settings, dream=dataclasses.replace(settings.dream, temperature=temperature))
            name, have = f"tau-{temperature:g}", temperature == own and not settings.controller.real_generations
            keys = [] if have else ["sweep", name]
            folder = run if have else Run(run.path / "sweep" / name)
            if not have:
                print(f"evolving a controller at temperature {temperature:g}", flush=True)
                start = load_controller(run.previous.controller, policy).mean if run.previous is not None else None
                generations = settings.controller.generations
                evolve(here, folder, InDream(here, dream, policy), policy, generations, start=start)
            controller = load_controller(folder.controller, policy)
            in_dream = measure_dream(here, dream, controller, temperature, run, *keys, "dream")
            in_game = measure_real(game, controller, run, *keys, "game")
            measured[temperature] = in_dream, in_game
            rows.append(Row(f"ours, evolved at τ {temperature:.2f}", in_dream, in_game))
    controller = load_controller(run.controller, policy)
    for temperature in settings.evaluate.temperatures:
        keys = ["dream"] if temperature == own else ["dreams", f"tau-{temperature:g}"]
        record = measure_dream(settings, dream, controller, temperature, run, *keys)
        rows.append(Row(f"ours, evolved at τ {own:.2f}, dreaming at τ {temperature:.2f}", record, None))
    if measured:
        save_panels(run.plots / "temperatures.png", [temperatures_panel(settings, measured)])
    world = world_of(settings)
    print(table(rows, published_rows(settings.env.name), world.score, world.digits), flush=True)
    return {"temperatures": settings.evaluate.temperatures}


def main() -> None:
    """The command line: that of every stage, and --evaluate-only."""
    parser = new_parser(STAGE.name, STAGE.text, STAGE.sections)
    only = "evolve nothing: only the run's own controller, in the dreams of all temperatures"
    parser.add_argument("--evaluate-only", action="store_true", help=only)
    arguments = parser.parse_intermixed_args()
    run_stage(STAGE, lambda settings, run: sweep(settings, run, not arguments.evaluate_only), arguments)


if __name__ == "__main__":
    sys.exit(guard(main))
