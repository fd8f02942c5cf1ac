"""M: p(z[t+1], reward[t+1], done[t+1] | a[t], z[t], h[t]), an LSTM with a mixture-density output (paper, section 2.2).

The weights have the layout of the published TensorFlow 1 model (one kernel for input and state, gates in
the order i, j, f, o, a forget bias of 1 added when used), so that it can be loaded and compared.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np

from envs.worlds import world_of
from experiment.arrays import load_weights
from experiment.backend import keras, ops
from experiment.run import Run
from experiment.schema import Experiment
from rnn.mixture import Mixture, split_mixture

Tensor = Any
FORGET_BIAS = 1.0
ALIGNED = 256  # float32 numbers in a kilobyte: see unaligned


def told_by(settings: Experiment) -> Callable[..., Tensor]:
    """told(raw, xp=...): what M is told of C's raw actions, (...) or (..., A): as the world executes them, or as they are."""
    return world_of(settings).execute if settings.rnn.action == "executed" else as_they_are


def as_they_are(raw: Tensor, xp: Any = None) -> Tensor:
    """Raw actions as they are."""
    return raw


def lstm(gates: Iterable[Tensor], c: Tensor) -> tuple[Tensor, Tensor]:
    """The LSTM after its product: the four gates, bias included, and c, (N, H) each, to the next h and c (N, H)."""
    i, j, f, o = gates
    c = c * ops.sigmoid(f + FORGET_BIAS) + ops.sigmoid(i) * ops.tanh(j)
    return ops.tanh(c) * ops.sigmoid(o), c


def unaligned(kernel: Tensor) -> Tensor:
    """A kernel (M, N) as a product is fastest with it: in float32 (M, N + 16), zeros behind it, where N is a multiple of 256.

    Rows that are whole kilobytes apart share few places of the cache. On AVX2 that cost up to 44 % of the time of a product
    of few rows: 100 x 578 by 578 x 2,048 takes 2.9 ms, and 1.6 ms with 2,064 columns.
    """
    if kernel.dtype != "float32" or kernel.shape[1] % ALIGNED:
        return kernel
    return ops.pad(kernel, [[0, 0], [0, 16]])


def ending(done_logit: Tensor, done_weight: float) -> Tensor:
    """M's probability that the episode ends: endings that count w times in the loss shift M's logit by log w."""
    return ops.sigmoid(done_logit - math.log(done_weight))


class Prediction(NamedTuple):
    """What M says of the next step; None where it does not predict it."""

    mixture: Mixture  # of z[t+1], parts (N, K, Z)
    reward: Tensor | None  # expected reward (N,)
    done_logit: Tensor | None  # (N,): above 0 the dream ends


