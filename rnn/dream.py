"""The dream: M as a world, batched, in which whole generations of controllers live at once (paper, section 4).

Every dream starts at the first frame of a real episode, with M's state at zero. In each step C sees z[t],
h[t] and c[t] and acts; M steps; z[t+1] is drawn from its mixture at a temperature; the dream ends when the
done logit is above 0.
"""

import inspect
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from rnn.mixture import sample
from rnn.model import MDNRNN

Tensor = Any
Act = Callable[..., Tensor]
COMPACT_EVERY = 60  # steps between two droppings of finished rows


class Starts(NamedTuple):
    """Where dreams start: V's (mu, logvar) of the first frames of S real episodes, each (S, Z) float32."""

    mu: np.ndarray
    logvar: np.ndarray

    @classmethod
    def of(cls, latents: Any) -> "Starts":
        """The starts of every episode of a `vae.latents.Latents`."""
        first = np.asarray(latents.episode_starts)
        return cls(np.asarray(latents.mu[first], "float32"), np.asarray(latents.logvar[first], "float32"))


def noise(seed: Tensor, step: Tensor, episodes: int, latent_size: int) -> tuple[Tensor, Tensor]:
    """The random numbers of one step of E episodes: uniform in [0, 1) and standard normal, each (E, Z) float32.

    They depend on nothing else, so every candidate meets the same luck, however a population is sliced.
    """
    key = tf.stack([tf.cast(seed, tf.int64), 2 * tf.cast(step, tf.int64)])
    shape = (episodes, latent_size)
    return tf.random.stateless_uniform(shape, key), tf.random.stateless_normal(shape, key + [0, 1])


def execute(raw: Tensor) -> Tensor:
    """The paper's thresholds: raw below -1/3 is -1 (left), above 1/3 is 1 (right), else 0 (stay)."""
    return tf.cast(raw > 1 / 3, tf.float32) - tf.cast(raw < -1 / 3, tf.float32)


class Dream:
    """M as a batched world.

    model: with a done head. starts: where dreams begin. action: what M is given, 'executed' (-1, 0, 1) or
    the 'raw' tanh, as it was trained.

    `act(parameters, z, h, c)` is a traceable function that chooses the raw actions (N,) of N dreams from
    parameters (N, D), z (N, Z), h and c (N, H). If it names them, it is also given `step` (int32 scalar) and
    `episode` (N,) int32, which of a candidate's E episodes each row is.
    """

    def __init__(self, model: MDNRNN, starts: Starts, action: Literal["executed", "raw"] = "executed"):
        self.model, self.starts, self.action = model, starts, action
        self._compiled: dict[Act, Any] = {}

    def first(self, seed: int, episodes: int) -> Tensor:
        """z of the first frames of E episodes (E, Z): real starts drawn by the seed, z from their (mu, logvar)."""
        uniform, normal = noise(seed, -1, episodes, self.model.latent_size)
        chosen = tf.cast(uniform[:, 0] * len(self.starts.mu), tf.int32)  # (E,)
        mu, logvar = tf.gather(self.starts.mu, chosen), tf.gather(self.starts.logvar, chosen)
        return mu + tf.exp(logvar / 2) * normal

    def step(self, z: Tensor, h: Tensor, c: Tensor, raw: Tensor, restart: Tensor, temperature: Tensor, uniform: Tensor, normal: Tensor):
        """One step of N dreams, to the next z, h, c and the done logit (N,). raw: (N,); restart: (N,), 1 or 0."""
        seen = execute(raw) if self.action == "executed" else raw
        inputs = tf.concat([z, seen[:, None], restart[:, None]], axis=1)  # (N, I)
        h, c = self.model.step(inputs, h, c)
        mixture, done_logit = self.model.head(h)
        return sample(mixture, temperature, uniform, normal), h, c, done_logit

    def _block(self, act: Act):
        """The compiled function that takes N rows through the steps first <= step < last."""
        if act in self._compiled:
            return self._compiled[act]
        names = inspect.signature(act).parameters
        size, hidden = self.model.latent_size, self.model.hidden

        def block(parameters, z, h, c, episode, seed, temperature, first, last, episodes):
            rows = tf.shape(z)[0]
            lengths = tf.zeros(rows, tf.int32)
            alive = tf.ones(rows, tf.bool)
            for step in tf.range(first, last):
                tf.autograph.experimental.set_loop_options(
                    shape_invariants=[
                        (z, tf.TensorShape([None, size])), (h, tf.TensorShape([None, hidden])),
                        (c, tf.TensorShape([None, hidden])), (lengths, tf.TensorShape([None])), (alive, tf.TensorShape([None])),
                    ]
                )  # fmt: skip
                context = {name: value for name, value in (("step", step), ("episode", episode)) if name in names}
                raw = act(parameters, z, h, c, **context)
                uniform, normal = noise(seed, step, episodes, size)
                restart = tf.fill([rows], tf.cast(step == 0, tf.float32))
                z, h, c, done_logit = self.step(
                    z, h, c, raw, restart, temperature, tf.gather(uniform, episode), tf.gather(normal, episode)
                )
                lengths += tf.cast(alive, tf.int32)
                alive &= done_logit <= 0
            return z, h, c, lengths, alive

        def spec(*shape, dtype=tf.float32):
            return tf.TensorSpec(shape, dtype)

        signature = [spec(None, None), spec(None, size), spec(None, hidden), spec(None, hidden), spec(None, dtype=tf.int32)]
        signature += [spec(dtype=tf.int64), spec(), spec(dtype=tf.int32), spec(dtype=tf.int32), spec(dtype=tf.int32)]
        self._compiled[act] = tf.function(block, input_signature=signature)
        return self._compiled[act]

    def rollout(self, act: Act, parameters: np.ndarray, episodes: int, seed: int, temperature: float, max_steps: int) -> np.ndarray:
        """How long P candidates survive in E dreams each: int32 (P, E), at most max_steps.

        parameters: (P, D) float32. The E starts and all random numbers are the same for every candidate.
        Finished dreams are dropped from the batch as it goes.
        """
        population = len(parameters)
        block = self._block(act)
        lengths = np.zeros(population * episodes, "int32")
        row = np.arange(population * episodes)  # live rows, candidate-major
        parameters = tf.constant(parameters, tf.float32)
        z = tf.tile(self.first(seed, episodes), (population, 1))  # (N, Z)
        h = c = tf.zeros((len(row), self.model.hidden))
        for begin in range(0, max_steps, COMPACT_EVERY):
            end = min(begin + COMPACT_EVERY, max_steps)
            z, h, c, survived, alive = block(
                tf.gather(parameters, row // episodes), z, h, c, (row % episodes).astype("int32"),
                tf.constant(seed, tf.int64), temperature, begin, end, episodes,
            )  # fmt: skip
            lengths[row] += survived.numpy()
            kept = np.flatnonzero(alive.numpy())
            if not len(kept):
                break
            if len(kept) < len(row):
                row, z, h, c = row[kept], tf.gather(z, kept), tf.gather(h, kept), tf.gather(c, kept)
        return lengths.reshape(population, episodes)
