"""`python -m extract`: record rollouts of a random policy. `python -m extract --show RUN`: say what is recorded."""

import functools
import sys
from typing import Any

from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment
from experiment.stage import Parser, Stage, guard, main

SEEING = ("networks", "agent")  # policies that look at frames, with V and M

STAGE = Stage(
    name="extract",
    sections=("env", "extract"),
    makes=("rollouts",),
    whole=lambda settings, run: len(list(run.rollouts.glob("shard-*.h5"))) == settings.extract.shards,
    tensorflow=lambda settings: settings.extract.policy in SEEING,
    text="""
    Record episodes of a random policy (extract.policy) in the real world, on all cores.

    Writes RUN/rollouts/shard-*.h5: frames (64 x 64 RGB; breakout and coinrun: env.size, env.grey), actions, rewards
    and endings of whole episodes. A shard appears when it is whole; run again after an interruption, and only the
    missing ones are recorded. The result depends on the settings below alone (policy networks: also on the networks'
    sizes; agent: on the last iteration's), not on the number of workers. Prints how the policy fares.
    `python -m extract --show RUN` prints what a run folder's rollouts are.
    """,
)


def run(settings: Experiment, run: Run) -> dict[str, Any]:
    """The stage. Raises Problem where the iteration before is still evolving the controller that is to play."""
    from extract.collect import collect

    if run.previous is not None and not (run.previous.read_record("controller") or {"complete": True})["complete"]:
        raise Problem(
            f"{run.previous.path} has no complete 'controller' yet, which iteration {run.iteration} plays with: run "
            "`python -m controller` there first"
        )
    if settings.workers.backend == "ray":
        run = Run(run.path.absolute())  # a cluster's workers are in other folders
    if settings.extract.policy in SEEING:
        from controller.collect import make_player  # this command is where the rooms are put together
        from controller.real import for_workers

        prepare(settings.hardware, run)
        return collect(for_workers(settings), run, functools.partial(make_player, run))
    return collect(settings, run)


def show(arguments: list[str]) -> None:
    """Print the manifest of a run's rollouts: a YAML document for each iteration."""
    from extract.recorded import manifest

    parser = Parser("extract", "Print what a run's rollouts are.")
    parser.add_argument("--show", metavar="RUN", required=True, help="the run folder")
    run = Run(parser.parse_args(arguments).show).latest()
    print("\n---\n".join(map(manifest, run.all_rollouts)))


if __name__ == "__main__":
    if any(argument.split("=")[0] == "--show" for argument in sys.argv[1:]):
        sys.exit(guard(lambda: show(sys.argv[1:])))
    main(STAGE, run)
