"""`python -m controller.again RUN`: let an agent play on fresh seeds, and compare with what is stated of it."""

import math
import sys

import numpy as np

from controller.scores import Record, summary
from experiment.hardware import import_tensorflow, prepare
from experiment.problem import Problem, UsageProblem
from experiment.progress import Progress
from experiment.run import Run, find_run
from experiment.schema import HELD_OUT, LAST
from experiment.stage import Parser, guard

SECTIONS = ("env", "vae", "rnn", "controller")
FRESH = 7_000_000  # a seed from which on no results.json has a figure
CHANCE = 4.0  # standard errors that two means of the same agent hardly ever differ by: once in 16,000 times
MOST = 100_000  # episodes, which is what evaluate.episodes may be too
TEXT = """
Let what is shipped under a name, or a run's agent, play real episodes that it has never played, and compare with the
figures in its results.json. Writes nothing. Says whether the two agree; the exit code is 1 where they differ by
more than chance explains.
"""


def main() -> None:
    parser = Parser("controller.again", TEXT)
    parser.add_argument("run", metavar="RUN", help="a shipped name, such as doom, or a run folder")
    parser.add_argument("--episodes", metavar="N", type=int, default=100, help="real episodes (100)")
    parser.add_argument("--seed", metavar="S", type=int, default=FRESH, help=f"the first of their seeds ({FRESH})")
    parser.add_argument(
        "--fast", action="store_true", help="CarRacing: in the picture of training, whichever the stated figure is of"
    )
    arguments = parser.parse_args()
    again(find_run(arguments.run, "controller.again"), arguments.episodes, arguments.seed, arguments.fast)


def again(run: Run, episodes: int, seed: int, fast: bool = False) -> None:
    """Play episodes from this seed on, print both figures and that they agree. Raises Problem where not, or none is stated."""
    if not 2 <= episodes <= MOST or not HELD_OUT <= seed <= LAST:
        raise UsageProblem(f"expected --episodes from 2 to {MOST:,}, and a --seed from {HELD_OUT:,} to {LAST:,}")
    seeds = range(seed, seed + episodes)
    with run.reading_results():
        stated: Record = run.read_results().get("evaluations", {}).get("game", {})
        said = [describe("stated", stated, min(stated["seeds"]))] if stated else []
        played = set(seeds).intersection(stated.get("seeds", ()))
    if not stated:
        raise UsageProblem(
            f"{run.path} states no score: is it an agent's, and has it been evaluated? "
            "(`python -m openloop.again` does this for a next-frame model.)"
        )
    if played:
        raise UsageProblem(f"seed {min(played)} was played for what is stated: choose others (--seed)")
    import_tensorflow()
    now = summary(returns_of(run, list(seeds), fast or stated.get("picture") == "fast"))
    difference = now["mean"] - stated["mean"]
    error = math.hypot(now["standard_error"], stated["standard_error"])
    print("\n".join([*said, describe("played now", now, seed)]))
    print(f"{'difference:':12}{difference:+,.1f}, with a standard error of {error:,.1f}")
    if abs(difference) > CHANCE * error:
        raise Problem("this is more than chance explains: the agent, the game or a library is not what it was")
    apart = abs(difference) / (error or 1)
    print(f"they agree: {apart:.1f} standard errors apart (up to {CHANCE:g} count as chance)")


def describe(name: str, record: Record, first: int) -> str:
    """A line of figures."""
    spread = f"{record['mean']:,.1f} ± {record['std']:,.1f} (mean ± {record['standard_error']:,.1f})"
    return f"{name + ':':12}{spread} in {record['n']} episodes from seed {first}"


def returns_of(run: Run, seeds: list[int], fast: bool = False) -> np.ndarray:
    """The returns of the CMA-ES mean, (n,)."""
    from controller.real import RealWorld

    settings = run.settings(SECTIONS)
    prepare(settings.hardware)
    with RealWorld(settings, run, final=not fast) as world, Progress("real episodes", len(seeds), "episodes") as bar:
        return world.play(world.controller.mean, seeds, bar.update).returns


if __name__ == "__main__":
    sys.exit(guard(main))
