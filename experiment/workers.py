"""Tasks that can be done anywhere: in this process, in processes of this machine, or on a Ray cluster.

A task is one picklable argument of a function, and its result depends on nothing else, so that the results are the same
however the tasks are spread and however often one has to be done again. Start with `Pool`, which hands the tasks out.
Who does them is a crew: `Processes` here, or `experiment.cluster.Cluster`.
"""

import contextlib
import multiprocessing.connection
import os
import signal
import statistics
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess as Process
from typing import Any, NamedTuple, Protocol, TypeVar

from experiment.hardware import import_tensorflow, own_cores
from experiment.problem import Problem
from experiment.schema import Workers

Task = TypeVar("Task")
Result = TypeVar("Result")

MAX_DEATHS = 3
"""How many workers in a row may die of one task, or as they start."""
SLOW, SLOW_SECONDS = 2.0, 2.0
"""A task is late when it takes so many times as long as half of the others did, and so many seconds more."""
STARTING = -1
"""In the place of a task's index."""


class Answer(NamedTuple):
    """A worker's answer to a task: its result, or the exception that it raised. The first says that the worker is there."""

    result: Any = None
    error: Exception | None = None


class Function(NamedTuple):
    """What a call's tasks are given to. It goes out to a worker once, which knows it by its number from then on."""

    number: int
    call: Callable[[Any], Any]


class Crew(Protocol):
    """Where workers come from; a worker is whatever the crew knows it by."""

    advice: str
    """What to do where workers keep dying."""
    uneven: bool
    """Whether some workers may be much slower than others, or out of reach: late tasks are then begun a second time."""

    def size(self) -> int:
        """How many workers can be at work, at present."""

    def start(self) -> Any:
        """Begin to start a worker. It answers as soon as it is there."""

    def give(self, worker: Any, function: Function, task: Any) -> None:
        """Have a worker do a task."""

    def wait(self) -> list[tuple[Any, Answer | None]]:
        """Wait for answers, None of a worker that has died; there may be none yet."""

    def end(self, worker: Any) -> None:
        """End a worker at once."""

    def close(self) -> None:
        """End all."""


class Call:
    """What a call of `Pool.run` still has to do."""

    def __init__(self, tasks: int, kept: Sequence[Any]):
        self.left, self.waiting = set(range(tasks)), deque(range(tasks))
        self.deaths: Counter[int] = Counter()
        """Workers that have died of each task, and in a row as they started (STARTING)."""
        self.kept = set(kept)
        """Workers of earlier calls that have not answered in this one: they may be dead already."""
        self.seconds: list[float] = []
        """How long each task took that is done."""


class Doing(NamedTuple):
    """What a worker is busy with: a task of a call, since when; or STARTING, for whichever call is then."""

    call: Call | None = None
    task: int = STARTING
    since: float = 0.0


