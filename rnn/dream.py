"""The dream: M as a world, batched, in which whole generations of controllers live at once (paper, section 4).

Every dream starts at a moment of a real episode: at its first frame with M's state at zero, or further on with M's
memory of what came before. In each step C sees z[t], h[t] and c[t] and acts; M steps; z[t+1] is drawn from its mixture
at a temperature. Where M predicts done, the dream ends when the done logit is above 0, or with the probability that M
gives, or never and every step counts by it (dream.done); where it predicts reward, that is what a step brings, else 1.
Where M has dropout, every dream has a mask of its own, the same for all candidates: without it an M that was trained
with it dreams far too easily.

How it is fast: the products of a step run as they are (oneDNN, bfloat16 where M computes in it), with the
weights cast once; what lies between them is compiled by XLA into three pieces. XLA needs fixed shapes, so the
live rows are packed into tiles of a few sizes, which run side by side on threads: while one waits the other
computes. Finished dreams are dropped where that saves a tile. At 512 rows a step costs about 3.5 ms of one
core, 1.9 of it in the products. What that rests on, measured: one product per gate, of sizes padded to
multiples of 32, takes two thirds of the time of one product for all gates (it stays in the cache);
concatenations are several times slower inside XLA than outside; XLA's own products do not use AMX.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from experiment.backend import graph, tf
from experiment.hardware import thread_count
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import TEMPERATURE, Experiment
from rnn.mixture import sample
from rnn.model import MDNRNN, ending, load_rnn, lstm, unaligned
from rnn.starts import Starts, load_starts
from vae.model import draw

Tensor = Any
Act = Callable[..., Tensor]
PADDING = 32  # the products' inner and outer sizes are multiples of this
BLOCK = 20  # steps between two looks at which dreams have ended
FULL = 0.75  # the share of a tile that must be needed for it to be chosen over smaller ones
MASKS = 2**62  # beside a seed, where `noise` and `luck` have steps
TILES = (512, 256, 128, 64)  # rows that are stepped together; each size is compiled once, in about a second


def can_dream(settings: Experiment) -> bool:
    """Whether there is a dream to learn or measure anything in."""
    return settings.rnn.train and (settings.rnn.predict_done or settings.rnn.predict_reward)


def load_dream(settings: Experiment, run: Run) -> "Dream":
    """The dream of a run's M, starting at recorded moments (dream.start_steps), to learn in.

    Raises Problem if either is missing, or if this M has nothing to tell good dreams from bad.
    """
    if not (settings.rnn.predict_done or settings.rnn.predict_reward):
        raise Problem(
            "this M predicts neither when an episode ends nor its rewards, so nothing can be learnt in its dream: "
            "train it with rnn.predict_done=true or rnn.predict_reward=true"
        )
    model = load_rnn(run, settings)
    return Dream(model, load_starts(settings, run, model), drawn_weight(settings))


def drawn_weight(settings: Experiment) -> float | None:
    """The weight that endings had in M's loss where they are drawn; None where they are not."""
    return None if settings.dream.done == "threshold" else settings.rnn.done_weight


def check_temperature(temperature: float) -> None:
    """Raise Problem if no dream can have this temperature."""
    if not 0 < temperature <= TEMPERATURE:
        raise Problem(f"the temperature of a dream is {temperature}: expected above 0, at most {TEMPERATURE}")


class PaddedWeights(NamedTuple):
    """M's weights as the dream uses them: kernels in the dtype of products, padded by `pad` and `unaligned`, biases in float32."""

    kernels: tuple[Tensor, ...]  # of the gates i, j, f, o, each (I+H+padding, H+padding)
    bias: Tensor  # (4H)
    output_kernel: Tensor  # (H, 3KZ[+1][+1]+padding)
    output_bias: Tensor


class State(NamedTuple):
    """N dreams, or real games, at one moment: z (N, Z), h and c (N, H), float32, in the order that C is given them."""

    z: Tensor
    h: Tensor
    c: Tensor


