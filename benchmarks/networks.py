"""V and M: our training and encoding against the same networks as Keras makes them out of the box, in float32."""

import tempfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.measure import Measurement, best_rate, in_float32
from experiment.backend import keras, layers, tf
from experiment.config import load_config
from experiment.run import Run
from experiment.schema import Experiment, Vae
from experiment.training import compiled_step
from extract.collect import collect
from extract.rollouts import Rollouts
from rnn.mixture import log_likelihood
from rnn.model import build_rnn
from rnn.series import Batch
from rnn.training import Learner
from vae.encode import BATCHES, encode_ranges
from vae.model import VAE
from vae.training import optimized_vae

STEPS = 20
ENCODED = 20_000
PLAIN_ENCODED = 200
V_FRAME, V_ENCODED, M_FRAME = 234e6, 30e6, 10e6
"""FLOP of the products of one frame: V training, V encoding, M training (forwards and backwards)."""


def measure() -> Iterator[Measurement]:
    """Frames a second in training V, encoding recorded frames with V, training M."""
    settings = load_config("configs/doom.yaml")
    with tempfile.TemporaryDirectory() as folder:
        collect(load_config("configs/doom.yaml", None, [f"extract.episodes={ENCODED // 300}"]), Run(folder))
        rollouts = Rollouts(Run(folder).rollouts)
        yield from measure_vae(settings, rollouts)
    yield measure_rnn(settings)


def measure_vae(settings: Experiment, rollouts: Rollouts) -> Iterator[Measurement]:
    """Training V on one batch, and encoding all rollouts as `python -m vae.encode` does, with reading them."""
    frames = rollouts.read_range(0, settings.vae.batch)
    ours, size = VAE(settings.vae.z), settings.hardware.encode_batch
    encode = tf.function(ours.encode, input_signature=[tf.TensorSpec((None, 64, 64, 3), tf.uint8)])
    read = BATCHES * size
    ranges = [(first, min(first + read, rollouts.frames)) for first in range(0, rollouts.frames, read)]
    rate = v_rate(settings.vae, frames)
    encoded = best_rate(lambda: sum(len(mu) for mu, _ in encode_ranges(encode, rollouts, ranges, size)))
    with in_float32():
        plain = PlainVAE(settings.vae.z)
        plain.compile(optimizer=keras.optimizers.Adam(1e-4))
        plain_rate = best_rate(lambda: fit(plain, frames / np.float32(255)))
        few = rollouts.read_range(0, PLAIN_ENCODED) / np.float32(255)
        eager = best_rate(lambda: encode_one_by_one(plain, few))
    yield Measurement("V training", "frames", rate, plain_rate, "Keras as it comes, float32", V_FRAME)
    yield Measurement("encoding", "frames", encoded, eager, "frame by frame, in memory, eager, float32", V_ENCODED)


def v_rate(options: Vae, frames: np.ndarray) -> float:
    """Of training our V on one batch."""
    step = compiled_step(optimized_vae(options))
    return best_rate(lambda: repeat(lambda: float(step(frames)["loss"]), STEPS) * len(frames))


def m_rate(settings: Experiment) -> float:
    """Of training our M on one batch."""
    m = settings.rnn
    batch, learner = random_batch(m.window, m.streams, settings.vae.z), Learner(build_rnn(settings), m)
    step = compiled_step(learner)
    return best_rate(lambda: repeat(lambda: float(step(batch)["loss"]), 5) * learner.frames)


def measure_rnn(settings: Experiment) -> Measurement:
    """Training M on one batch."""
    m = settings.rnn
    batch, rate = random_batch(m.window, m.streams, settings.vae.z), m_rate(settings)
    with in_float32():
        plain = PlainMDNRNN(settings.vae.z, m.hidden, m.mixtures)
        plain.compile(optimizer=keras.optimizers.Adam(1e-3, clipvalue=1.0))
        x, y = (np.swapaxes(part, 0, 1) for part in (batch.inputs, np.concatenate([batch.z, batch.done[..., None]], 2)))
        plain_rate = best_rate(lambda: repeat(lambda: plain.train_on_batch(x, y), 3) * m.window * m.streams)
    return Measurement("M training", "frames", rate, plain_rate, "keras.layers.LSTM, float32", M_FRAME)


