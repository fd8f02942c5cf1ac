"""Workers on a Ray cluster, or on one that is started on this machine."""

import logging
import socket
from typing import Any

from experiment.problem import Problem
from experiment.schema import Workers
from experiment.workers import Answer, Function


class Cluster:
    """A crew of actors, at most one for each of a cluster's cores.

    Actors and not Ray's own tasks, because these can only be ended by `ray.cancel`, which now and then lets one go on, or
    ends this process where it races with a task that is about to start.
    """

    advice = "is a machine out of memory, or without this project?"
    uneven = True

    def __init__(self, workers: Workers):
        self.ray = connect_to_ray(workers.address)
        self.actor = self.ray.remote(num_cpus=1)(Actor)
        self.pending: dict[Any, Any] = {}
        """From what an answer will be found in to who gives it."""
        self.functions: dict[int, Any] = {}
        """Where Ray keeps them."""

    def size(self) -> int:
        return max(1, int(self.ray.cluster_resources().get("CPU", 0)))

    def start(self) -> Any:
        worker = self.actor.remote()
        self.pending[worker.there.remote()] = worker
        return worker

    def give(self, worker: Any, function: Function, task: Any) -> None:
        if function.number not in self.functions:
            self.functions[function.number] = self.ray.put(function.call)
        self.pending[worker.do.remote(function.number, [self.functions[function.number]], task)] = worker

    def wait(self) -> list[tuple[Any, Answer | None]]:
        ready, _ = self.ray.wait(list(self.pending), num_returns=1, timeout=1)
        return [(self.pending.pop(reference), self.answer_of(reference)) for reference in ready]

    def answer_of(self, reference: Any) -> Answer | None:
        """The answer of an actor; None if it has died."""
        try:
            return Answer(self.ray.get(reference))
        except self.ray.exceptions.RayTaskError as error:
            return Answer(error=error.cause)
        except self.ray.exceptions.RayActorError:
            return None

    def end(self, worker: Any) -> None:
        self.ray.kill(worker)
        self.pending = {reference: other for reference, other in self.pending.items() if other is not worker}

    def close(self) -> None:
        pass


class Actor:
    """A process of a Ray cluster that does one task at a time."""

    def __init__(self) -> None:
        self.functions: dict[int, Any] = {}

    def there(self) -> None:
        """Return as soon as the process runs: where a cluster is busy, that takes a while."""

    def do(self, number: int, function: list[Any], task: Any) -> Any:
        """The result of a task. function: a reference to it."""
        import ray

        if number not in self.functions:
            self.functions[number] = ray.get(function[0])
        return self.functions[number](task)


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