class Live(NamedTuple):
    """A tile of a population's dreams: their state, the probability that each still goes on, the steps it has lived, its return."""

    state: State
    going: Tensor  # (N,) float32: 1, and 0 once it has ended, unless no dream ends (dream.done=expected)
    lengths: Tensor  # (N,) int32
    returns: Tensor  # (N,) float32
    row: Tensor  # (N,) int32, which of the population's dreams it is; the last may be there twice, to fill the tile


class Imagined(NamedTuple):
    """What M makes of a step of N dreams: z[t+1] (N, Z), the done logit and the reward (N,)."""

    z: Tensor
    done_logit: Tensor  # -1 where M does not predict it: the dream goes on
    reward: Tensor  # 1 where M does not predict it: what counts is to last


class Moments(NamedTuple):
    """What happened in some steps: z that C saw (..., Z), the raw action (...) or (..., A), and what followed (...)."""

    z: Tensor
    raw: Tensor
    done_logit: Tensor
    reward: Tensor


class Outcome(NamedTuple):
    """What P candidates reached in E dreams or real episodes each: returns, and lengths in steps, each (P, E)."""

    returns: np.ndarray
    lengths: np.ndarray


def noise(seed: Tensor, step: Tensor, episodes: Tensor, latent_size: int) -> tuple[Tensor, Tensor]:
    """The random numbers of one step of E episodes: uniform in [0, 1) and standard normal, each (E, Z) float32.

    They depend on nothing else, so every candidate meets the same luck, however a population is sliced.
    """
    seed, step = tf.cast(seed, tf.int64), 2 * tf.cast(step, tf.int64)
    shape = (episodes, latent_size)
    return tf.random.stateless_uniform(shape, [seed, step]), tf.random.stateless_normal(shape, [seed, step + 1])


def luck(seed: Tensor, step: Tensor, episodes: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), (E,) float32, that a step's endings are drawn with; independent of `noise`."""
    return tf.random.stateless_uniform((episodes,), [tf.cast(seed, tf.int64), -3 - tf.cast(step, tf.int64)])


def masks(model: MDNRNN, seed: Tensor, episodes: Tensor) -> Tensor:
    """Of `MDNRNN.mask`, one for each of E dreams, (E, I+H+padding) in M's compute dtype; independent of `noise`."""
    uniform = tf.random.stateless_uniform((episodes, model.mask_size), [tf.cast(seed, tf.int64), MASKS])
    return tf.cast(pad(model.mask(uniform), axis=1), model.compute_dtype)


def pad(values: Tensor, axis: int) -> Tensor:
    """Zeros added at the end of an axis, to a multiple of PADDING."""
    return tf.pad(values, [[0, -values.shape[axis] % PADDING if i == axis else 0] for i in range(len(values.shape))])


def tile_sizes(rows: int) -> list[int]:
    """The tiles that hold `rows` dreams: large ones first, none but the last less than full, and one for every core."""
    sizes, largest = [], rows / thread_count()
    while rows > 0:
        sizes.append(next((size for size in TILES if size <= largest and rows >= size * FULL), TILES[-1]))
        rows -= sizes[-1]
    return sizes


def into_tiles(dreams: Live, chosen: np.ndarray) -> list[Live]:
    """Pack the dreams at some places into tiles; the last one is repeated to fill the last tile."""
    sizes = tile_sizes(len(chosen))
    order = chosen[np.minimum(np.arange(sum(sizes)), len(chosen) - 1)]
    places = np.split(order, np.cumsum(sizes)[:-1])
    return [tf.nest.map_structure(lambda part, at=at: tf.gather(part, at), dreams) for at in places]


def survivors(tiles: list[Live]) -> np.ndarray:
    """Where in the concatenated tiles the dreams that go on are, each once."""
    going, row = (np.concatenate(parts) for parts in zip(*((tile.going, tile.row) for tile in tiles), strict=True))
    places = np.unique(row, return_index=True)[1]
    return places[going[places] > 0]


