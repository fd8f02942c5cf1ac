"""Tasks that can be done anywhere: in this process, in processes of this machine, or on a Ray cluster.

A task is one picklable argument of a function, and its result depends on nothing else, so that the results are the same
however the tasks are spread and however often one has to be done again. Start with `open_pool` and `Pool`.
"""

import contextlib
import multiprocessing.connection
import os
import pickle
import signal
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence, Set
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess as Process
from typing import Any, NamedTuple

from experiment.hardware import import_tensorflow, own_cores
from experiment.problem import Problem
from experiment.schema import Workers

MAX_DEATHS = 3
"""How many workers may die of one task; as they start, so many times as many as there can be."""
STARTING = -1
"""In the place of a task's index."""

Function = Callable[[Any], Any]


class Answer(NamedTuple):
    """A worker's answer to a task: its result, or the exception that it raised. The first says that the worker is there."""

    result: Any = None
    error: Exception | None = None


class Pool(contextlib.AbstractContextManager["Pool"]):
    """Workers that are kept: `with open_pool(function, settings.workers) as pool: for index, result in pool.run(tasks): ...`.

    They start when they are first needed, and end with the block, or with this process however that ends. Who calls needs
    `run` and `size`; what a worker is, and known by, is for each kind to say in `start`, `give`, `wait` and `end`.
    """

    advice: str
    """What to do where workers keep dying."""

    def __init__(self) -> None:
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[int, float]] = {}
        """What a worker is at, and since when: a task's index, or STARTING."""

    def size(self) -> int:
        """How many workers can be at work, at present."""
        raise NotImplementedError

    def start(self) -> Any:
        """Begin to start a worker. It answers as soon as it is there."""
        raise NotImplementedError

    def give(self, worker: Any, task: Any) -> None:
        """Have a worker do a task."""
        raise NotImplementedError

    def wait(self) -> list[tuple[Any, Answer | None]]:
        """Wait for answers of busy workers, None of one that has died; there may be none yet."""
        raise NotImplementedError

    def end(self, worker: Any) -> None:
        """End a worker at once."""
        raise NotImplementedError

    def late(self, left: Set[int], seconds: Sequence[float]) -> int | None:
        """Which of the tasks that are left is to be begun a second time. seconds: how long those took that are done."""
        return None

    def run(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """Do every task and yield (its index, its result) as they end.

        A worker that dies is replaced, and what it was at is done again, before anything else. An exception raised by a
        task is raised here. After that, or Ctrl-C, or when the caller asks for no more results, no task goes on.
        Raises Problem if workers keep dying.
        """
        left, waiting = set(range(len(tasks))), deque(range(len(tasks)))
        seconds: list[float] = []
        deaths: Counter[int] = Counter()
        kept = len(self.idle)  # which may have died since the last call
        try:
            while left:
                while len(self.idle) + len(self.busy) < min(self.size(), len(left)):
                    self.busy[self.start()] = STARTING, time.monotonic()
                while self.idle:
                    following = waiting.popleft() if waiting else self.late(left, seconds)
                    if following is None:
                        break
                    worker = self.idle.pop()
                    self.busy[worker] = following, time.monotonic()
                    self.give(worker, tasks[following])
                answers = self.wait()
                answers.sort(key=lambda item: bool(item[1] and item[1].error))  # last, so that no result is lost
                for worker, answer in answers:
                    task, since = self.busy.pop(worker)
                    if answer is None:
                        self.end(worker)  # it may only be deaf, or out of reach
                        deaths[task] += 1
                        if deaths[task] >= (MAX_DEATHS * self.size() if task == STARTING else MAX_DEATHS + kept):
                            raise Problem(f"workers died {deaths[task]} times in a row: {self.advice}")
                        if task in left - {other for other, _ in self.busy.values()}:
                            waiting.appendleft(task)
                        continue
                    self.idle.append(worker)
                    deaths[task] = 0
                    if task not in left:
                        continue  # it has only started, or been slower than another
                    if answer.error is not None:
                        raise answer.error
                    left.remove(task)
                    seconds.append(time.monotonic() - since)
                    yield task, answer.result
            for worker in [worker for worker, (task, _) in self.busy.items() if task != STARTING]:
                del self.busy[worker]
                self.end(worker)  # what it is at has been done elsewhere
        except BaseException:  # also Ctrl-C, and where nobody asks for more
            self.close()
            raise

    def close(self) -> None:
        """End all workers; those of a later call are new ones."""
        for worker in [*self.idle, *self.busy]:
            self.end(worker)
        self.idle, self.busy = [], {}

    def __exit__(self, *error: object) -> None:
        self.close()


def open_pool(
    function: Function, workers: Workers, processes: int = 1, tensorflow: bool = False, pin: bool = False
) -> Pool:
    """Workers that have a function, each its own copy of it, with all that this keeps in itself.

    processes: how many, on this machine; if that or the tasks are one, this process does it. tensorflow: whether the tasks
    need it; processes then import it first, without its messages. pin: where there is a process for each core, it and what
    it starts stay on one; for tasks that talk to a process of their own and wait for its answer, which comes much sooner
    on the same core.
    """
    if workers.backend == "ray":
        from experiment.cluster import Cluster

        return Cluster(function, workers)
    return Processes(function, processes, tensorflow, pin)


class Processes(Pool):
    """Processes that are started afresh (not forked) and die with this one.

    Each has a pipe, by which it is known here: the queues of Python's own pools need semaphores, which the system keeps
    for good where this process is killed together with those that it started.
    """

    advice = (
        "is the machine out of memory? Use fewer with workers.processes=1. A script of your own has to keep what it does "
        'below `if __name__ == "__main__":`, since each worker imports it'
    )

    def __init__(self, function: Function, processes: int, tensorflow: bool, pin: bool):
        super().__init__()
        self.function, self.processes, self.tensorflow = function, processes, tensorflow
        self.cores: list[int | None] = [*own_cores()] if pin and processes == len(own_cores()) else [None] * processes
        self.members: dict[Any, tuple[Process, int | None]] = {}
        """From a pipe to its process, and the only core that this runs on, if there is one."""
        self.new: set[Any] = set()
        """Those that do not have the function yet."""

    def size(self) -> int:
        return self.processes

    def run(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        if min(self.processes, len(tasks)) > 1:
            return super().run(tasks)
        return ((index, self.function(task)) for index, task in enumerate(tasks))

    def start(self) -> Any:
        core = self.cores.pop(0)
        process, pipe = start_process(work, self.tensorflow, core)
        self.members[pipe] = process, core
        self.new.add(pipe)
        return pipe

    def give(self, worker: Any, task: Any) -> None:
        with contextlib.suppress(ConnectionError):  # it has died: that is found where its answer is waited for
            if worker in self.new:
                self.new.remove(worker)
                worker.send(self.function)
            worker.send(task)

    def wait(self) -> list[tuple[Any, Answer | None]]:
        answers: dict[Any, Answer | None] = dict.fromkeys(multiprocessing.connection.wait([*self.busy]))
        for pipe in answers:
            with contextlib.suppress(EOFError, ConnectionError):
                answers[pipe] = pipe.recv()
        return [*answers.items()]

    def end(self, worker: Any) -> None:
        process, core = self.members.pop(worker)
        process.kill()
        process.join()
        worker.close()
        self.new.discard(worker)
        self.cores.append(core)


def start_process(does: Callable[..., None], *arguments: Any) -> tuple[Process, Any]:
    """A new process that does something with a pipe and the arguments, and the other end of the pipe. See `follow`."""
    resource_tracker.ensure_running()  # with the first process it would be started too, and let Ctrl-C through to that
    ours, theirs = multiprocessing.Pipe()
    process = Process(target=does, args=(theirs, os.getpid(), *arguments), daemon=True)
    with without_interrupts():
        process.start()
    theirs.close()
    return process, ours


def follow(parent: int) -> None:
    """Leave Ctrl-C to the parent of this process, and end when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def work(pipe: Any, parent: int, tensorflow: bool, core: int | None) -> None:
    """What a worker process does: say that it is there, and answer every task that comes after the function."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    follow(parent)
    if tensorflow:
        import_tensorflow()
    with contextlib.suppress(EOFError, ConnectionError):  # nothing more comes, or nobody waits for it
        pipe.send(Answer())
        function = pipe.recv()  # only now: its module may import TensorFlow
        while True:
            task = pipe.recv()
            try:
                answer = Answer(function(task))
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = Answer(error=that_can_be_sent(error))
            pipe.send(answer)


def that_can_be_sent(error: Exception) -> Exception:
    """An exception that another process can be sent: this one, or one that says the same."""
    try:
        same = pickle.loads(pickle.dumps(error))
    except Exception:
        same = None
    if type(same) is type(error):
        return error
    another = RuntimeError(f"{type(error).__name__}: {error}")
    another.__notes__ = error.__notes__
    return another


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
