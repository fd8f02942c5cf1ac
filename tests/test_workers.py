"""Tasks give the same results in this process, in others and on Ray, also when a worker dies."""

import os
import signal
from pathlib import Path

import pytest
import ray

from experiment.hardware import core_count
from experiment.problem import Problem
from experiment.schema import Workers
from experiment.workers import run_tasks

BACKENDS = [Workers(), Workers(processes=2), Workers(backend="ray")]


def square(number: int) -> int:
    return number * number


def die_once(marker: Path) -> str:
    """Kill this worker the first time, succeed the second."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return marker.name


def die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def cores(_: int) -> set[int]:
    return os.sched_getaffinity(0)


def fail(number: int) -> None:
    raise Problem(f"task {number} cannot be done")


@pytest.mark.parametrize("workers", BACKENDS, ids=["here", "processes", "ray"])
def test_results_are_the_same_everywhere(workers):
    assert sorted(run_tasks(square, range(5), workers)) == [(i, i * i) for i in range(5)]


@pytest.mark.parametrize("workers", BACKENDS, ids=["here", "processes", "ray"])
def test_a_problem_in_a_task_reaches_the_caller(workers):
    with pytest.raises(Problem, match="task 7 cannot be done"):
        list(run_tasks(fail, [7, 7], workers))


@pytest.mark.parametrize("workers", BACKENDS[1:], ids=["processes", "ray"])
def test_a_dead_worker_is_replaced_and_its_task_done_again(workers, tmp_path):
    markers = [tmp_path / f"marker-{i}" for i in range(3)]
    assert sorted(run_tasks(die_once, markers, workers)) == [(i, f"marker-{i}") for i in range(3)]


@pytest.mark.parametrize("workers", BACKENDS[1:], ids=["processes", "ray"])
def test_workers_that_always_die_are_a_problem(workers):
    with pytest.raises(Problem, match="died"):
        list(run_tasks(die, [1, 2], workers))


@pytest.mark.skipif(core_count() < 2, reason="needs two cores")
def test_a_process_for_each_core_stays_on_one():
    every, tasks = os.sched_getaffinity(0), range(4 * core_count())
    pinned = [used for _, used in run_tasks(cores, tasks, Workers(processes=len(every)), pin=True)]
    assert all(len(used) == 1 and used <= every for used in pinned)
    for spare in ({"pin": False}, {"pin": True, "tasks": [1]}):  # one task needs one process, which has them all
        loose = run_tasks(cores, spare.pop("tasks", tasks), Workers(processes=len(every)), **spare)
        assert all(used == every for _, used in loose)


def test_unreachable_ray_cluster_is_named():
    ray.shutdown()
    with pytest.raises(Problem, match=r"workers.address=127\.0\.0\.1:1"):
        list(run_tasks(square, [1], Workers(backend="ray", address="127.0.0.1:1")))
