"""V+M as a predictor of frames: V encodes, M imagines the next z, V's decoder draws it.

M is warmed up on a window's context, from an empty memory, which its restart flag tells it, as where an episode begins
in training. Then it dreams under the recorded actions: each z is drawn from M's mixture at openloop.temperature and fed
back. Like everything that C sees, a recorded frame's z is drawn from V's mu and logvar, anew for each of the D dreams.
M's done is not asked: what is compared are the steps for which the recorded episode went on. Nor is its dropout used.
"""

from typing import Any, NamedTuple

import numpy as np

from experiment.backend import graph, tf
from experiment.schema import Openloop
from rnn.dream import State
from rnn.mixture import sample
from rnn.model import MDNRNN
from vae.model import draw

Tensor = Any


class DreamMemory(NamedTuple):
    """D dreams of each of B windows at one moment, N = B·D rows, window-major."""

    state: State  # z of the last frame, recorded or dreamt, and h and c of M before it has seen that z
    step: int  # frames seen before this one
    windows: np.ndarray  # (B,), their numbers


class Noise(NamedTuple):
    """The random numbers of one frame of N dreams, (N, Z) float32 each."""

    encoding: np.ndarray  # standard normal, for z of a recorded frame
    uniform: np.ndarray  # in [0, 1): which Gaussian of the mixture
    normal: np.ndarray  # standard normal: where in it


class VisionMemory:
    """See openloop.predictor.Predictor.

    vae, rnn: V and M. settings: dreams, temperature, seed.
    """

    title, sees = "V+M", 0

    def __init__(self, vae: Any, rnn: MDNRNN, settings: Openloop):
        self.vae, self.rnn, self.settings = vae, rnn, settings
        self.draws = settings.dreams

    def begin(self, frames: np.ndarray, actions: np.ndarray, windows: np.ndarray) -> DreamMemory:
        empty = np.zeros((len(frames) * self.draws, self.rnn.hidden), np.float32)
        z = self._encode(frames[:, 0], self.noise(windows, 0).encoding)
        memory = DreamMemory(State(z, empty, empty), 0, windows)
        for t in range(actions.shape[1]):
            memory = self.observe(memory, actions[:, t], frames[:, t + 1])
        return memory

    def imagine(self, memory: DreamMemory, actions: np.ndarray) -> tuple[np.ndarray, DreamMemory]:
        drawn = self.noise(memory.windows, memory.step + 1)
        temperature = tf.constant(self.settings.temperature)
        frames, state = self._imagine(*self._moment(memory, actions), temperature, drawn.uniform, drawn.normal)
        frames = frames.numpy().reshape(-1, self.draws, *frames.shape[1:])  # (N, h, w, 3) to (B, D, h, w, 3)
        return frames, DreamMemory(state, memory.step + 1, memory.windows)

    def observe(self, memory: DreamMemory, actions: np.ndarray, frames: np.ndarray) -> DreamMemory:
        h, c = self._remember(*self._moment(memory, actions))
        z = self._encode(frames, self.noise(memory.windows, memory.step + 1).encoding)
        return DreamMemory(State(z, h, c), memory.step + 1, memory.windows)

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """V's reconstruction from mu, without noise."""
        return self._reconstruct(frames).numpy()

    def noise(self, windows: np.ndarray, step: int) -> Noise:
        """Of frame number `step`, counted from a window's first; it depends on nothing but the window's number and seed."""
        parts: list[tuple[np.ndarray, ...]] = []
        for window in windows.tolist():
            random = np.random.default_rng([self.settings.seed, window, step])
            shape = self.draws, self.rnn.latent_size
            encoding, normal = random.standard_normal((2, *shape), np.float32)
            parts.append((encoding, random.random(shape, np.float32), normal))
        return Noise(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def _moment(self, memory: DreamMemory, actions: np.ndarray) -> tuple[State, np.ndarray, np.ndarray]:
        """What M steps from: its state, the raw actions (B, ...) as (N, ...), and whether an episode begins, (N,)."""
        rows = np.repeat(np.asarray(actions, np.float32), self.draws, axis=0)
        return memory.state, rows, np.full(len(rows), memory.step == 0, np.float32)

    # What is compiled.

    @graph(reduce_retracing=True)
    def _reconstruct(self, frames: Tensor) -> Tensor:
        return self.vae.decode(self.vae.encode(frames)[0])

    @graph(reduce_retracing=True)
    def _encode(self, frames: Tensor, normal: Tensor) -> Tensor:
        mu, logvar = (tf.repeat(part, self.draws, axis=0) for part in self.vae.encode(frames))  # (N, Z)
        return draw(mu, logvar, normal)

    @graph(reduce_retracing=True)
    def _remember(self, state: State, actions: Tensor, restart: Tensor) -> tuple[Tensor, Tensor]:
        return self.rnn.observe(state.z, actions, restart, state.h, state.c)

    @graph(reduce_retracing=True)
    def _imagine(
        self, state: State, actions: Tensor, restart: Tensor, temperature: Tensor, uniform: Tensor, normal: Tensor
    ) -> tuple[Tensor, State]:
        h, c = self._remember(state, actions, restart)
        z = sample(self.rnn.head(h).mixture, temperature, uniform, normal)
        return self.vae.decode(z), State(z, h, c)
