"""The next-frame model: reading windows, training and rollouts, each against the plain way in the same run."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np

from benchmarks.measure import Measurement, best_rate, in_float32
from experiment.backend import keras, tf
from experiment.config import load_config
from experiment.run import Run
from experiment.schema import Experiment
from experiment.training import compiled_step
from extract.collect import collect
from extract.rollouts import Rollouts
from nextframe.model import NextFrame
from nextframe.training import optimized
from nextframe.windows import Clips, Windows

RECORDED = 8_000
READ = 4_000
PLAIN_READ = 200
STEPS = 20
ROLLED, HORIZON = 64, 32
PLAIN_HORIZON = 16


def measure() -> Iterator[Measurement]:
    """Windows a second read and trained on, frames a second predicted open loop."""
    settings = load_config("configs/breakout.yaml", None, [f"extract.steps={RECORDED}", "extract.shard_steps=2000"])
    length = settings.model.context + 1
    with tempfile.TemporaryDirectory() as folder:
        run = Run(folder)
        collect(settings, run)
        rollouts = Rollouts(run.rollouts)
        windows = Windows(rollouts, np.arange(rollouts.episodes), length)
        rate = best_rate(lambda: read(windows, settings.train.batch))
        plain = best_rate(lambda: plain_read(rollouts, length))
        yield Measurement("window reading", "windows", rate, plain, "one window at a time from its shard")
        batch = next(windows.batches(settings.train.batch))

    model = optimized(new_model(settings))
    step, flop = compiled_step(model), product_flop(model.network)
    rate = best_rate(lambda: train(step, batch))
    forward = roll(model, batch, ROLLED)

    with in_float32():
        ours = new_model(settings)
        ours.compile(optimizer=keras.optimizers.Adam(1e-3, global_clipnorm=1.0))
        plain_step = compiled_step(ours)
        plain_training = best_rate(lambda: train(plain_step, batch), repeats=1)
        plain_rollout = best_rate(lambda: plain_roll(ours, batch), repeats=1)
    text = "the same in float32 with Keras's Adam"
    yield Measurement("next-frame training", "windows", rate, plain_training, text, 3 * flop)
    text = "one window, step by step, eager, float32"
    yield Measurement("rollout", "frames", forward, plain_rollout, text, flop)


def new_model(settings: Experiment) -> NextFrame:
    """The model of the settings, untrained."""
    return NextFrame(dataclasses.replace(settings, train=dataclasses.replace(settings.train, unroll=1)))


def read(windows: Windows, batch: int) -> int:
    """Shuffled batches, as training reads them, with the pool that they are drawn from."""
    with contextlib.closing(windows.batches(batch)) as batches:
        count = 0
        while count < READ:
            count += len(next(batches).frames)
    return count


def plain_read(rollouts: Rollouts, length: int) -> int:
    """Random windows as one would read them first: open the shard, take the slice."""
    rng = np.random.default_rng(0)
    for _ in range(PLAIN_READ):
        shard = rollouts.shards[rng.integers(len(rollouts.shards))]
        with h5py.File(shard.path) as file:
            first = rng.integers(int(shard.lengths.sum()) - length)
            file["frames"][first : first + length], file["actions"][first : first + length - 1]
    return PLAIN_READ


def train(step: Any, batch: Clips) -> int:
    """Train for STEPS steps on one batch; windows trained on."""
    for _ in range(STEPS):
        float(step(batch)["loss"])
    return STEPS * len(batch.frames)


def roll(model: NextFrame, batch: Clips, rows: int) -> float:
    """Frames a second of many windows at once, open loop, compiled."""
    frames = np.resize(batch.frames[:, : model.context], (rows, *batch.frames[:, : model.context].shape[1:]))
    actions = np.random.default_rng(0).uniform(-1, 1, (rows, model.context - 1 + HORIZON)).astype(np.float32)

    def action() -> int:
        model.open_loop(frames, actions).numpy()
        return rows * HORIZON

    return best_rate(action)


def plain_roll(model: NextFrame, batch: Clips) -> float:
    """Frames of one window, each step called as Keras models are."""
    window = tf.constant(batch.frames[:1, : model.context] / np.float32(255))
    actions = tf.zeros((1, model.context))
    for _ in range(PLAIN_HORIZON):
        frame = tf.clip_by_value(model.unclipped(window, actions), 0.0, 1.0)
        window = tf.concat([window[:, 1:], frame[:, None]], axis=1)
    return PLAIN_HORIZON


def product_flop(network: keras.Model) -> float:
    """Floating-point operations of the convolutions and dense layers for one window, forwards."""
    return sum(layer_flop(layer) for layer in network.layers)


def layer_flop(layer: Any) -> float:
    """Twice the kernel's size for every place of the output; 0 for layers without a kernel."""
    if not isinstance(layer, keras.layers.Conv2D | keras.layers.Dense):
        return 0.0
    places = np.prod(layer.output.shape[1:-1]) if len(layer.output.shape) > 2 else 1
    return 2.0 * float(places) * float(np.prod(layer.kernel.shape))
