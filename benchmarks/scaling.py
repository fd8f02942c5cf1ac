"""`python -m benchmarks.scaling`: what a Ray cluster of one-core machines costs, and a model of larger ones (docs/scaling.md).

The machines are processes of this one, so that times are of the processor where not said otherwise: they stay the same
however many cores there really are, and whatever else these do.
"""

import contextlib
import os
import pickle
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from controller.evolution import Evolution, everywhere
from envs.episodes import Played
from experiment.schema import Workers
from experiment.workers import Pool, open_pool

NODES = 4
SIZE = 867
"""Of CarRacing's C."""
STEP = 2 / 1712
"""Seconds of a core that a step takes, of a game with V, M and C: as `python -m benchmarks racing` found it on two cores."""
SLICES, GAMES_AT_MOST = 3, 128
"""For each worker (controller.real.SLICES, whose module imports TensorFlow), and games in one: env.games."""
POPULATION, EPISODES, LONGEST = 64, 16, 1000
"""The paper's generation: candidates, episodes of each, and steps of each."""
CORES = (1, 4, 16, 64, 256, 512, 1000, 1024)
CALLS = 3


class Costs(NamedTuple):
    """Seconds of one core."""

    step: float
    """Of one game's step."""
    task: float
    """Of handing a slice out and its result back, on the machine that the command runs on."""
    tell: float
    """Of CMA-ES, for a generation."""


def main() -> None:
    """Measure, and print tables."""
    tell = evolution_cost()
    print(f"CMA-ES with {SIZE} numbers: {tell:.2f} s a generation")
    costs = Costs(STEP, on_cluster(), tell)
    print(
        "\n| cores | slices of | playing | handing out | a generation | times as fast | of the cores |\n|" + "---|" * 7
    )
    alone = predicted(costs, 1).whole
    for cores in CORES:
        size, playing, handing, whole = predicted(costs, cores)
        figures = (
            f"{playing:,.1f} s | {handing:.1f} s | {whole:,.1f} s | {alone / whole:,.0f} | {alone / whole / cores:.0%}"
        )
        print(f"| {cores:,} | {size} | {figures} |")


def evolution_cost() -> float:
    """Of CMA-ES, averaged over generations: it does not decompose its matrix in each."""
    evolution, returns = (
        Evolution(everywhere(SIZE), 0.1, POPULATION, seed=0),
        np.random.default_rng(0).normal(size=POPULATION),
    )
    began, generations = time.process_time(), 10
    for _ in range(generations):
        evolution.ask()
        evolution.tell(returns)
    return (time.process_time() - began) / generations


def pretend(task: tuple[np.ndarray, Sequence[int], int]) -> Played:
    """What a slice sends back, without playing it."""
    nothing = np.zeros(len(task[1]))
    return Played(nothing, nothing.astype(np.int64), nothing.astype(np.int64), nothing)


def slices(episodes: int, size: int) -> list[tuple[np.ndarray, list[int], int]]:
    """The tasks of a generation; see RealWorld.play."""
    return [
        (np.zeros((len(seeds), SIZE), np.float32), list(seeds), 0)
        for seeds in (range(first, min(first + size, episodes)) for first in range(0, episodes, size))
    ]


def on_cluster() -> float:
    """Print what it costs to hand out generations on a cluster that grows. Returns that of one slice, of the smallest."""
    from ray.cluster_utils import Cluster

    os.environ.update(RAY_worker_niceness="0")  # workers give way to others no more than this process does
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    print(f"\n{POPULATION * EPISODES} episodes that are not played:")
    print(
        "| machines | slices | out | back | wall-clock | workers | Ray's servers | driver | this process |\n|"
        + "---|" * 9
    )
    with open_pool(pretend, Workers(backend="ray", address=cluster.address)) as pool:
        for nodes in range(1, NODES + 1):
            cluster.add_node(num_cpus=1)
            for size in (6, 1):
                tasks = slices(POPULATION * EPISODES, size)
                rows = calls(partial(finish, pool, tasks), nodes)
                out, back = (
                    sum(len(pickle.dumps(each)) for each in part) / 1e6 for part in (tasks, map(pretend, tasks))
                )
                spent = [median(row[kind] for row in rows) for kind in KINDS]
                seconds = " | ".join(f"{each:.2f} s" for each in spent)
                print(f"| {nodes} | {len(tasks)} | {out:.2f} MB | {back:.2f} MB | {seconds} |", flush=True)
    cluster.shutdown()
    return sum(spent[3:]) / len(tasks)


def finish(pool: Pool, tasks: list[Any]) -> None:
    """Do them all."""
    deque(pool.run(tasks), maxlen=0)


KINDS = ("wall-clock", "worker", "raylet", "driver", "here")
IDLE = "ray::Actor\0"
"""What a worker is called that has started and has nothing to do."""


def calls(action: Callable[[], Any], workers: int) -> list[dict[str, float]]:
    """What each of some calls takes, once so many workers are there and have done something."""
    while sum(command.startswith(IDLE) for command in own_processes().values()) < workers:
        action()
    action()
    return [spent_by(action) for _ in range(CALLS)]


def spent_by(action: Callable[[], Any]) -> dict[str, float]:
    """Seconds of wall-clock time, and of the processor by each kind of process."""
    began, before = time.perf_counter(), seconds_of_processes()
    action()
    time_taken, after = time.perf_counter() - began, seconds_of_processes()
    return {"wall-clock": time_taken, **{kind: after[kind] - before[kind] for kind in KINDS[1:]}}


def seconds_of_processes() -> dict[str, float]:
    """Of the processor, by the kinds of this process and those that it has started."""
    seconds = dict.fromkeys(KINDS[1:], 0.0)
    for process, command in own_processes().items():
        kind = "worker" if command.startswith("ray::Actor") else "driver" if "spawn_main" in command else "raylet"
        with contextlib.suppress(OSError):  # it has ended
            user, system = statistics_of(process)[11:13]
            seconds["here" if process == os.getpid() else kind] += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return seconds


def own_processes() -> dict[int, str]:
    """The command lines of this process and all that it has started."""
    processes = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    parents, commands = {}, {}
    for process in processes:
        with contextlib.suppress(OSError):
            parents[process] = int(statistics_of(process)[1])
            commands[process] = Path(f"/proc/{process}/cmdline").read_text()

    def is_own(process: int) -> bool:
        return process == os.getpid() or (process in parents and is_own(parents[process]))

    return {process: command for process, command in commands.items() if is_own(process)}


def statistics_of(process: int) -> list[str]:
    """What the system says of a process after its name: its state, its parent, ..."""
    return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()


class Generation(NamedTuple):
    """The paper's, as the model predicts it, in seconds of wall-clock time."""

    size: int
    """Episodes in a slice."""
    playing: float
    handing: float
    whole: float


def predicted(costs: Costs, cores: int) -> Generation:
    """On a cluster of so many cores.

    There are as many rounds of slices as each core has slices to play, and a slice lasts as long as its longest episode.
    Slices are handed out while others are played; CMA-ES waits for all.
    """
    episodes = POPULATION * EPISODES
    size = min(GAMES_AT_MOST, -(-episodes // (SLICES * cores)))
    number = -(-episodes // size)
    playing = -(-number // cores) * size * LONGEST * costs.step
    handing = number * costs.task
    return Generation(size, playing, handing, max(playing, handing) + costs.tell)


if __name__ == "__main__":
    from benchmarks import scaling  # under its own name, by which workers import `pretend`

    scaling.main()
