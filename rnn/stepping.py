"""N dreams, or N real games that V sees and M follows, a step at a time: what the agent, the environments and the player step."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from envs.checks import SPAWN
from experiment.backend import graph, tf
from experiment.problem import Problem
from rnn import LOST
from rnn.dream import Dream, State, check_temperature, pad
from rnn.mixture import Mixture, sample
from rnn.model import FORGET_BIAS
from vae.model import draw

Tensor = Any
Rows = Sequence[int] | np.ndarray
Step = Callable[[np.ndarray, np.ndarray, np.float32], np.ndarray]
AHEAD = 16
"""Steps that a dream draws random numbers for at once: to draw for each takes as long as M's products of a large batch."""


class Dreams:
    """N dreams, each with a generator of its own: what both environments and the player step.

    dream: of a run's M. step: `make_step(dream, number)`, made here unless given. generators: of each dream, to be
    set before it begins. Raises Problem for a temperature that cannot be.
    """

    def __init__(self, dream: Dream, number: int, temperature: float, max_steps: int, step: Step | None = None):
        self.set_temperature(temperature)
        self.dream, self.max_steps = dream, max_steps
        self._fresh = dream.starts.fresh  # looks through all of them
        model = dream.model
        self._sizes = model.latent_size, model.hidden, model.hidden
        self._state = np.zeros((number, model.latent_size + 2 * model.hidden), "float32")  # z, h and c, side by side
        self.generators = [np.random.default_rng(0)] * number
        self.uniform = np.zeros((number, AHEAD, model.latent_size + 1), "float32")  # the last is for the ending
        self.normal = np.zeros((number, AHEAD, model.latent_size), "float32")
        self.masks = np.ones((number, model.mask_size), "float32")
        self.steps = np.zeros(number, "int64")
        self.died = np.zeros(number, bool)
        self.rewards = np.zeros(number)
        self._step = step or make_step(dream, number)

    @property
    def state(self) -> State:
        """What C sees now, as arrays."""
        return State(*parts(self._state, *self._sizes))

    @property
    def truncated(self) -> np.ndarray:
        """(N,) bool, dreams that lasted max_steps."""
        return ~self.died & (self.steps >= self.max_steps)

    def set_temperature(self, temperature: float) -> None:
        """Dream at this temperature from now on. Raises Problem if it is out of range."""
        check_temperature(temperature)
        self.temperature = temperature

    def begin(self, rows: Rows) -> None:
        """Start some dreams (their numbers) at recorded moments, drawn by their generators."""
        check_tensorflow()
        model, starts, state = self.dream.model, self.dream.starts, self.state
        for row in rows:
            generator = self.generators[row]
            chosen = generator.integers(len(starts.mu))
            normal = generator.standard_normal(starts.mu.shape[1], "float32")
            state.z[row] = draw(starts.mu[chosen], starts.logvar[chosen], normal)
            state.h[row], state.c[row] = starts.h[chosen], starts.c[chosen]
            self.masks[row] = model.mask(generator.random(model.mask_size, "float32"), xp=np)
            self.steps[row], self.died[row] = 0, False

    def advance(self, raw: np.ndarray, rows: np.ndarray) -> None:
        """One step of some dreams (their numbers), given raw actions for all, (N,) or (N, A); the others stay as they are."""
        check_tensorflow()
        for row in rows[self.steps[rows] % AHEAD == 0]:
            self.generators[row].random(out=self.uniform[row], dtype="float32")
            self.generators[row].standard_normal(out=self.normal[row], dtype="float32")
        number = len(self.steps)
        drawn = np.arange(number), self.steps % AHEAD
        restart = (self.steps == 0) & self._fresh
        columns = raw.reshape(number, -1), restart[:, None], self.uniform[drawn], self.normal[drawn], self.masks
        given = np.concatenate(columns, axis=1, dtype="float32")
        after = self._step(self._state, given, np.float32(self.temperature))
        going = np.zeros(number, bool)
        going[rows] = True
        self._state = np.where(going[:, None], after[:, :-2], self._state)
        self.died[rows] = after[rows, -2] > 0
        self.rewards = np.where(going, after[:, -1].astype("float64"), 0.0)
        self.steps[rows] += 1


def make_step(dream: Dream, number: int) -> Step:
    """A whole step of N dreams, for all `Dreams` of so many: a compiled function, or `alone` for one dream.

    Of what C sees, z, h and c (N, Z+2H), and what is given, the raw action, restart, random numbers, uniform (Z+1, the last
    for the ending) and standard normal (Z), and M's mask where it has dropout, (N, A+1+Z+1+Z[+I+H]), and the temperature, it
    makes what C sees next, whether the dream ends, 1 or 0, and the reward, (N, Z+2H+2). All float32, and few arrays, since
    TensorFlow takes long for each.
    """
    if number == 1:
        return alone(dream)
    weights, m = dream.weights(), dream.model

    def step(state: Tensor, given: Tensor, temperature: Tensor) -> Tensor:
        z, h, c = tf.split(state, [m.latent_size, m.hidden, m.hidden], axis=1)
        raw, restart, uniform, luck, normal, mask = tf.split(
            given, [m.action_size, 1, m.latent_size, 1, m.latent_size, m.mask_size], axis=1
        )
        raw = raw if m.action_size > 1 else raw[:, 0]
        mask = tf.cast(pad(mask, axis=1), m.compute_dtype) if m.dropout else None
        after, imagined = dream.step(weights, State(z, h, c), raw, restart[:, 0], temperature, uniform, normal, mask)
        ends = tf.cast(dream.ends(imagined.done_logit, luck[:, 0]), tf.float32)
        return tf.concat([*after, ends[:, None], imagined.reward[:, None]], axis=1)

    given = m.action_size + 2 + 2 * m.latent_size + m.mask_size
    shapes = (number, m.latent_size + 2 * m.hidden), (number, given), ()
    # The graph itself: finding it again for every step's arguments takes a millisecond.
    concrete = graph(step).get_concrete_function(*(tf.TensorSpec(shape, tf.float32) for shape in shapes))
    return lambda *arguments: concrete(*arguments).numpy()


