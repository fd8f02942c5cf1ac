"""A Ray cluster whose machines come, go, and are slow; each is a few processes here."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from experiment import cluster as module
from experiment.problem import Problem
from experiment.schema import Workers
from experiment.workers import Pool
from tests.test_workers import Remembers, square

pytestmark = pytest.mark.needs("ray")


@pytest.fixture
def cluster(monkeypatch):
    """A cluster whose head has no core, looked at by impatient users."""
    import ray
    from ray.cluster_utils import Cluster

    ray.shutdown()
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    monkeypatch.setattr(module, "GIVE_UP", 4.0)
    started = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield started
    ray.shutdown()
    started.shutdown()


def workers(cluster, **settings) -> Workers:
    return Workers(backend="ray", address=cluster.address, **settings)


def slow_once(marker: Path) -> str:
    """Take long the first time."""
    if marker.name == "slow" and not marker.exists():
        marker.touch()
        time.sleep(100)
    return marker.name


def test_a_cluster_without_a_core_is_waited_for_and_given_up(cluster, capfd):
    with pytest.raises(Problem, match=r"no core of the Ray cluster .* it has 0; add a machine"):
        list(Pool(workers(cluster)).run(square, [1, 2]))
    assert capfd.readouterr() == ("waiting for a core of the Ray cluster, which has 0\n", "")


def test_a_machine_that_joins_is_used_at_once_and_one_that_leaves_is_missed(cluster, capfd, monkeypatch):
    monkeypatch.setattr(module, "GIVE_UP", 60.0)
    with Pool(workers(cluster)) as pool:
        results = []
        working = threading.Thread(target=lambda: results.extend(pool.run(square, range(3))))
        working.start()
        node = cluster.add_node(num_cpus=2)
        working.join(60)
        assert sorted(results) == [(0, 0), (1, 1), (2, 4)] and pool.crew.size() == 2
        monkeypatch.setattr(module, "GIVE_UP", 4.0)
        cluster.remove_node(node, allow_graceful=False)
        with pytest.raises(Problem, match="no core of the Ray cluster"):
            list(pool.run(time.sleep, [20, 20]))
    said, errors = capfd.readouterr()
    assert set(said.splitlines()) <= {f"waiting for a core of the Ray cluster, which has {n}" for n in (0, 2)}
    assert errors == ""


def test_what_is_late_is_begun_again_elsewhere(cluster, tmp_path, monkeypatch):
    """And whoever is late does not hold up the next call."""
    cluster.add_node(num_cpus=2)
    tasks = [tmp_path / name for name in ("slow", "a", "b", "c")]
    monkeypatch.setattr(module, "GIVE_UP", 60.0)
    with Pool(workers(cluster)) as pool:
        for _ in range(2):
            assert sorted(pool.run(slow_once, tasks)) == list(enumerate(["slow", "a", "b", "c"]))


def test_no_more_workers_than_were_asked_for(cluster, monkeypatch):
    cluster.add_node(num_cpus=2)
    monkeypatch.setattr(module, "GIVE_UP", 60.0)
    with Pool(workers(cluster, processes=1)) as pool:
        assert len({process for _, (process, _) in pool.run(Remembers(), range(4))}) == 1


LOSES_ITS_HEAD = """
import sys
from ray.cluster_utils import Cluster
from experiment import cluster as module
from experiment.schema import Workers
from experiment.stage import guard
from experiment.workers import Pool
from tests.test_workers import square

def work(cluster):
    with Pool(Workers(backend="ray", address=cluster.address)) as pool:
        print(sorted(pool.run(square, range(2))), flush=True)
        cluster.head_node.kill_gcs_server()
        for call in range(1000):
            list(pool.run(square, range(1000)))

if __name__ == "__main__":
    module.LOST = 3.0
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    sys.exit(guard(lambda: work(cluster)))
"""


def test_a_lost_head_is_one_line():
    began = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", LOSES_ITS_HEAD], capture_output=True, text=True, timeout=90)
    assert ended.stdout == "[(0, 0), (1, 1)]\n" and ended.returncode == 1
    assert (
        ended.stderr.startswith("error: the head of the Ray cluster does not answer") and ended.stderr.count("\n") == 1
    )
    assert time.monotonic() - began < 60
