"""V+M as a predictor of frames: V encodes, M imagines the next z, V's decoder draws it.

M is warmed up on a window's context, from an empty memory, which its restart flag tells it, as where an episode begins
in training. Then it dreams under the recorded actions: each z is drawn from M's mixture at openloop.temperature and fed
back. Like everything that C sees, a recorded frame's z is drawn from V's mu and logvar, anew for each of the D dreams.
M's done is not asked: what is compared are the steps for which the recorded episode went on.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from experiment.run import Run
from experiment.schema import Experiment, Openloop
from rnn.dream import seen_by
from rnn.mixture import sample
from rnn.model import MDNRNN, load_rnn
from vae.model import draw, load_vae

Tensor = Any


class Memory(NamedTuple):
    """D dreams of each of B windows at one moment, N = B·D rows, window-major."""

    z: Tensor
    """(N, Z): of the last frame, recorded or dreamt."""
    h: Tensor
    """(N, H): M's state before it has seen that z."""
    c: Tensor
    """(N, H)"""
    step: int
    """Frames seen before this one."""
    windows: np.ndarray
    """(B,), their numbers."""


class Noise(NamedTuple):
    """The random numbers of one frame of N dreams, (N, Z) float32 each."""

    encoding: np.ndarray
    """Standard normal, for z of a recorded frame."""
    uniform: np.ndarray
    """In [0, 1): which Gaussian of the mixture."""
    normal: np.ndarray
    """Standard normal: where in it."""


def noise(seed: int, windows: np.ndarray, step: int, draws: int, latent_size: int) -> Noise:
    """Of frame number `step`, counted from a window's first; they depend on nothing but the arguments."""
    parts: list[tuple[np.ndarray, ...]] = []
    for window in windows.tolist():
        random, shape = np.random.default_rng([seed, window, step]), (draws, latent_size)
        encoding, normal = random.standard_normal((2, *shape), np.float32)
        parts.append((encoding, random.random(shape, np.float32), normal))
    return Noise(*(np.concatenate(part) for part in zip(*parts, strict=True)))


class VisionMemory:
    """See openloop.predictor.Predictor.

    vae, rnn: V and M. seen: from raw actions to what M is given, as it was trained. settings: dreams, temperature, seed.
    """

    title = "V+M"

    def __init__(self, vae: Any, rnn: MDNRNN, seen: Callable[[Tensor], Tensor], settings: Openloop):
        self.vae, self.rnn, self.seen, self.settings = vae, rnn, seen, settings
        self.draws = settings.dreams
        self._encode = tf.function(self._encoded, reduce_retracing=True)
        self._remember = tf.function(self._remembered, reduce_retracing=True)
        self._imagine = tf.function(self._imagined, reduce_retracing=True)
        self._reconstruct = tf.function(lambda frames: vae.decode(vae.encode(frames)[0]), reduce_retracing=True)

    def begin(self, frames: np.ndarray, actions: np.ndarray, windows: np.ndarray) -> Memory:
        empty = np.zeros((len(frames) * self.draws, self.rnn.hidden), np.float32)
        memory = Memory(self._z(frames[:, 0], windows, 0), empty, empty, 0, windows)
        for t in range(actions.shape[1]):
            memory = self.observe(memory, actions[:, t], frames[:, t + 1])
        return memory

    def imagine(self, memory: Memory, actions: np.ndarray) -> tuple[np.ndarray, Memory]:
        step = memory.step + 1
        drawn = noise(self.settings.seed, memory.windows, step, self.draws, self.rnn.latent_size)
        temperature = tf.constant(self.settings.temperature)
        arguments = memory.z, memory.h, memory.c, self._rows(actions), self._restart(memory), temperature
        frames, z, h, c = self._imagine(*arguments, drawn.uniform, drawn.normal)
        frames = frames.numpy().reshape(-1, self.draws, *frames.shape[1:])  # (N, h, w, 3) to (B, D, h, w, 3)
        return frames, Memory(z, h, c, step, memory.windows)

    def observe(self, memory: Memory, actions: np.ndarray, frames: np.ndarray) -> Memory:
        h, c = self._remember(memory.z, memory.h, memory.c, self._rows(actions), self._restart(memory))
        step = memory.step + 1
        return Memory(self._z(frames, memory.windows, step), h, c, step, memory.windows)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """V's reconstruction from mu, without noise."""
        return self._reconstruct(frames).numpy()

    def _rows(self, values: np.ndarray) -> np.ndarray:
        """(B, ...) to (N, ...)."""
        return np.repeat(np.asarray(values, np.float32), self.draws, axis=0)

    def _restart(self, memory: Memory) -> np.ndarray:
        return np.full(len(memory.windows) * self.draws, memory.step == 0, np.float32)

    def _z(self, frames: np.ndarray, windows: np.ndarray, step: int) -> Tensor:
        drawn = noise(self.settings.seed, windows, step, self.draws, self.rnn.latent_size)
        return self._encode(frames, drawn.encoding)

    def _encoded(self, frames: Tensor, normal: Tensor) -> Tensor:
        mu, logvar = (tf.repeat(part, self.draws, axis=0) for part in self.vae.encode(frames))  # (N, Z)
        return draw(mu, logvar, normal)

    def _remembered(self, z: Tensor, h: Tensor, c: Tensor, actions: Tensor, restart: Tensor) -> tuple[Tensor, Tensor]:
        return self.rnn.step(self.rnn.inputs(z, self.seen(actions), restart), h, c)

    def _imagined(
        self, z: Tensor, h: Tensor, c: Tensor, actions: Tensor, restart: Tensor, temperature: Tensor,
        uniform: Tensor, normal: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        h, c = self._remembered(z, h, c, actions, restart)
        z = sample(self.rnn.head(h).mixture, temperature, uniform, normal)
        return self.vae.decode(z), z, h, c


def load(settings: Experiment, run: Run) -> VisionMemory:
    """That of a run. Raises Problem if V or M is missing or damaged."""
    return VisionMemory(load_vae(run, settings), load_rnn(run, settings), seen_by(settings), settings.openloop)
