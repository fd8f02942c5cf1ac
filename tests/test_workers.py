"""Tasks give the same results in this process, in others and on Ray, also when a worker dies."""

import os
import signal
import subprocess
import sys
import threading
import time
from multiprocessing import resource_tracker
from pathlib import Path

import pytest

from experiment.hardware import core_count
from experiment.problem import Problem
from experiment.schema import Workers
from experiment.workers import open_pool, without_interrupts
from tests.commands import python
from tests.ray_cluster import SECONDS, RayCluster, limited

RAY = pytest.param("ray", marks=pytest.mark.needs("ray"))


@pytest.fixture(autouse=True)
def soon():
    """Nothing here is waited for for ever."""
    with limited(2 * SECONDS):
        yield


@pytest.fixture(scope="module")
def cluster():
    with RayCluster(cores=2) as started:
        yield started


@pytest.fixture
def workers(request):
    """Settings by their name."""
    if request.param == "ray":
        return Workers(backend="ray", address=request.getfixturevalue("cluster").address)
    return Workers(processes=2 if request.param == "processes" else 0)


everywhere = pytest.mark.parametrize("workers", ["here", "processes", RAY], indirect=True)
elsewhere = pytest.mark.parametrize("workers", ["processes", RAY], indirect=True)


def run_tasks(function, tasks, workers, **options):
    """In workers that are started for it."""
    with open_pool(function, workers, workers.processes or 1, **options) as pool:
        yield from pool.run(list(tasks))


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


def linger(folder: Path) -> None:
    """Note which process this is, and be at work for longer than a test lasts."""
    (folder / str(os.getpid())).touch()
    time.sleep(100)


def fail_beside_another(task: tuple[bool, Path]) -> None:
    """Be at work for long; or raise as soon as another process is."""
    failing, folder = task
    if not failing:
        linger(folder)
    while not list(folder.iterdir()):
        time.sleep(0.01)
    raise Problem("this one cannot be done")


def await_end(folder: Path) -> None:
    """Wait until the processes that `linger` has noted are gone."""
    processes, deadline = [int(path.name) for path in folder.iterdir()], time.monotonic() + 5
    while any(alive(process) for process in processes):
        assert time.monotonic() < deadline, "a task goes on"
        time.sleep(0.02)


def alive(process: int) -> bool:
    """Whether a process is there (one that has ended but has not been waited for is not)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@everywhere
def test_results_are_the_same_everywhere(workers):
    assert sorted(run_tasks(square, range(5), workers)) == [(i, i * i) for i in range(5)]


@everywhere
def test_a_problem_in_a_task_reaches_the_caller(workers):
    with pytest.raises(Problem, match="task 7 cannot be done"):
        list(run_tasks(fail, [7, 7], workers))


class Own(Exception):
    """One that is not made again of its message alone."""

    def __init__(self, what: str, where: str):
        super().__init__(f"{what} at {where}")


class Open(Exception):
    """One that cannot be sent at all."""

    def __init__(self, text: str):
        super().__init__(text)
        self.lock = threading.Lock()


def fail_strangely(number: int) -> None:
    raise Own("wrong", "home") if number else Open("locked")


@pytest.mark.parametrize(("number", "said"), [(0, "Open: locked"), (1, "Own: wrong at home")])
@pytest.mark.parametrize("workers", ["processes"], indirect=True)
def test_a_strangers_exception_says_what_it_said(workers, number, said):
    with pytest.raises(RuntimeError, match=said) as caught:
        list(run_tasks(fail_strangely, [number, number], workers))
    assert "fail_strangely" in caught.value.__notes__[0]


@elsewhere
def test_a_dead_worker_is_replaced_and_its_task_done_again(workers, tmp_path):
    markers = [tmp_path / f"marker-{i}" for i in range(3)]
    assert sorted(run_tasks(die_once, markers, workers)) == [(i, f"marker-{i}") for i in range(3)]


@elsewhere
def test_workers_that_always_die_are_a_problem(workers):
    with pytest.raises(Problem, match="died"):
        list(run_tasks(die, [1, 2], workers))


class Remembers:
    """Says which process it is in, and how many tasks it has had there."""

    def __init__(self):
        self.tasks = 0

    def __call__(self, _: int) -> tuple[int, int]:
        self.tasks += 1
        time.sleep(0.05)
        return os.getpid(), self.tasks


def fail_or_square(number: int) -> int:
    if number < 0:
        fail(number)
    return square(number)


@elsewhere
def test_workers_are_kept_and_what_is_sent_to_them_too(workers):
    remembers = Remembers()
    with open_pool(remembers, workers, workers.processes) as pool:
        first, second = (dict(result for _, result in pool.run(range(10))) for _ in range(2))
    counts = {**first, **second}  # of each process, the last; one may have started too late for the first call
    assert len(counts) <= 2 and sum(counts.values()) == 20 and remembers.tasks == 0


@elsewhere
def test_a_pool_goes_on_after_a_problem(workers):
    with open_pool(fail_or_square, workers, workers.processes) as pool:
        with pytest.raises(Problem):
            list(pool.run([-1, -2]))
        assert sorted(pool.run(range(3))) == [(0, 0), (1, 1), (2, 4)]


@elsewhere
def test_workers_that_die_between_two_calls_are_replaced(workers):
    with open_pool(Remembers(), workers, workers.processes) as pool:
        processes = {process for _, (process, _) in pool.run(range(10))}
        for process in processes:
            os.kill(process, signal.SIGKILL)
        again = {process for _, (process, _) in pool.run(range(10))}
    assert again and not again & processes


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="looks into Linux's /dev/shm")
def test_no_semaphore_is_there_that_a_kill_would_leave():
    before = set(os.listdir("/dev/shm"))
    for _ in run_tasks(square, range(4), Workers(processes=2)):
        assert not [name for name in set(os.listdir("/dev/shm")) - before if name.startswith("sem.mp")]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks into Linux's /proc")
def test_no_worker_is_left_over():
    """Not even as an entry of the system's."""
    before = children()
    assert sorted(run_tasks(square, [1, 2, 3], Workers(processes=2))) == [(0, 1), (1, 4), (2, 9)]
    assert children() - before <= resource_tracker_of_python()