class MDNRNN(keras.Model):
    """The LSTM and its output layer.

    Input of a step: I numbers, see `inputs`. told: see told_by.
    kernel (I+H, 4H), bias (4H), output_kernel (H, 3·K·Z [+1 reward] [+1 done logit]), output_bias.
    Products are computed in `compute_dtype` (bfloat16 under the mixed_bfloat16 policy); variables,
    LSTM state and outputs stay float32.
    """

    def __init__(
        self, latent_size: int, action_size: int, hidden: int, mixtures: int, predict_done: bool,
        predict_reward: bool = False, seed: int = 0, told: Callable[..., Tensor] = as_they_are, dropout: float = 0.0,
        **kwargs: Any,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.latent_size, self.action_size, self.hidden = latent_size, action_size, hidden
        self.mixtures, self.predict_done, self.predict_reward = mixtures, predict_done, predict_reward
        self.told, self.dropout = told, dropout
        self.input_size = latent_size + action_size + int(predict_done)
        self.mask_size = self.input_size + hidden if dropout else 0
        self.mixture_size = 3 * mixtures * latent_size
        output_size = self.mixture_size + int(predict_reward) + int(predict_done)
        first, second = (keras.initializers.GlorotUniform(2 * seed + layer) for layer in range(2))
        self.kernel = self.add_weight((self.input_size + hidden, 4 * hidden), first, name="kernel", autocast=False)
        self.bias = self.add_weight((4 * hidden,), "zeros", name="bias", autocast=False)
        self.output_kernel = self.add_weight((hidden, output_size), second, name="output_kernel", autocast=False)
        self.output_bias = self.add_weight((output_size,), "zeros", name="output_bias", autocast=False)
        self.built = True

    def product(self, left: Tensor, right: Tensor) -> Tensor:
        """left @ right in the compute dtype, returned as float32."""
        return ops.cast(ops.matmul(ops.cast(left, self.compute_dtype), ops.cast(right, self.compute_dtype)), "float32")

    def inputs(self, z: Tensor, raw: Tensor, restart: Tensor, xp: Any = ops) -> Tensor:
        """Those of steps, (..., I): z (..., Z), the action as M is told it, from C's raw ones, (...) or (..., A), and, where
        M predicts done, restart (...), 1 where an episode begins, else 0. Of tensors, or of arrays with xp=numpy."""
        told = self.told(raw, xp=xp)
        told = told if len(told.shape) == len(z.shape) else told[..., None]
        return xp.concatenate([z, told, restart[..., None]] if self.predict_done else [z, told], axis=-1)

    def mask(self, uniform: Tensor, xp: Any = ops) -> Tensor:
        """What the LSTM's inputs and h are multiplied by in training and in dreams, from numbers uniform in [0, 1), (N, I+H).

        0 for a share `dropout` of z and h, 1 / (1 - dropout) for the rest, 1 for the action and restart: the same for all
        steps and gates (Gal & Ghahramani 2016). A dream with a mask of its own is one of many worlds that M holds possible
        (Wellmer & Kwok 2021).
        """
        told = (np.arange(self.mask_size) >= self.latent_size) & (np.arange(self.mask_size) < self.input_size)
        return xp.where(told, 1.0, xp.where(uniform < self.dropout, 0.0, 1 / (1 - self.dropout)))

    def observe(self, z: Tensor, raw: Tensor, restart: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One LSTM step from what `inputs` takes; where an episode begins, h and c (N, H) count as zero."""
        keep = 1 - restart[:, None]
        return self.step(self.inputs(z, raw, restart), h * keep, c * keep)

    def step(self, inputs: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """One LSTM step: inputs (N, I), h and c (N, H), to the next h and c (N, H)."""
        gates = self.product(ops.concatenate([inputs, h], axis=1), self.kernel) + self.bias  # (N, 4H)
        return lstm(ops.split(gates, 4, axis=1), c)

    def head(self, h: Tensor) -> Prediction:
        """What h (N, H) predicts."""
        return self.split(self.product(h, self.output_kernel) + self.output_bias)

    def split(self, outputs: Tensor, normalised: bool = True) -> Prediction:
        """The output layer's numbers (N, 3KZ [+1] [+1], or more), as what they predict; see split_mixture."""
        mixture = split_mixture(outputs[:, : self.mixture_size], self.mixtures, normalised)
        reward = outputs[:, self.mixture_size] if self.predict_reward else None
        done_logit = outputs[:, self.mixture_size + int(self.predict_reward)] if self.predict_done else None
        return Prediction(mixture, reward, done_logit)


def build_rnn(settings: Experiment) -> MDNRNN:
    """M as the settings describe it, with fresh weights."""
    m, told = settings.rnn, told_by(settings)
    actions = world_of(settings).actions
    return MDNRNN(
        settings.vae.z, actions, m.hidden, m.mixtures, m.predict_done, m.predict_reward, m.seed, told, m.dropout
    )


def load_rnn(run: Run, settings: Experiment, damaged: str | None = None) -> MDNRNN:
    """The trained M of a run. Raises Problem if its weights are missing, damaged or of another shape.

    damaged: what to do then, if not to delete them and train again.
    """
    model, m = build_rnn(settings), settings.rnn
    fault = (
        f"is damaged or does not hold an M of these settings, vae.z={settings.vae.z}, rnn.hidden={m.hidden}, "
        f"rnn.mixtures={m.mixtures}, rnn.predict_done={m.predict_done}, rnn.predict_reward={m.predict_reward}"
    )
    load_weights(model, run.rnn_weights, "python -m rnn", fault, damaged)
    return model
