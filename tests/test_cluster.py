"""A Ray cluster whose machines come, go, and are slow."""

import threading
import time
from pathlib import Path

import pytest

from experiment import cluster as module
from experiment.problem import Problem
from experiment.schema import Workers
from experiment.workers import open_pool
from tests.ray_cluster import SECONDS, RayCluster, limited
from tests.test_workers import Remembers, square

pytestmark = pytest.mark.needs("ray")


@pytest.fixture(scope="module")
def cluster():
    """A cluster whose head has no core, for one test after the other."""
    with limited(SECONDS):
        started = RayCluster(cores=0)
    with started:
        yield started


@pytest.fixture(scope="module")
def with_a_machine(cluster):
    """It has one from now on."""
    cluster.tell("a machine joins")
    return cluster


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Users are soon told that they wait."""
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with limited(2 * SECONDS):
        yield


def pool_on(cluster, function, **settings):
    return open_pool(function, Workers(backend="ray", address=cluster.address, **settings))


def slow_once(marker: Path) -> str:
    """Take long the first time."""
    if marker.name == "slow" and not marker.exists():
        marker.touch()
        time.sleep(1000)
    return marker.name


def test_a_cluster_without_a_core_is_waited_for_and_given_up(cluster, capfd, monkeypatch):
    with pool_on(cluster, square) as pool:
        assert pool.size() == 1
        monkeypatch.setattr(module, "GIVE_UP", 4.0)
        with pytest.raises(Problem, match=r"no worker could start on the Ray cluster .* has 0 cores; add a machine"):
            list(pool.run([1, 2]))
    assert capfd.readouterr() == ("waiting for a worker on the Ray cluster, which has 0 cores\n", "")


def test_a_machine_that_joins_is_used_at_once_and_one_that_leaves_is_missed(cluster, capfd, monkeypatch):
    with pool_on(cluster, time.sleep) as pool:
        assert pool.size() == 1
        threading.Timer(2, cluster.tell, ["a machine joins"]).start()
        # Tasks that last until the pool has looked again how large the cluster is, which it does every second.
        assert sorted(pool.run([1.0] * 3)) == [(0, None), (1, None), (2, None)] and pool.size() == 2
        results = pool.run([0.1, 1000])
        assert next(results) == (0, None)
        monkeypatch.setattr(module, "GIVE_UP", 4.0)
        cluster.tell("it leaves")
        with pytest.raises(Problem, match="no worker could start on the Ray cluster"):
            next(results)
    said, errors = capfd.readouterr()
    assert set(said.splitlines()) <= {f"waiting for a worker on the Ray cluster, which has {n} cores" for n in (0, 2)}
    assert errors == ""


def test_what_is_late_is_begun_again_elsewhere(with_a_machine, tmp_path):
    """And whoever is late does not hold up the next call."""
    tasks = [tmp_path / name for name in ("slow", "a", "b", "c")]
    with pool_on(with_a_machine, slow_once) as pool:
        for _ in range(2):
            assert sorted(pool.run(tasks)) == list(enumerate(["slow", "a", "b", "c"]))


def test_no_more_workers_than_were_asked_for(with_a_machine):
    with pool_on(with_a_machine, Remembers(), processes=1) as pool:
        assert len({process for _, (process, _) in pool.run(range(4))}) == 1


def test_ray_that_does_not_start_is_one_line(monkeypatch):
    def init(**_):
        raise Exception("The current node timed out during startup.")  # as Ray does, on a machine that is too busy

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(Problem, match=r"cannot reach a Ray cluster at .*: The current node timed out"):
        module.connect_to_ray("")


def test_a_lost_head_is_one_line(with_a_machine, capfd, monkeypatch):
    """Within LOST, or when Ray itself gives up. The last test: nothing of the cluster is left."""
    cluster = with_a_machine
    monkeypatch.setattr(module, "LOST", 10.0)
    with pool_on(cluster, time.sleep) as pool:
        assert list(pool.run([0])) == [(0, None)]
        cluster.tell("its head dies")
        with pytest.raises(Problem, match=f"the Ray cluster at workers.address={cluster.address} does not answer"):
            list(pool.run([1000, 1000]))
    said, errors = capfd.readouterr()
    assert set(said.splitlines()) <= {"waiting for a worker on the Ray cluster, which has 2 cores"} and errors == ""
