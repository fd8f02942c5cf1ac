"""Workers on a Ray cluster, or on one that is started on this machine."""

import logging
import math
import os
import socket
import time
from typing import Any

from tqdm import tqdm

from experiment.hardware import THREADS, silence
from experiment.problem import Problem
from experiment.progress import duration
from experiment.schema import Workers
from experiment.workers import Answer, Function

LOOK = 1.0
"""Seconds between two looks at the cluster."""
QUIET = {"RAY_BACKEND_LOG_LEVEL": "fatal", "RAY_gcs_rpc_server_reconnect_timeout_s": "3600"}
"""Variables by which Ray keeps its own lines from the terminal, and does not end this process when the head is gone: `look`
finds that out, and says it in one line."""
PATIENCE = 10.0
"""Seconds without a worker after which it is said what is waited for."""
GIVE_UP = 300.0
"""Seconds after which it is not waited for any longer."""
LOST = 45.0
"""Seconds without an answer of its head after which a cluster counts as lost."""


class Cluster:
    """A crew of actors, at most one for each of a cluster's cores; each has one core, and one thread if no more are asked for.

    Actors and not Ray's own tasks, because these can only be ended by `ray.cancel`, which now and then lets one go on, or
    ends this process where it races with a task that is about to start.
    """

    advice = "is a machine out of memory, or without this project?"
    uneven = True

    def __init__(self, workers: Workers):
        self.ray, self.most = connect_to_ray(workers.address), workers.processes or math.inf
        self.where = self.ray.get_runtime_context().gcs_address
        host, _, port = self.where.rpartition(":")
        self.head = host, int(port)
        self.looked = self.heard = self.worked = time.monotonic()
        """When the cluster was looked at, its head answered, and a worker was at work; for the last time."""
        self.said = self.lost = False
        """That no core is free, and whether the head is gone."""
        self.cores = self.count()
        self.actor = self.ray.remote(num_cpus=1)(Actor)
        self.actors: set[Any] = set()
        self.starting: dict[Any, Any] = {}
        self.doing: dict[Any, Any] = {}
        """From the reference of an answer to the actor that it will come from."""
        self.functions: dict[int, Any] = {}
        """References of those that the cluster has."""

    def size(self) -> int:
        return int(max(1, min(self.cores, self.most)))

    def start(self) -> Any:
        actor = self.actor.remote(int(os.environ.get(THREADS, 0)) or 1)
        self.actors.add(actor)
        self.starting[actor.there.remote()] = actor
        return actor

    def give(self, worker: Any, function: Function, task: Any) -> None:
        if function.number not in self.functions:
            self.functions[function.number] = self.ray.put(function.call)
        self.doing[worker.do.remote(function.number, [self.functions[function.number]], task)] = worker

    def wait(self) -> list[tuple[Any, Answer | None]]:
        self.look()
        ready, _ = self.ray.wait([*self.starting, *self.doing], timeout=LOOK)
        answers = []
        for reference in ready:
            actor = self.starting.pop(reference, None) or self.doing.pop(reference)
            answers.append((actor, self.answer_of(reference)))
        return answers

    def answer_of(self, reference: Any) -> Answer | None:
        """The answer of an actor; None if it has died. Raises Problem for what else may be wrong with a cluster."""
        try:
            return Answer(self.ray.get(reference))
        except self.ray.exceptions.RayTaskError as error:
            return Answer(error=error.cause)
        except self.ray.exceptions.RayActorError:
            return None
        except self.ray.exceptions.RayError as error:
            raise Problem(f"the Ray cluster cannot go on: {error}") from None

    def look(self) -> None:
        """Once a second, see what the cluster has. Raises Problem if its head is gone, or no core to be had, for too long."""
        now = time.monotonic()
        if now - self.looked < LOOK:
            return
        self.looked = now
        try:
            socket.create_connection(self.head, timeout=2).close()
            self.heard, self.cores = now, self.count()
        except OSError as error:
            if now - self.heard > LOST:
                self.lost = True
                raise Problem(
                    f"the head of the Ray cluster does not answer ({self.where}: {error}): start it again, then this command"
                ) from None
        if self.doing:
            self.worked, self.said = now, False
        elif now - self.worked > GIVE_UP:
            raise Problem(
                f"no core of the Ray cluster became free in {duration(GIVE_UP)}: it has {self.cores}; add a machine with "
                f"`ray start --address={self.where}`, or end what else runs there"
            )
        elif now - self.worked > PATIENCE and not self.said:
            tqdm.write(f"waiting for a core of the Ray cluster, which has {self.cores}")
            self.said = True

    def count(self) -> int:
        """The cores of all its machines."""
        return int(self.ray.cluster_resources().get("CPU", 0))

    def end(self, worker: Any) -> None:
        for waited_for in (self.starting, self.doing):
            for reference in [reference for reference, actor in waited_for.items() if actor is worker]:
                del waited_for[reference]
        self.actors.discard(worker)
        if not self.lost:  # else this would wait for the head
            self.ray.kill(worker)

    def close(self) -> None:
        for actor in [*self.actors]:
            self.end(actor)


class Actor:
    """A process of a Ray cluster that does one task at a time."""

    def __init__(self, threads: int):
        os.environ[THREADS] = str(threads)
        self.functions: dict[int, Any] = {}

    def there(self) -> None:
        """Return as soon as the process runs: where a cluster is busy, that takes a while."""

    def do(self, number: int, function: list[Any], task: Any) -> Any:
        """The result of a task. function: a reference to it, in a list, since Ray would fetch it anew for every task."""
        import ray

        if number not in self.functions:
            self.functions[number] = ray.get(function[0])
        return self.functions[number](task)


def connect_to_ray(address: str) -> Any:
    """The module `ray`, connected to the cluster at the address, or to one on this machine where that is empty."""
    os.environ |= QUIET
    try:
        import ray
    except ImportError:
        raise Problem("workers.backend=ray needs Ray: install it with `bash launch_scripts/setup.bash ray`") from None
    if not ray.is_initialized():
        try:
            if ":" in address and "://" not in address:  # where nothing listens, Ray would try for several minutes
                host, _, port = address.rpartition(":")
                socket.create_connection((host, int(port)), timeout=5).close()
            with silence():
                ray.init(
                    address=address or "local",
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.CRITICAL,
                )
        except (OSError, ValueError, RuntimeError) as error:
            raise Problem(f"cannot reach a Ray cluster at workers.address={address}: {error}") from None
        ray._private.worker._worker_logs_enabled = (
            False  # what Ray says of dead actors and nodes, whatever log_to_driver
        )
    return ray