class Dream:
    """M as a batched world.

    model: one without a done head dreams on until it is cut. starts: where dreams begin. drawn: see drawn_weight.
    """

    def __init__(self, model: MDNRNN, starts: Starts, drawn: float | None = None):
        self.model, self.starts, self.drawn = model, starts, drawn
        self._remember = graph(self.remember, jit_compile=True)
        self._imagine = graph(self.imagine, jit_compile=True)
        self._blocks: dict[tuple[Act, bool, bool], Any] = {}

    def weights(self) -> PaddedWeights:
        """M's weights as they are now."""
        m, dtype = self.model, self.model.compute_dtype
        kernel, output_kernel = tf.cast(m.kernel, dtype), tf.cast(m.output_kernel, dtype)
        gates = tuple(unaligned(gate) for gate in tf.split(pad(kernel, axis=0), 4, axis=1))
        head = unaligned(pad(output_kernel, axis=1))
        bias = tf.pad(m.output_bias, [[0, head.shape[1] - m.output_bias.shape[0]]])
        return PaddedWeights(gates, tf.identity(m.bias), head, bias)

    def first(self, seed: Tensor, episodes: int) -> State:
        """How E dreams begin: at real moments drawn by the seed, z from their (mu, logvar)."""
        uniform, normal = noise(seed, -1, episodes, self.model.latent_size)
        chosen = tf.cast(uniform[:, 0] * len(self.starts.mu), tf.int32)  # (E,)
        mu, logvar, h, c = (tf.gather(part, chosen) for part in self.starts)
        return State(draw(mu, logvar, normal), h, c)

    def see(self, state: State, raw: Tensor, restart: Tensor, mask: Tensor | None = None) -> Tensor:
        """What M's gates are a product of, (N, I+H+padding): z, the action as M is told it, restart (N,), and h, times mask."""
        dtype = self.model.compute_dtype
        inputs = self.model.inputs(state.z, raw, restart)
        padding = tf.zeros((tf.shape(inputs)[0], -(inputs.shape[1] + state.h.shape[1]) % PADDING), dtype)
        seen = tf.concat([tf.cast(inputs, dtype), tf.cast(state.h, dtype), padding], axis=1)
        return seen if mask is None else seen * mask

    def remember(self, products: list[Tensor], bias: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the gates' products, four of (N, H or more), to the next h and c (N, H), and h as the head's product takes it."""
        gates = (tf.cast(product[:, : c.shape[1]], tf.float32) for product in products)
        h, c = lstm((gate + b for gate, b in zip(gates, tf.split(bias, 4), strict=True)), c)
        return h, c, tf.cast(h, self.model.compute_dtype)

    def imagine(self, product: Tensor, bias: Tensor, temperature: Tensor, uniform: Tensor, normal: Tensor) -> Imagined:
        """What the head's product (N, 3KZ[+1][+1]+padding) says of the next step."""
        predicted = self.model.split(tf.cast(product, tf.float32) + bias, normalised=False)
        ones = tf.ones(tf.shape(product)[:1])
        return Imagined(
            sample(predicted.mixture, temperature, uniform, normal),
            -ones if predicted.done_logit is None else predicted.done_logit,
            ones if predicted.reward is None else predicted.reward,
        )

    def step(
        self,
        weights: PaddedWeights,
        state: State,
        raw: Tensor,
        restart: Tensor,
        temperature: Tensor,
        uniform: Tensor,
        normal: Tensor,
        mask: Tensor | None = None,
    ) -> tuple[State, Imagined]:
        """One step of N dreams after their raw actions, (N,) or (N, A).

        restart: (N,), 1 on the first step of an episode, else 0; there h and c must be zero. uniform and normal: (N, Z),
        the random numbers of `sample`. mask: of `masks`, (N, I+H+padding). Returns the next State, and what M imagined.
        """
        inputs = self.see(state, raw, restart, mask)
        products = [tf.matmul(inputs, kernel) for kernel in weights.kernels]  # four are faster than one
        h, c, factor = self._remember(products, weights.bias, state.c)
        product = tf.matmul(factor, weights.output_kernel)
        imagined = Imagined(*self._imagine(product, weights.output_bias, temperature, uniform, normal))
        return State(imagined.z, h, c), imagined

    def ends(self, done_logit: Tensor, luck: Tensor) -> Tensor:
        """Which of N dreams end, (N,) bool: done_logit (N,); luck (N,), uniform in [0, 1), for endings that are drawn."""
        if self.drawn is None or not self.model.predict_done:
            return done_logit > 0
        return luck < ending(done_logit, self.drawn)

    def _signature(self) -> tuple[Any, ...]:
        """The arguments of a block, for any number of rows, candidates, parameters and steps."""

        def of(*shape: int | None, dtype: Any = tf.float32) -> tf.TensorSpec:
            return tf.TensorSpec(shape, dtype)

        m = self.model
        weights = tf.nest.map_structure(lambda weight: of(*weight.shape, dtype=weight.dtype), self.weights())
        state = State(of(None, m.latent_size), of(None, m.hidden), of(None, m.hidden))
        live = Live(state, of(None), of(None, dtype=tf.int32), of(None), of(None, dtype=tf.int32))
        episodes, seed, temperature = of(dtype=tf.int32), of(dtype=tf.int64), of()
        return weights, of(None, None), episodes, seed, temperature, of(None, dtype=tf.int32), live

    def _block(self, act: Act, traced: bool = False, expected: bool = False) -> Any:
        """The compiled function that takes a tile through some steps; if traced, it also returns their Moments (steps, N, ...).

        expected: as in `rollout`.
        """
        if (act, traced, expected) in self._blocks:
            return self._blocks[act, traced, expected]
        names = inspect.signature(act).parameters
        fades = self.drawn if expected and self.model.predict_done else None

        @graph(jit_compile=True)
        def choose(parameters: Tensor, state: State, step: Tensor, episode: Tensor) -> Tensor:
            known = {"step": step, "episode": episode}
            return act(parameters, *state, **{name: known[name] for name in known if name in names})  # (N,) or (N, A)

        @graph(input_signature=self._signature())
        def block(
            weights: PaddedWeights,
            parameters: Tensor,
            episodes: Tensor,
            seed: Tensor,
            temperature: Tensor,
            steps: Tensor,
            live: Live,
        ) -> tuple[Live, tuple[Tensor, ...]]:
            number, episode = tf.size(steps), live.row % episodes
            own = tf.gather(parameters, live.row // episodes)  # (N, D)
            mask = tf.gather(masks(self.model, seed, episodes), episode) if self.model.dropout else None
            arrays = tuple(tf.TensorArray(tf.float32, number) for _ in Moments._fields) if traced else ()

            def advance(i: Tensor, live: Live, arrays: Any) -> tuple[Tensor, Live, Any]:
                state, going, lengths, returns, row = live
                uniform, normal = noise(seed, steps[i], episodes, self.model.latent_size)
                uniform, normal = tf.gather(uniform, episode), tf.gather(normal, episode)  # (N, Z)
                raw = choose(own, state, steps[i], episode)
                restart = tf.fill(tf.shape(going), tf.cast((steps[i] == 0) & self.starts.fresh, tf.float32))
                following, imagined = self.step(weights, state, raw, restart, temperature, uniform, normal, mask)
                now = Moments(state.z, raw, imagined.done_logit, imagined.reward)
                arrays = tuple(array.write(i, part) for array, part in zip(arrays, now, strict=False))
                lengths += tf.cast(going > 0, tf.int32)
                returns += tf.math.multiply_no_nan(imagined.reward, going)  # whatever is imagined after the end
                if fades is not None:
                    ends = ending(imagined.done_logit, fades)
                else:
                    ends = self.ends(imagined.done_logit, tf.gather(luck(seed, steps[i], episodes), episode))
                going *= 1 - tf.cast(ends, tf.float32)
                return i + 1, Live(following, going, lengths, returns, row), arrays

            _, live, arrays = tf.while_loop(lambda i, *_: i < number, advance, (0, live, arrays))
            return live, tuple(array.stack() for array in arrays)

        self._blocks[act, traced, expected] = block
        return block

    def rollout(
        self,
        act: Act,
        parameters: np.ndarray,
        episodes: int,
        seed: int,
        temperature: float,
        max_steps: int,
        expected: bool = False,
    ) -> Outcome:
        """What P candidates reach in E dreams each, of at most max_steps: returns float32, lengths int32.

        parameters: (P, D) float32. The E starts and all random numbers are the same for every candidate. expected: no
        dream ends, and what a step brings counts as much as the probability that M gives to its being reached.

        `act(parameters, z, h, c)` is a function that XLA can compile: the raw actions (N,) of N dreams, from
        parameters (N, D), z (N, Z), h and c (N, H). If it names them it is also given `step`, int32 (), and
        `episode`, int32 (N,): which of the E dreams each row is.
        """
        total, block = len(parameters) * episodes, self._block(act, expected=expected)
        lengths, returns = np.zeros(total, "int32"), np.zeros(total, "float32")
        for tiles, _ in self._live(block, parameters, episodes, seed, temperature, max_steps):
            for tile in tiles:
                lengths[tile.row], returns[tile.row] = tile.lengths, tile.returns
        return Outcome(returns.reshape(-1, episodes), lengths.reshape(-1, episodes))

    def trace(
        self,
        act: Act,
        parameters: np.ndarray,
        episodes: int,
        seed: int,
        temperature: float,
        max_steps: int,
        only: int | None = None,
    ) -> tuple[np.ndarray, Moments]:
        """The same dreams as `rollout` gives the lengths of, step by step, for a few of them: these, and arrays (P, E, T, ...).

        T is the longest of them. What stands beyond a dream's length is not part of it. only: the one of the E that is kept.
        """
        total, block = len(parameters) * episodes, self._block(act, traced=True)
        kept = np.arange(total) if only is None else np.arange(only, total, episodes)
        place = np.full(total, -1)
        place[kept] = np.arange(len(kept))
        lengths = np.zeros(len(kept), "int32")
        first, actions = 0, (self.model.action_size,) if self.model.action_size > 1 else ()
        sizes = Moments((self.model.latent_size,), actions, (), ())
        whole = Moments(*(np.zeros((len(kept), max_steps, *size), "float32") for size in sizes))

        for tiles, seen in self._live(block, parameters, episodes, seed, temperature, max_steps):
            for tile, moments in zip(tiles, seen, strict=True):
                ours = np.flatnonzero((rows := place[np.asarray(tile.row)]) >= 0)
                lengths[rows[ours]] = np.asarray(tile.lengths)[ours]
                for array, part in zip(whole, moments, strict=True):
                    array[rows[ours], first : first + len(part)] = np.swapaxes(part, 0, 1)[ours]  # (N, steps, ...)
            first += BLOCK
        shape, longest = (-1, episodes if only is None else 1), lengths.max()
        parts = (array[:, :longest].reshape(*shape, *array[:, :longest].shape[1:]) for array in whole)
        return lengths.reshape(shape), Moments(*parts)

    def _live(
        self, block: Any, parameters: np.ndarray, episodes: int, seed: int, temperature: float, max_steps: int
    ) -> Iterator[tuple[list[Live], list[tuple[Tensor, ...]]]]:
        """Live through all dreams block by block (see _block): after each, the tiles and, if traced, the Moments of each."""
        check_temperature(temperature)
        weights, total = self.weights(), len(parameters) * episodes
        # N = P·E, candidate-major
        state = State(*(tf.tile(part, (len(parameters), 1)) for part in self.first(seed, episodes)))
        dreams = Live(state, tf.ones(total), tf.zeros(total, tf.int32), tf.zeros(total), tf.range(total))
        tiles = into_tiles(dreams, np.arange(total))
        numbers = tf.constant(episodes), tf.constant(seed, tf.int64), tf.constant(temperature, tf.float32)
        advance = functools.partial(block, weights, tf.constant(parameters, tf.float32), *numbers)
        with ThreadPoolExecutor(thread_count()) as pool:
            for first in range(0, max_steps, BLOCK):
                steps = tf.range(first, min(first + BLOCK, max_steps))
                results = list(pool.map(functools.partial(advance, steps), tiles))
                tiles, moments = [live for live, _ in results], [moments for _, moments in results]
                yield tiles, moments
                going = survivors(tiles)
                if not len(going):
                    return
                if sum(tile_sizes(len(going))) < sum(len(tile.row) for tile in tiles):
                    tiles = into_tiles(tf.nest.map_structure(lambda *parts: tf.concat(parts, 0), *tiles), going)