def fit(model: keras.Model, frames: np.ndarray) -> int:
    """Train for STEPS steps on one batch; frames trained on."""
    data = tf.data.Dataset.from_tensors((frames,)).repeat()
    model.fit(data, steps_per_epoch=STEPS, verbose=0, shuffle=False)
    return STEPS * len(frames)


def encode_one_by_one(model: "PlainVAE", frames: np.ndarray) -> int:
    """Encode frames, each a batch of its own."""
    for frame in frames:
        model.encode_frames(frame[None])[0].numpy()
    return len(frames)


def repeat(action: Any, times: int) -> int:
    """Do something some times."""
    for _ in range(times):
        action()
    return times


def random_batch(window: int, streams: int, latent_size: int) -> Batch:
    """A batch of noise in the shape that M is trained on."""
    random = np.random.default_rng(0)
    shape = (window, streams)
    ones = np.ones(shape, "float32")
    inputs = random.standard_normal((*shape, latent_size + 2), "float32")
    done = (random.random(shape) < 0.003).astype("float32")
    return Batch(inputs, ones, inputs[..., :latent_size], ones, done, ones, ones, ones)


class PlainVAE(keras.Model):
    """V of plain Keras layers."""

    def __init__(self, latent_size: int):
        super().__init__()
        self.latent_size = latent_size
        convolutions = [layers.Conv2D(filters, 4, strides=2, activation="relu") for filters in (32, 64, 128, 256)]
        self.encoder = keras.Sequential([*convolutions, layers.Flatten(), layers.Dense(2 * latent_size)])
        self.decoder = keras.Sequential(
            [layers.Dense(1024), layers.Reshape((1, 1, 1024))]
            + [
                layers.Conv2DTranspose(f, size, strides=2, activation="relu")
                for f, size in ((128, 5), (64, 5), (32, 6))
            ]
            + [layers.Conv2DTranspose(3, 6, strides=2, activation="sigmoid")]
        )

    def encode_frames(self, frames: Any) -> Any:
        return tf.split(self.encoder(frames), 2, axis=1)

    def call(self, frames: Any) -> Any:
        mu, logvar = self.encode_frames(frames)
        kl = -0.5 * tf.reduce_sum(1 + logvar - mu**2 - tf.exp(logvar), axis=1)
        decoded = self.decoder(mu + tf.exp(logvar / 2) * tf.random.normal(tf.shape(mu)))
        error = tf.reduce_sum((frames - decoded) ** 2, axis=(1, 2, 3))
        self.add_loss(tf.reduce_mean(error + tf.maximum(kl, 0.5 * self.latent_size)))
        return decoded


class PlainMDNRNN(keras.Model):
    """M of plain Keras layers."""

    def __init__(self, latent_size: int, hidden: int, mixtures: int):
        super().__init__()
        self.latent_size, self.mixtures = latent_size, mixtures
        self.lstm = layers.LSTM(hidden, return_sequences=True)
        self.out = layers.Dense(3 * mixtures * latent_size + 1)

    def call(self, inputs: Any) -> Any:
        return self.out(self.lstm(inputs))

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, *_: Any, **__: Any) -> Any:
        from rnn.mixture import split_mixture

        y = tf.reshape(y, (-1, self.latent_size + 1))
        outputs = tf.reshape(y_pred, (-1, y_pred.shape[-1]))
        nll = -tf.reduce_mean(log_likelihood(split_mixture(outputs[:, :-1], self.mixtures), y[:, :-1]))
        return nll + tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(y[:, -1], outputs[:, -1]))
