"""The dream: M as a world, batched, in which whole generations of controllers live at once (paper, section 4).

Every dream starts at the first frame of a real episode, with M's state at zero. In each step C sees z[t],
h[t] and c[t] and acts; M steps; z[t+1] is drawn from its mixture at a temperature; the dream ends when the
done logit is above 0.

How it is fast: the two products of a step run as they are (oneDNN, bfloat16 where M computes in it), with
the weights cast once; what lies between them is compiled by XLA into three pieces. XLA needs fixed shapes,
so the live rows are packed into tiles of a few sizes, which run side by side on threads: while one waits
the other computes. Finished dreams are dropped where that saves a tile.
"""

import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
import tensorflow as tf

from rnn.mixture import sample
from rnn.model import MDNRNN, lstm

Tensor = Any
Act = Callable[..., Tensor]
THREADS = 4
BLOCK = 32  # steps between two looks at which dreams have ended
TILES = (512, 256, 128, 64)  # rows that are stepped together; each size is compiled once, in about a second


class Starts(NamedTuple):
    """Where dreams start: V's (mu, logvar) of the first frames of S real episodes, each (S, Z) float32."""

    mu: np.ndarray
    logvar: np.ndarray

    @classmethod
    def of(cls, latents: Any) -> "Starts":
        """The starts of every episode of a `vae.latents.Latents`."""
        first = np.asarray(latents.episode_starts)
        return cls(np.asarray(latents.mu[first], "float32"), np.asarray(latents.logvar[first], "float32"))


class Weights(NamedTuple):
    """M's weights as the dream uses them: kernels in the dtype of products, biases in float32."""

    kernel: Tensor
    bias: Tensor
    output_kernel: Tensor
    output_bias: Tensor


class State(NamedTuple):
    """N dreams at one moment: z (N, Z), h and c (N, H), float32."""

    z: Tensor
    h: Tensor
    c: Tensor


class Live(NamedTuple):
    """A tile of a population's dreams: their state, whether each is still going, and the steps it has lived."""

    state: State
    alive: Tensor  # (N,) bool
    lengths: Tensor  # (N,) int32
    row: Tensor  # (N,) int32, which of the population's dreams it is; the last may be there twice, to fill the tile


def noise(seed: Tensor, step: Tensor, episodes: Tensor, latent_size: int) -> tuple[Tensor, Tensor]:
    """The random numbers of one step of E episodes: uniform in [0, 1) and standard normal, each (E, Z) float32.

    They depend on nothing else, so every candidate meets the same luck, however a population is sliced.
    """
    seed, step = tf.cast(seed, tf.int64), 2 * tf.cast(step, tf.int64)
    shape = (episodes, latent_size)
    return tf.random.stateless_uniform(shape, [seed, step]), tf.random.stateless_normal(shape, [seed, step + 1])


def execute(raw: Tensor) -> Tensor:
    """The paper's thresholds: raw below -1/3 is -1 (left), above 1/3 is 1 (right), else 0 (stay)."""
    return tf.cast(raw > 1 / 3, tf.float32) - tf.cast(raw < -1 / 3, tf.float32)


def tile_sizes(rows: int) -> list[int]:
    """The tiles that hold `rows` dreams: large ones first, none but the last less than 7/8 full."""
    sizes = []
    while rows > 0:
        sizes.append(next((size for size in TILES if rows >= size * 7 / 8), TILES[-1]))
        rows -= sizes[-1]
    return sizes


def into_tiles(live: Live) -> list[Live]:
    """Split N dreams into tiles; the last dream is repeated to fill the last tile."""
    sizes = tile_sizes(len(live.row))
    order = np.minimum(np.arange(sum(sizes)), len(live.row) - 1)
    return [
        tf.nest.map_structure(lambda part, i=i: tf.gather(part, i), live)
        for i in np.split(order, np.cumsum(sizes)[:-1])
    ]


def survivors(tiles: list[Live]) -> Live:
    """The dreams of these tiles that go on, each once."""
    whole = tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *tiles)
    _, place = np.unique(whole.row, return_index=True)
    place = place[whole.alive.numpy()[place]]
    return tf.nest.map_structure(lambda part: tf.gather(part, place), whole)