class Pool(contextlib.AbstractContextManager["Pool"]):
    """Workers that are kept: `with Pool(settings.workers, 2) as pool: for index, result in pool.run(function, tasks): ...`.

    They start when they are first needed, and end with the block, or with this process however that ends.

    processes: how many, on this machine; if that or the tasks are one, this process does it. tensorflow: whether the tasks
    need it; processes then import it first, without its messages. pin: where there is a process for each core, it and what
    it starts stay on one; for tasks that talk to a process of their own and wait for its answer, which comes much sooner
    on the same core.
    """

    def __init__(self, workers: Workers, processes: int = 1, tensorflow: bool = False, pin: bool = False):
        self.workers, self.processes, self.tensorflow, self.pin = workers, processes, tensorflow, pin
        self.opened: Crew | None = None
        self.idle: list[Any] = []
        self.busy: dict[Any, Doing] = {}
        self.functions: list[Function] = []

    @property
    def crew(self) -> Crew:
        """Opened when it is first needed. Raises Problem if Ray is asked for, and is missing or out of reach."""
        if self.opened is None:
            if self.workers.backend == "ray":
                from experiment.cluster import Cluster

                self.opened = Cluster(self.workers)
            else:
                self.opened = Processes(self.processes, self.tensorflow, self.pin)
        return self.opened

    def run(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[tuple[int, Result]]:
        """Do every task and yield (its index, its result) as they end.

        function: is sent to a worker once and stays there, with all that it keeps in itself.

        A worker that dies is replaced, and what it was at is done again, before anything else. An exception raised by a
        task is raised here. After that, or Ctrl-C, or when the caller asks for no more results, no task goes on.
        Raises Problem if workers keep dying.
        """
        if self.workers.backend == "local" and min(self.processes, len(tasks)) <= 1:
            for index, task in enumerate(tasks):
                yield index, function(task)
            return
        numbered, call = self.numbered(function), Call(len(tasks), self.idle)
        try:
            while call.left:
                while len(self.idle) + len(self.busy) < min(self.crew.size(), len(call.left)):
                    self.busy[self.crew.start()] = Doing()
                while self.idle and (following := self.next(call)) is not None:
                    worker = self.idle.pop()
                    self.busy[worker] = Doing(call, following, time.monotonic())
                    self.crew.give(worker, numbered, tasks[following])
                answers = self.crew.wait()
                answers.sort(key=lambda item: bool(item[1] and item[1].error))  # last, so that no result is lost
                for worker, answer in answers:
                    if answer is None:
                        self.bury(worker, call, function)
                    elif (done := self.hear(worker, answer, call)) is not None:
                        yield done, answer.result
        finally:
            if call.left:
                for worker in [worker for worker, doing in self.busy.items() if doing.call is call]:
                    self.end(worker)

    def numbered(self, function: Callable[[Any], Any]) -> Function:
        """The function with its number, a new one if it has none."""
        for known in self.functions:
            if known.call is function:
                return known
        self.functions.append(Function(len(self.functions), function))
        return self.functions[-1]

    def next(self, call: Call) -> int | None:
        """A task for a worker that has nothing to do: one that waits, or the latest one, to be begun a second time."""
        if call.waiting:
            return call.waiting.popleft()
        if not self.crew.uneven or not call.seconds:
            return None
        times = Counter(doing.task for doing in self.at_work(call))
        oldest = min(
            (doing for doing in self.at_work(call) if times[doing.task] == 1),
            key=lambda doing: doing.since,
            default=None,
        )
        late = SLOW_SECONDS + SLOW * statistics.median(call.seconds)
        return oldest.task if oldest is not None and time.monotonic() - oldest.since > late else None

    def at_work(self, call: Call) -> list[Doing]:
        """What is being done of what is left of a call."""
        return [doing for doing in self.busy.values() if doing.call is call and doing.task in call.left]

    def hear(self, worker: Any, answer: Answer, call: Call) -> int | None:
        """Take an answer in; returns the task of this call that is done with it, if it is the first answer to one."""
        doing = self.busy.pop(worker)
        call.kept.discard(worker)
        first = doing.call is call and doing.task in call.left
        if answer.error is None:
            self.idle.append(worker)
        else:
            self.crew.end(worker)  # what it has open may be in the middle of something
            if first:
                raise answer.error
        if doing.call is None:
            call.deaths[STARTING] = 0
        if not first or answer.error is not None:
            return None
        call.left.remove(doing.task)
        call.seconds.append(time.monotonic() - doing.since)
        return doing.task

    def bury(self, worker: Any, call: Call, function: Callable[[Any], Any]) -> None:
        """Let a worker go that has died, and put what it was at before all that waits."""
        doing = self.busy.get(worker)
        self.end(worker)  # it may only be deaf, or out of reach
        if doing is None or doing.call not in (call, None):
            return
        if worker not in call.kept:
            call.deaths[doing.task] += 1
        if call.deaths[doing.task] >= MAX_DEATHS:
            name = f"{function.__module__}.{getattr(function, '__name__', type(function).__name__)}"
            raise Problem(f"workers died {MAX_DEATHS} times in a row while doing {name}: {self.crew.advice}")
        if doing.call is call and doing.task in call.left - {other.task for other in self.at_work(call)}:
            call.waiting.appendleft(doing.task)

    def end(self, worker: Any) -> None:
        """End a worker at once, whatever it does."""
        if self.busy.pop(worker, None) is None:
            self.idle.remove(worker)
        self.crew.end(worker)

    def close(self) -> None:
        """End all workers; those of a later call are new ones."""
        if self.opened is not None:
            self.opened.close()
        self.opened, self.idle, self.busy = None, [], {}

    def __exit__(self, *error: object) -> None:
        self.close()


class Member(NamedTuple):
    """A process of this machine."""

    process: Process
    core: int | None
    """The only one that it runs on, if there is one."""
    knows: set[int]
    """The functions that it has."""


class Processes:
    """A crew of processes that are started afresh (not forked) and die with this one.

    Each has a pipe, by which it is known here: the queues of Python's own pools need semaphores, which the system keeps
    for good where this process is killed together with those that it started.
    """

    advice = "is the machine out of memory? Use fewer with workers.processes=1"
    uneven = False

    def __init__(self, processes: int, tensorflow: bool, pin: bool):
        self.processes, self.tensorflow = processes, tensorflow
        self.cores: list[int | None] = [*own_cores()] if pin and processes == len(own_cores()) else [None] * processes
        self.members: dict[Any, Member] = {}
        self.ending: list[Process] = []
        resource_tracker.ensure_running()  # with the first process it would be started too, and let Ctrl-C through to that

    def size(self) -> int:
        return self.processes

    def start(self) -> Any:
        ours, theirs = multiprocessing.Pipe()
        core = self.cores.pop(0)
        process = Process(target=work, args=(theirs, os.getpid(), self.tensorflow, core), daemon=True)
        with without_interrupts():
            process.start()
            self.members[ours] = Member(process, core, set())
        theirs.close()
        return ours

    def give(self, worker: Any, function: Function, task: Any) -> None:
        knows = self.members[worker].knows
        with contextlib.suppress(ConnectionError):  # it has died: that is found where its answer is waited for
            worker.send((function.number, None if function.number in knows else function.call, task))
        knows.add(function.number)

    def wait(self) -> list[tuple[Any, Answer | None]]:
        ready = multiprocessing.connection.wait([*self.members])
        return [(worker, answer_of(worker)) for worker in ready]

    def end(self, worker: Any) -> None:
        process, core, _ = self.members.pop(worker)
        process.kill()
        worker.close()
        self.cores.append(core)
        self.ending.append(process)

    def close(self) -> None:
        for worker in [*self.members]:
            self.end(worker)
        for process in self.ending:
            process.join()
        self.ending = []


def work(pipe: Any, parent: int, tensorflow: bool = False, core: int | None = None) -> None:
    """What a worker process does: say that it is there, and answer every task that comes, on `core` if it has one to itself.

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
    functions: dict[int, Callable[[Any], Any]] = {}
    answer = Answer()
    with contextlib.suppress(EOFError, ConnectionError):  # nothing more comes, or nobody waits for it
        while True:
            pipe.send(answer)
            number, function, task = pipe.recv()
            functions.setdefault(number, function)
            try:
                answer = Answer(functions[number](task))
            except Exception as error:
                error.add_note(traceback.format_exc())
                answer = Answer(error=error)


def answer_of(pipe: Any) -> Answer | None:
    """The answer of a worker process; None if it has died."""
    try:
        return pipe.recv()
    except (EOFError, ConnectionError):
        return None


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
