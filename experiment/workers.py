"""One interface for tasks that can be done anywhere: in this process, in processes of this machine, or on Ray.

A task is one picklable argument of a top-level function, and its result depends on nothing else, so that
the results are the same however the tasks are spread and however often one has to be done again.
"""

import contextlib
import logging
import multiprocessing.connection
import os
import signal
import socket
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess as Process
from typing import Any, NamedTuple, TypeVar

from experiment.hardware import import_tensorflow, own_cores
from experiment.problem import Problem
from experiment.schema import Workers

Task = TypeVar("Task")
Result = TypeVar("Result")


class Answer(NamedTuple):
    """A worker process's answer to a task: its result, or the exception that it raised."""

    result: Any = None
    error: Exception | None = None


MAX_DEATHS = 3
"""How many workers in a row may die of one task."""


def run_tasks(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: Workers,
    default_processes: int = 1,
    tensorflow: bool = False,
    pin: bool = False,
) -> Iterator[tuple[int, Result]]:
    """Do every task and yield (its index, its result) as they end.

    default_processes: where the settings leave their number open. tensorflow: whether the tasks need it; processes then
    import it first, without its messages. pin: where there is a process for each core, it and what it starts stay on one;
    for tasks that talk to a process of their own and wait for its answer, which comes much sooner on the same core.

    A worker that dies is replaced, and the tasks that it had are done again. An exception raised by a task
    is raised here. After that, or Ctrl-C, or when the caller asks for no more results, no task goes on.
    Raises Problem if workers keep dying, or if Ray is asked for and missing.
    """
    if workers.backend == "ray":
        yield from run_on_ray(function, tasks, workers.address)
        return
    processes = min(workers.processes or default_processes, len(tasks))
    if processes > 1:
        yield from run_in_processes(function, tasks, processes, tensorflow, pin)
    else:
        for index, task in enumerate(tasks):
            yield index, function(task)


def run_in_processes(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    processes: int,
    tensorflow: bool = False,
    pin: bool = False,
) -> Iterator[tuple[int, Result]]:
    """`run_tasks` in processes that are started afresh (not forked) and die with this one.

    Each has a pipe: the queues of Python's own pools need semaphores, which the system keeps for good where this process
    is killed together with those that it started.
    """
    cores = own_cores() if pin and processes == len(own_cores()) else [None] * processes
    waiting, deaths = deque(range(len(tasks))), [0] * len(tasks)
    running: dict[Any, tuple[Process, int | None, int]] = {}
    """A pipe to a process, the process, its core if it has one to itself, and its task."""
    ending: list[Process] = []

    def start(core: int | None, index: int) -> None:
        ours, theirs = multiprocessing.Pipe()
        process = Process(target=work, args=(theirs, os.getpid(), tensorflow, core), daemon=True)
        with without_interrupts():
            process.start()
            running[ours] = process, core, index
        theirs.close()
        give(ours, function)
        give(ours, tasks[index])

    def give(pipe: Any, what: Any) -> None:
        with contextlib.suppress(ConnectionError):  # it has died: that is found where its answer is waited for
            pipe.send(what)

    resource_tracker.ensure_running()  # with the first process it would be started too, and let Ctrl-C through to that
    try:
        for core in cores:
            start(core, waiting.popleft())
        while running:
            ready: list[Any] = multiprocessing.connection.wait([*running])
            answers = [(pipe, answer_of(pipe)) for pipe in ready]
            answers.sort(key=lambda item: bool(item[1] and item[1].error))  # last, so that no result is lost
            for pipe, answer in answers:
                process, core, index = running[pipe]
                if answer is None:
                    deaths[index] += 1
                    advice = "is the machine out of memory? Use fewer with workers.processes=1"
                    check_deaths(deaths[index], "worker processes", function, advice)
                    del running[pipe]
                    process.kill()  # it may only be deaf
                    ending.append(process)
                    start(core, index)
                    continue
                if answer.error is not None:
                    raise answer.error
                if waiting:
                    running[pipe] = process, core, waiting[0]
                    give(pipe, tasks[waiting.popleft()])
                else:
                    del running[pipe]
                    pipe.close()  # which ends it
                    ending.append(process)
                yield index, answer.result
    finally:
        for process, *_ in running.values():
            process.kill()
            ending.append(process)
        for process in ending:
            process.join()


