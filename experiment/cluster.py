"""Workers on a Ray cluster, or on one that is started on this machine.

Ray's driver is a process of its own, `drive`, which is listened to for a limited time: where the head of a cluster is
gone, Ray waits for ever, or ends the process that it is in. What it prints there, no user needs to see.
"""

import contextlib
import os
import pickle
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from multiprocessing.context import SpawnProcess as Process
from typing import Any, NamedTuple

from tqdm import tqdm

from experiment.hardware import THREADS
from experiment.problem import Problem
from experiment.progress import duration
from experiment.schema import Workers
from experiment.workers import STARTING, Answer, Function, Pool, follow, start_process

LOOK = 1.0
"""Seconds between two looks at the cluster."""
PATIENCE = 20.0
"""Seconds without a worker at work after which it is said what is waited for."""
GIVE_UP = 300.0
"""Seconds after which it is not waited for any longer, nor for a cluster to start."""
LOST = 60.0
"""Seconds without a word from the driver after which the cluster counts as lost."""
ENDED = 10.0
"""Seconds after which the driver is ended however it is."""
SLOW, SLOW_SECONDS = 2.0, 10.0
"""A task is late when it takes so many times as long as half of the others did, and so many seconds more: about as many
as it takes to start a worker in the place of the one that is slower."""


class Status(NamedTuple):
    """What the driver says every second."""

    cores: int
    """Of all machines of the cluster."""
    size: int
    """How many workers can be at work."""
    working: bool
    """Whether any is."""


