"""The same bytes in one process, in two, and on a Ray cluster of a head and two machines, of the real game and real networks.

Too slow for the test command, since each worker starts TensorFlow; .ci/run names it: `pytest tests/many_machines.py`.
"""

import shutil
from pathlib import Path

import h5py
import pytest

from controller.training import evolve_all
from experiment.config import load_config
from experiment.metrics import read_metrics
from experiment.run import Run
from extract.collect import collect
from tests.fake import save_untrained
from tests.ray_cluster import RayCluster

pytestmark = pytest.mark.needs("ray")
SMALL = (
    *("env.max_steps=30", "repeat.max_steps=30", "vae.z=16", "rnn.hidden=16", "data.val_ratio=0.5"),
    "hardware.precision=float32",
    *("extract.episodes=6", "extract.shard_episodes=2", "extract.max_steps=30", "extract.min_steps=1"),
    *("controller.generations=0", "controller.real_generations=2", "controller.trial_every=0"),
    *("controller.real_population=6", "controller.real_episodes=2", "controller.real_sigma=0.5"),
)


@pytest.fixture(scope="module")
def cluster():
    """A head without a core, and two machines."""
    with RayCluster(cores=0) as started:
        for _ in range(2):
            started.tell("a machine joins")
        yield started


@pytest.fixture
def everywhere(cluster):
    """The settings of each way to spread the work, by its name."""
    ways = {"one": ["processes=1"], "two": ["processes=2"], "ray": ["backend=ray", f"address={cluster.address}"]}
    return {
        name: load_config("configs/carracing.yaml", None, [*SMALL, *(f"workers.{each}" for each in way)])
        for name, way in ways.items()
    }


def bytes_of(path: Path) -> dict[str, bytes]:
    """Every array of an HDF5 file, by its name."""
    found: dict[str, bytes] = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: found.update({name: item[()].tobytes()}) if isinstance(item, h5py.Dataset) else None
        )
    assert found
    return found


def test_shards_are_the_same(everywhere, tmp_path):
    made = {}
    for name, settings in everywhere.items():
        run = Run(tmp_path / name)
        collect(settings, run)
        made[name] = {path.name: bytes_of(path) for path in sorted(run.rollouts.iterdir())}
    assert len(made["one"]) == 3 and made["one"] == made["two"] == made["ray"]


def test_real_generations_are_the_same(everywhere, tmp_path):
    save_untrained(Run(tmp_path / "one"), everywhere["one"])
    for name in ("two", "ray"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    for name, settings in everywhere.items():
        evolve_all(settings, Run(tmp_path / name))
    (spread,) = {float(read_metrics(Run(tmp_path / name).metrics / "controller.csv")["std"][-1]) for name in everywhere}
    made = {name: (tmp_path / name / "controller.h5").read_bytes() for name in everywhere}
    assert spread > 0 and made["one"] == made["two"] == made["ray"]