def work(pipe: Any, parent: int, tensorflow: bool = False, core: int | None = None) -> None:
    """What a worker process does: answer every task that comes after the function, on `core` if it has one to itself.

    Ctrl-C is the parent's to handle, and the process ends when the parent is gone.
    """
    if core is not None:
        os.sched_setaffinity(0, {core})
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    if tensorflow:
        import_tensorflow()
    with contextlib.suppress(EOFError, ConnectionError):  # nothing more comes, or nobody waits for it
        function = pipe.recv()  # only now: its module may import TensorFlow
        while True:
            task = pipe.recv()
            try:
                answer = Answer(function(task))
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = Answer(error=error)
            pipe.send(answer)


def answer_of(pipe: Any) -> Answer | None:
    """The answer of a worker process; None if it has died."""
    try:
        return pipe.recv()
    except (EOFError, ConnectionError):
        return None


def check_deaths(deaths: int, who: str, function: Callable[..., Any], advice: str) -> None:
    """Raise Problem if too many workers have died of one task."""
    if deaths >= MAX_DEATHS:
        doing = f"{function.__module__}.{function.__name__}"
        raise Problem(f"{who} died {MAX_DEATHS} times in a row while doing {doing}: {advice}") from None


@contextlib.contextmanager
def without_interrupts() -> Iterator[None]:
    """Let Ctrl-C wait until the block ends; the processes that are started in it never see it.

    A blocked signal is inherited by them, but keeps it from this thread alone: where a library has started others, one of
    those takes it, and Python raises KeyboardInterrupt here all the same.
    """
    came: list[int] = []
    in_main = threading.current_thread() is threading.main_thread()  # elsewhere Python never raises it
    handler = signal.signal(signal.SIGINT, lambda number, _: came.append(number)) if in_main else None
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if in_main:
            signal.signal(signal.SIGINT, handler)
            if came:
                signal.raise_signal(signal.SIGINT)


def run_on_ray(function: Callable[[Task], Result], tasks: Sequence[Task], address: str) -> Iterator[tuple[int, Result]]:
    """`run_tasks` on actors of a Ray cluster, at most one for each of its cores.

    Actors and not Ray's own tasks, because these can only be ended by `ray.cancel`, which now and then lets one go on, or
    ends this process where it races with a task that is about to start.
    """
    ray = connect_to_ray(address)
    start = ray.remote(num_cpus=1)(RayWorker).remote
    left = dict(enumerate(tasks))
    waiting = deque(left)
    running: dict[Any, tuple[Any, int | None, int]] = {}
    """The worker that an answer comes from, its task (None while it starts), and how many before it died in a row."""

    def begin(worker: Any, index: int | None, deaths: int = 0) -> None:
        reference = worker.answer.remote() if index is None else worker.do.remote(function, left[index])
        running[reference] = worker, index, deaths

    try:
        for _ in range(min(len(tasks), int(ray.cluster_resources().get("CPU", 1)))):
            begin(start(), None)
        while left:
            (reference,), _ = ray.wait(list(running), num_returns=1)
            worker, index, deaths = running.pop(reference)
            try:
                result = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                ray.kill(worker)
                raise error.cause from None
            except ray.exceptions.RayActorError:
                ray.kill(worker)  # it may only be out of reach
                advice = "is a machine out of memory, or without this project?"
                check_deaths(deaths + 1, "Ray's workers", function, advice)
                begin(start(), index, deaths + 1)
                continue
            if waiting:
                begin(worker, waiting.popleft())
            else:
                ray.kill(worker)
            if index is not None:
                del left[index]
                yield index, result
    finally:
        for worker, *_ in running.values():
            ray.kill(worker)


class RayWorker:
    """A process of a Ray cluster that does one task at a time."""

    def answer(self) -> None:
        """Return as soon as the process runs: where a cluster is busy, that takes a while, and others have the tasks."""

    def do(self, function: Callable[[Task], Result], task: Task) -> Result:
        return function(task)


def connect_to_ray(address: str) -> Any:
    """The module `ray`, connected to the cluster at the address, or to one on this machine where that is empty."""
    try:
        import ray
    except ImportError:
        raise Problem("workers.backend=ray needs Ray: install it with `bash launch_scripts/setup.bash ray`") from None
    if not ray.is_initialized():
        try:
            if ":" in address and "://" not in address:  # where nothing listens, Ray would try for several minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=5).close()
            ray.init(
                address=address or "local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
            )
        except (OSError, ValueError) as error:
            raise Problem(f"cannot reach a Ray cluster at workers.address={address}: {error}") from None
    return ray