class Cluster(Pool):
    """Workers on a Ray cluster: one for each of its cores, or workers.processes if these are fewer."""

    def __init__(self, function: Function, workers: Workers):
        self.function, self.workers = function, workers
        self.driver: Process | None = None
        self.pipe: Any = None
        self.status: Status

    def size(self) -> int:
        if self.driver is None:
            self.driver, self.pipe = start_process(drive, pickle.dumps(self.function), self.workers)
            self.status = self.hear(GIVE_UP)
        return self.status.size

    def run(self, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        try:
            self.size()
            with contextlib.suppress(ConnectionError):  # the driver has died: `hear` finds that
                self.pipe.send(tasks)
            left, worked, said = len(tasks), time.monotonic(), False
            while left:
                news = self.hear(LOST)
                if not isinstance(news, Status):
                    left -= 1
                    yield news
                    continue
                self.status, waited = news, time.monotonic() - worked
                if news.working:
                    worked, said = time.monotonic(), False
                elif waited > GIVE_UP:
                    raise Problem(
                        f"no worker could start on the Ray cluster in {duration(GIVE_UP)}: it has {news.cores} cores; add a "
                        "machine with `ray start`, or end what else runs there"
                    )
                elif waited > PATIENCE and not said:
                    tqdm.write(f"waiting for a worker on the Ray cluster, which has {news.cores} cores")
                    said = True
        except BaseException:  # also Ctrl-C, or nobody wants more
            self.close()
            raise

    def hear(self, seconds: float) -> Any:
        """What the driver says next, within some seconds: a Status, or an index and a result. Raises what it ended for."""
        news: Any = None
        with contextlib.suppress(EOFError, ConnectionError):
            news = self.pipe.recv() if self.pipe.poll(seconds) else None
        if news is None:
            where = f"workers.address={self.workers.address}" if self.workers.address else "this machine"
            raise Problem(f"the Ray cluster at {where} does not answer: start it again, then this command")
        if isinstance(news, Exception):
            raise news
        return news

    def close(self) -> None:
        if self.driver is not None:
            self.pipe.close()  # which ends it, and its actors
            self.driver.join(ENDED)
            self.driver.kill()
            self.driver = None


def drive(pipe: Any, parent: int, function: bytes, workers: Workers) -> None:
    """What the driver does: have actors do the tasks that come, and send each result and every second a Status."""
    follow(parent)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        with Actors(function, workers, pipe) as actors:
            while True:
                tasks = pipe.recv()
                for result in actors.run(tasks):
                    pipe.send(result)
    except Exception as error:
        if type(error).__module__.startswith("ray."):
            error = Problem("the Ray cluster cannot go on: " + str(error).partition("\n")[0])
        with contextlib.suppress(ConnectionError):  # nobody listens any more, which is how this usually ends
            pipe.send(error)


class Actors(Pool):
    """Actors of a Ray cluster, each with one core, and one thread if no more are asked for.

    Actors and not Ray's own tasks, because these can only be ended by `ray.cancel`, which now and then lets one go on, or
    ends this process where it races with a task that is about to start.
    """

    advice = "is a machine out of memory, or without this project?"

    def __init__(self, function: bytes, workers: Workers, pipe: Any):
        super().__init__()
        self.processes, self.pipe = workers.processes, pipe
        self.ray = connect_to_ray(workers.address)
        self.given = self.ray.put(function)  # goes out once to each machine, not to each actor
        self.actor = self.ray.remote(num_cpus=1)(Actor)
        self.answers: dict[Any, Any] = {}
        """From the reference of an answer to the actor that it will come from."""
        self.look()

    def look(self) -> None:
        """See how many cores all machines have, and say it."""
        self.looked, self.cores = time.monotonic(), int(self.ray.cluster_resources().get("CPU", 0))
        self.pipe.send(Status(self.cores, self.size(), any(task != STARTING for task, _ in self.busy.values())))

    def size(self) -> int:
        return max(1, min(self.cores, self.processes or self.cores))

    def start(self) -> Any:
        actor = self.actor.remote(self.given, os.environ.get(THREADS, "0"))
        self.answers[actor.there.remote()] = actor
        return actor

    def give(self, worker: Any, task: Any) -> None:
        self.answers[worker.do.remote(task)] = worker

    def wait(self) -> list[tuple[Any, Answer | None]]:
        if time.monotonic() - self.looked > LOOK:
            self.look()
        ready, _ = self.ray.wait([*self.answers], timeout=LOOK)
        return [(self.answers.pop(reference), self.answer_of(reference)) for reference in ready]

    def answer_of(self, reference: Any) -> Answer | None:
        """The answer of an actor; None if it has died, or its machine."""
        try:
            return Answer(self.ray.get(reference))
        except self.ray.exceptions.RayTaskError as error:
            return Answer(error=error.cause)
        except self.ray.exceptions.RayError:
            return None

    def end(self, worker: Any) -> None:
        self.answers = {reference: actor for reference, actor in self.answers.items() if actor is not worker}
        self.ray.kill(worker)

    def close(self) -> None:
        self.ray.shutdown()  # which ends them

    def late(self, left: Set[int], seconds: Sequence[float]) -> int | None:
        """That which has been done for longest by one worker alone, if it is slow or out of reach."""
        times = Counter(task for task, _ in self.busy.values())
        alone = [(since, task) for task, since in self.busy.values() if task in left and times[task] == 1]
        if not alone or not seconds:
            return None
        since, task = min(alone)
        return task if time.monotonic() - since > SLOW * statistics.median(seconds) + SLOW_SECONDS else None


class Actor:
    """A process of a Ray cluster that does one task at a time."""

    def __init__(self, function: bytes, threads: str):
        os.environ[THREADS] = threads if int(threads) else "1"
        self.function = pickle.loads(function)

    def there(self) -> None:
        """Return as soon as the process runs: where a cluster is busy, that takes a while."""

    def do(self, task: Any) -> Any:
        """The result of a task."""
        return self.function(task)


def connect_to_ray(address: str) -> Any:
    """The module `ray`, connected to the cluster at the address, or to one on this machine where that is empty."""
    try:
        import ray
    except ImportError:
        raise Problem("workers.backend=ray needs Ray: install it with `bash launch_scripts/setup.bash ray`") from None
    try:
        if ":" in address and "://" not in address:  # where nothing listens, Ray would try for several minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=5).close()
        # Of a cluster that starts here. By itself Ray takes 15, a tenth of what others get who are at work too.
        os.environ.setdefault("RAY_worker_niceness", "0")
        ray.init(address=address or "local", include_dashboard=False, log_to_driver=False)
    except Exception as error:  # a plain one where a node takes too long to start
        raise Problem(f"cannot reach a Ray cluster at workers.address={address}: {error}") from None
    return ray