def alone(dream: Dream) -> Step:
    """The same step for one dream in NumPy, always in float32: TensorFlow needs several times as long for a single row."""
    m = dream.model
    kernel, bias, output_kernel, output_bias = (np.ascontiguousarray(weight.numpy().T) for weight in m.weights)
    bias = bias + np.repeat(np.array([0, 0, FORGET_BIAS, 0], "float32"), m.hidden)

    def step(state: np.ndarray, given: np.ndarray, temperature: np.float32) -> np.ndarray:
        z, h, c = parts(state, m.latent_size, m.hidden, m.hidden)
        sizes = m.action_size, 1, m.latent_size, 1, m.latent_size, m.mask_size
        raw, restart, uniform, luck, normal, mask = parts(given, *sizes)
        inputs = m.inputs(z, raw if m.action_size > 1 else raw[:, 0], restart[:, 0], xp=np)
        inputs = np.concatenate([inputs, h], axis=1)
        inputs = inputs * mask if m.dropout else inputs
        # Not `@`, for which OpenBLAS starts threads that take three times as long together.
        gates = (np.vecdot(kernel, inputs) + bias).reshape(4, 1, m.hidden)
        i, _, f, o = 0.5 + 0.5 * np.tanh(0.5 * gates)  # the logistic function
        c = c * f + i * np.tanh(gates[1])
        h = np.tanh(c) * o
        outputs = np.vecdot(output_kernel, h) + output_bias  # (3KZ [+1] [+1])
        mixture = Mixture(*outputs[: m.mixture_size].reshape(3, 1, m.mixtures, m.latent_size))
        z = sample(mixture, temperature, uniform, normal, xp=np)
        reward = outputs[m.mixture_size] if m.predict_reward else 1
        ends = dream.ends(outputs[-1], luck[0, 0]) if m.predict_done else False
        return np.concatenate([z, h, c, [[ends, reward]]], axis=1, dtype="float32")

    return step


class Followed:
    """N real games, which V sees and M follows, each with noise of its own: what the agent, the environments and the player step.

    Each of these compiles V's and M's steps as it needs them; the agent's one step does all. state: what C sees now, or, after
    an action and before V looks, the last z and the next h and c. `rows`: numbers of games, n of them.
    """

    def __init__(self, number: int, latent_size: int, hidden: int):
        self.state = State(*(np.zeros((number, size), "float32") for size in (latent_size, hidden, hidden)))
        self.restart = np.ones(number, "float32")  # 1 in an episode's first step, else 0
        self._noise = [np.random.default_rng(0)] * number

    def begin(self, rows: Rows, seeds: Rows) -> None:
        """Episodes of these seeds begin; M remembers nothing."""
        self.state.h[rows] = self.state.c[rows] = 0
        self.restart[rows] = 1
        for row, seed in zip(rows, seeds, strict=True):
            self._noise[row] = np.random.default_rng(int(seed))

    def noise(self, rows: Rows) -> np.ndarray:
        """Standard normal numbers, (n, Z), that the next z is drawn with."""
        return np.array([self._noise[row].standard_normal(self.state.z.shape[1], "float32") for row in rows])

    def look(self, rows: Rows, frames: np.ndarray, see: Callable[..., Any]) -> None:
        """V sees frames (n, 64, 64, 3). see: from them and noise to z."""
        self.state.z[rows] = see(frames, self.noise(rows))

    def follow(self, rows: Rows, raw: np.ndarray, remember: Callable[..., Any]) -> None:
        """M is told of raw actions, (n,) or (n, A). remember: from z, these, restart, h and c to the next h and c."""
        z, h, c = (part[rows] for part in self.state)
        self.keep(rows, z, *remember(z, raw, self.restart[rows], h, c))

    def keep(self, rows: Rows, *state: np.ndarray) -> None:
        """After a step: the z that was seen, and M's h and c that followed, of (n, ...)."""
        for part, now in zip(self.state, state, strict=True):
            part[rows] = now
        self.restart[rows] = 0


def in_pairs(step: Callable[..., Any], *rows: np.ndarray) -> Any:
    """What a function of N rows gives; of a lone row, computed twice, since a product with one row is rounded differently."""
    number = len(rows[0])
    # As tensors: compiled functions take longer to make them of arrays themselves.
    results = step(*(tf.constant(np.repeat(each, 2, axis=0) if number == 1 else each) for each in rows))
    return tf.nest.map_structure(lambda each: each.numpy()[:number], results)


def parts(values: np.ndarray, *sizes: int) -> Iterator[np.ndarray]:
    """Views of so many columns each, one after the other; np.split takes six times as long."""
    first = 0
    for size in sizes:
        yield values[:, first : first + size]
        first += size


def check_tensorflow() -> None:
    """Raise Problem where TensorFlow would wait for ever, for threads that did not survive a fork."""
    if LOST:
        raise Problem(
            f"no dream can be dreamed in a process that was forked from one with TensorFlow in it: {SPAWN}, or dream "
            "many in one process, with gymnasium.make_vec(...) alone"
        )
