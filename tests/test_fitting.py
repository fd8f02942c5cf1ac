"""What stops the making of batches is raised as it is, not as TensorFlow's error; where V is trained too."""

from collections.abc import Generator

import h5py
import numpy as np
import pytest

from experiment.backend import keras
from experiment.fitting import fit
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Data, Experiment, Hardware, Vae
from extract import rollouts
from extract.rollouts import Episode, Rollouts, shard_path, write_shard
from vae import training


def ones(good: int, error: Exception) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """So many batches, then an error."""
    for _ in range(good):
        yield np.ones((2, 1), np.float32), np.ones((2, 1), np.float32)
    raise error


def trained(batches: Generator[tuple[np.ndarray, np.ndarray], None, None], steps: int) -> int:
    """Train a small model on what there is; steps that it took."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    fit(model, batches, steps, lambda batch: batch)
    return int(model.optimizer.iterations)


@pytest.mark.parametrize("good", [0, 3])
def test_a_problem_comes_out_as_it_was_raised(good):
    problem = Problem("shard 3 is damaged")
    with pytest.raises(Problem) as caught:
        trained(ones(good, problem), 9)
    assert caught.value is problem


def test_other_errors_and_what_is_not_read_change_nothing():
    with pytest.raises(Exception, match="a fault of ours") as caught:
        trained(ones(3, ValueError("a fault of ours")), 9)
    assert not isinstance(caught.value, Problem)
    assert trained(ones(40, Problem("too late")), 5) == 5


def test_damage_that_training_v_meets_with_later_is_a_problem(tmp_path, monkeypatch):
    monkeypatch.setattr(rollouts, "POOL", 32)
    run, length = Run(tmp_path), 160
    rng, last = np.random.default_rng(0), np.arange(length) == length - 1
    frames = rng.integers(0, 256, (length, 64, 64, 3), dtype=np.uint8)
    zeros = np.zeros(length, np.float32)
    episode = Episode(frames, zeros, zeros, last, np.zeros(length, bool))
    write_shard(shard_path(run.rollouts, 0), [episode, episode], {})
    settings = Experiment(
        vae=Vae(z=4, steps=24, batch=8, frame_stride=1, epochs=1),
        data=Data(val_ratio=0.5),
        hardware=Hardware(precision="float32"),
    )
    recorded = Rollouts(run.rollouts)
    order = recorded.pass_order(recorded.split(0.5)[0], 1, settings.vae.seed, 0)
    path = shard_path(run.rollouts, 0)
    with h5py.File(path) as file:
        chunk = file["frames"].id.get_chunk_info(int(order[-1]) // recorded.block)
    with open(path, "r+b") as raw:
        raw.seek(chunk.byte_offset)
        raw.write(bytes(chunk.size))
    with pytest.raises(Problem, match=r"shard-00000\.h5 is damaged \(.*\): delete it and run") as caught:
        training.train(settings, run)
    assert "\n" not in str(caught.value)