def children() -> set[int]:
    """Of this process, also those that have ended and were not asked for."""
    listed = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return {int(number) for text in listed for number in text.split()}


def resource_tracker_of_python() -> set[int]:
    """The process that Python starts beside the first of its own."""
    return {resource_tracker._resource_tracker._pid}


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into Linux's /proc")
@elsewhere
def test_no_task_goes_on_when_one_has_failed(workers, tmp_path):
    with pytest.raises(Problem, match="cannot be done"):
        list(run_tasks(fail_beside_another, [(False, tmp_path), (True, tmp_path), (False, tmp_path)], workers))
    assert list(tmp_path.iterdir())
    await_end(tmp_path)


INTERRUPTED = """
import sys
from pathlib import Path
from experiment.schema import Workers
from experiment.stage import guard
from tests.test_workers import linger, run_tasks

if __name__ == "__main__":
    tasks, workers = [Path(sys.argv[1])] * 6, Workers(backend=sys.argv[2], processes=2)
    print("begun", flush=True)
    sys.exit(guard(lambda: list(run_tasks(linger, tasks, workers))))
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into Linux's /proc")
@pytest.mark.parametrize("backend", ["local", pytest.param("ray", marks=pytest.mark.needs("ray"))])
def test_nothing_goes_on_after_ctrl_c(backend, tmp_path):
    """As a user has it: the terminal sends SIGINT to the command and to the processes that it has started."""
    noted = tmp_path / "noted"
    noted.mkdir()
    command = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(noted), backend],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + SECONDS
    while len(list(noted.iterdir())) < min(2, core_count()):
        if command.poll() is not None or time.monotonic() > deadline:
            command.kill()
            pytest.fail("the workers do not come to work")
        time.sleep(0.02)
    os.killpg(command.pid, signal.SIGINT)
    assert command.stderr is not None
    assert command.stderr.readline() == "\n"
    assert "interrupted: run the same command again" in command.stderr.readline()
    await_end(noted)
    assert command.communicate(timeout=30)[1] == "" and command.returncode == 130


@pytest.mark.parametrize("delay", [0.02, 0.3])
def test_ctrl_c_while_workers_start_is_one_line(delay, tmp_path):
    """Not a traceback of each of them; they import this module, which takes longer than the delay."""
    command = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path), "local"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert command.stdout is not None and command.stdout.readline() == "begun\n"
    time.sleep(delay)
    os.killpg(command.pid, signal.SIGINT)
    _, said = command.communicate(timeout=30)
    assert said == "\ninterrupted: run the same command again to go on\n"


def test_ctrl_c_waits_also_where_a_library_has_threads():
    """One of those takes the signal that this thread does not."""
    over, done = threading.Event(), False
    threading.Thread(target=over.wait, daemon=True).start()
    with pytest.raises(KeyboardInterrupt), without_interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        done = True
    over.set()
    assert done


IMPORTING = """
from experiment.schema import Experiment, Workers
from tests.test_workers import run_tasks

if __name__ == "__main__":
    from rnn.dream import drawn_weight  # whose module imports TensorFlow

    print("now", file=__import__("sys").stderr, flush=True)
    assert len(list(run_tasks(drawn_weight, [Experiment()] * 2, Workers(processes=2), tensorflow=True))) == 2
"""


def test_tensorflow_starts_in_silence_in_workers():
    done = python("-c", IMPORTING, timeout=600)
    assert done.returncode == 0 and done.stderr.split("now\n")[1] == ""


@pytest.mark.skipif(core_count() < 2, reason="needs two cores")
def test_a_process_for_each_core_stays_on_one():
    every, tasks = os.sched_getaffinity(0), range(4 * core_count())
    pinned = [used for _, used in run_tasks(cores, tasks, Workers(processes=len(every)), pin=True)]
    assert all(len(used) == 1 and used <= every for used in pinned)
    for spare in ({"pin": False}, {"pin": True, "tasks": [1]}):  # one task needs one process, which has them all
        loose = run_tasks(cores, spare.pop("tasks", tasks), Workers(processes=len(every)), **spare)
        assert all(used == every for _, used in loose)


@pytest.mark.needs("ray")
def test_unreachable_ray_cluster_is_named():
    with pytest.raises(Problem, match=r"workers.address=127\.0\.0\.1:1"):
        list(run_tasks(square, [1], Workers(backend="ray", address="127.0.0.1:1")))