class Dream:
    """M as a batched world.

    model: with a done head. starts: where dreams begin. action: what M is given, 'executed' (-1, 0, 1) or
    the 'raw' tanh, as it was trained.
    """

    def __init__(self, model: MDNRNN, starts: Starts, action: Literal["executed", "raw"] = "executed"):
        self.model, self.starts, self.action = model, starts, action
        self._compiled: dict[Act, Any] = {}
        self.see = tf.function(self._see, jit_compile=True)
        self.remember = tf.function(self._remember, jit_compile=True)
        self.imagine = tf.function(self._imagine, jit_compile=True)

    def weights(self) -> Weights:
        """M's weights as they are now."""
        m, dtype = self.model, self.model.compute_dtype
        return Weights(
            tf.cast(m.kernel, dtype), tf.identity(m.bias), tf.cast(m.output_kernel, dtype), tf.identity(m.output_bias)
        )

    def first(self, seed: int, episodes: int) -> Tensor:
        """z of the first frames of E dreams (E, Z): real starts drawn by the seed, z from their (mu, logvar)."""
        uniform, normal = noise(seed, -1, episodes, self.model.latent_size)
        chosen = tf.cast(uniform[:, 0] * len(self.starts.mu), tf.int32)  # (E,)
        mu, logvar = tf.gather(self.starts.mu, chosen), tf.gather(self.starts.logvar, chosen)
        return mu + tf.exp(logvar / 2) * normal

    def _see(self, state: State, raw: Tensor, restart: Tensor) -> Tensor:
        """What M is given, (N, I+H)."""
        seen = execute(raw) if self.action == "executed" else raw
        inputs = tf.concat([state.z, seen[:, None], restart[:, None], state.h], axis=1)
        return tf.cast(inputs, self.model.compute_dtype)

    def _remember(self, product: Tensor, bias: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gates' product (N, 4H) to the next h and c (N, H), and h in the dtype of products."""
        h, c = lstm(tf.cast(product, tf.float32) + bias, c)
        return h, c, tf.cast(h, self.model.compute_dtype)

    def _imagine(self, product: Tensor, bias: Tensor, temperature: Tensor, uniform: Tensor, normal: Tensor):
        """The head's product (N, 3KZ+1) to the next z (N, Z) and the done logit (N,)."""
        mixture, done_logit = self.model.split(tf.cast(product, tf.float32) + bias)
        return sample(mixture, temperature, uniform, normal), done_logit

    def step(
        self,
        weights: Weights,
        state: State,
        raw: Tensor,
        restart: Tensor,
        temperature: Tensor,
        uniform: Tensor,
        normal: Tensor,
    ):
        """One step of N dreams: the next State and the done logit (N,).

        raw: C's action (N,); restart: (N,), 1 on a dream's first step; uniform and normal: (N, Z), see `noise`.
        """
        product = tf.matmul(self.see(state, raw, restart), weights.kernel)  # (N, 4H)
        h, c, factor = self.remember(product, weights.bias, state.c)
        product = tf.matmul(factor, weights.output_kernel)  # (N, 3KZ+1)
        z, done_logit = self.imagine(product, weights.output_bias, temperature, uniform, normal)
        return State(z, h, c), done_logit

    def _block(self, act: Act) -> Any:
        """The compiled function that takes a tile through some steps."""
        if act in self._compiled:
            return self._compiled[act]
        names = inspect.signature(act).parameters

        @tf.function(jit_compile=True)
        def choose(parameters, state, step, episode):
            known = {"step": step, "episode": episode}
            return act(parameters, *state, **{name: known[name] for name in known if name in names})

        @tf.function(reduce_retracing=True)
        def block(weights, parameters, episodes, seed, temperature, steps, live):
            state, alive, lengths, row = live
            episode = row % episodes
            own = tf.gather(parameters, row // episodes)  # (N, D)
            for step in steps:
                uniform, normal = noise(seed, step, episodes, self.model.latent_size)
                raw = choose(own, state, step, episode)
                restart = tf.fill(tf.shape(alive), tf.cast(step == 0, tf.float32))
                state, done_logit = self.step(
                    weights, state, raw, restart, temperature, tf.gather(uniform, episode), tf.gather(normal, episode)
                )
                lengths += tf.cast(alive, tf.int32)
                alive &= done_logit <= 0
            return Live(state, alive, lengths, row)

        self._compiled[act] = block
        return block

    def rollout(
        self, act: Act, parameters: np.ndarray, episodes: int, seed: int, temperature: float, max_steps: int
    ) -> np.ndarray:
        """How many steps P candidates survive in E dreams each: int32 (P, E), at most max_steps.

        parameters: (P, D) float32. The E starts and all random numbers are the same for every candidate.

        `act(parameters, z, h, c)` is a function that tf.function can trace: the raw actions (N,) of N dreams,
        from parameters (N, D), z (N, Z), h and c (N, H). If it names them it is also given `step`, int32 (),
        and `episode`, int32 (N,): which of the E dreams each row is.
        """
        block, weights = self._block(act), self.weights()
        total = len(parameters) * episodes
        z = tf.tile(self.first(seed, episodes), (len(parameters), 1))  # (N, Z), candidate-major
        h = tf.zeros((total, self.model.hidden))
        everyone = Live(State(z, h, h), tf.ones(total, tf.bool), tf.zeros(total, tf.int32), tf.range(total))
        parameters, temperature = tf.constant(parameters, tf.float32), tf.constant(temperature, tf.float32)
        seed, episodes = tf.constant(seed, tf.int64), tf.constant(episodes)

        lengths = np.zeros(total, "int32")
        tiles = into_tiles(everyone)
        with ThreadPoolExecutor(THREADS) as pool:
            for first in range(0, max_steps, BLOCK):
                steps = tf.range(first, min(first + BLOCK, max_steps))
                advance = functools.partial(block, weights, parameters, episodes, seed, temperature, steps)
                tiles = list(pool.map(advance, tiles))
                for tile in tiles:
                    lengths[tile.row] = tile.lengths
                alive = sum(int(np.sum(tile.alive)) for tile in tiles)
                if not alive:
                    break
                if sum(tile_sizes(alive)) < sum(len(tile.row) for tile in tiles):
                    tiles = into_tiles(survivors(tiles))
        return lengths.reshape(-1, int(episodes))
