"""What the C of a run sees as Gymnasium environments: of M's dream, and of the real game, which V sees and M follows.

`gymnasium.make("world_models:DoomDream-v0", run="doom")` is one dream, `DoomLatent-v0` the game (`CarRacingDream-v0`,
`CarRacingLatent-v0` of a CarRacing run), `gymnasium.make_vec` with the same arguments many side by side. Both have the same
spaces: an observation is z of the moment and M's memory c and h, the actions are the game's.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium.utils.seeding import np_random

from envs.checks import SPAWN
from envs.episodes import start
from envs.sidebyside import Alone, SideBySide
from envs.worlds import world_of
from experiment.backend import graph
from experiment.problem import Problem, UsageProblem
from experiment.run import Run, find_run
from experiment.schema import TEMPERATURE
from rnn import LOST
from rnn.dream import Dream, State, in_pairs, load_dream
from rnn.mixture import Mixture, sample
from rnn.model import FORGET_BIAS, load_rnn
from vae.model import draw, load_vae

Tensor = Any
Rows = Sequence[int] | np.ndarray
Step = Callable[[np.ndarray, np.ndarray, np.float32], np.ndarray]
SECTIONS = ("env", "vae", "rnn", "dream")
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
        if not 0 < temperature <= TEMPERATURE:
            raise Problem(f"the temperature of a dream is {temperature}: expected above 0, at most {TEMPERATURE}")
        self.temperature = temperature

    def begin(self, rows: Rows) -> None:
        """Start some dreams (their numbers) at recorded moments, drawn by their generators."""
        check_tensorflow()
        starts, state = self.dream.starts, self.state
        for row in rows:
            generator = self.generators[row]
            chosen = generator.integers(len(starts.mu))
            normal = generator.standard_normal(starts.mu.shape[1], "float32")
            state.z[row] = draw(starts.mu[chosen], starts.logvar[chosen], normal)
            state.h[row], state.c[row] = starts.h[chosen], starts.c[chosen]
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
        columns = raw.reshape(number, -1), restart[:, None], self.uniform[drawn], self.normal[drawn]
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

    Of what C sees, z, h and c (N, Z+2H), and what is given, the raw action, restart, and random numbers, uniform (Z+1, the
    last for the ending) and standard normal (Z), (N, A+1+Z+1+Z), and the temperature, it makes what C sees next, whether the
    dream ends, 1 or 0, and the reward, (N, Z+2H+2). All float32, and few arrays, since TensorFlow takes long for each.
    """
    if number == 1:
        return alone(dream)
    weights, m = dream.weights(), dream.model

    def step(state: Tensor, given: Tensor, temperature: Tensor) -> Tensor:
        z, h, c = tf.split(state, [m.latent_size, m.hidden, m.hidden], axis=1)
        raw, restart, uniform, luck, normal = tf.split(
            given, [m.action_size, 1, m.latent_size, 1, m.latent_size], axis=1
        )
        raw = raw if m.action_size > 1 else raw[:, 0]
        after, imagined = dream.step(weights, State(z, h, c), raw, restart[:, 0], temperature, uniform, normal)
        ends = tf.cast(dream.ends(imagined.done_logit, luck[:, 0]), tf.float32)
        return tf.concat([*after, ends[:, None], imagined.reward[:, None]], axis=1)

    shapes = (number, m.latent_size + 2 * m.hidden), (number, m.action_size + 2 + 2 * m.latent_size), ()
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
        raw, restart, uniform, luck, normal = parts(given, m.action_size, 1, m.latent_size, 1, m.latent_size)
        inputs = m.inputs(z, raw if m.action_size > 1 else raw[:, 0], restart[:, 0], xp=np)
        inputs = np.concatenate([inputs, h], axis=1)
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


class OfRun(SideBySide):
    """N episodes side by side as the C of a run sees them: observations (N, X) float32.

    run: a folder, or the name of what is shipped; of several iterations, the last. observation: what is seen, some of the
    letters z (Z numbers), and c and h, M's memory (H each), in that order. max_steps: the run's unless given. world: of
    which the run has to be, any if None. common: see SideBySide. Actions are those of the real environment. Raises Problem
    if the run is of another world, or V or M is missing.
    """

    section: str  # of the run's settings: where the length of an episode is said
    metadata = {"render_modes": ["rgb_array"], "render_fps": 35}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        num_envs: int,
        run: Path | str | Run,
        observation: str = "zch",
        max_steps: int | None = None,
        world: str | None = None,
        **common: Any,
    ):
        if not observation or set(observation) - set("zch"):
            raise Problem(f"observation is {observation!r}: expected some of the letters z, c and h, such as 'zch'")
        check_tensorflow()
        self.run = find_run(run)
        self.settings = settings = self.run.settings(SECTIONS)
        if world not in (None, settings.env.name):
            raise UsageProblem(
                f"{self.run.path} is a run of {settings.env.name}, and this environment is for one of {world}"
            )
        self.observation, self.world = observation, world_of(settings)
        sizes = {"z": settings.vae.z, "c": settings.rnn.hidden, "h": settings.rnn.hidden}
        seen = gymnasium.spaces.Box(-np.inf, np.inf, (sum(sizes[letter] for letter in observation),), np.float32)
        if max_steps is None:
            max_steps = min(getattr(settings, self.section).max_steps, self.world.limit)
        super().__init__(num_envs, seen, self.world.action_space, max_steps, **common)
        self.metadata = {**self.metadata, "render_fps": self.world.fps}

    def raw(self, actions: np.ndarray) -> np.ndarray:
        """Raw actions, (N,) or (N, A), that are executed as these actions of the environments."""
        return self.world.unexecute(self.world.from_env(actions))

    def show(self, state: State) -> None:
        """Take what is seen of a state as the frames."""
        np.concatenate([getattr(state, letter) for letter in self.observation], axis=1, out=self.frames)


class DreamVectorEnv(OfRun):
    """N dreams side by side, stepped in one batch; dream i of seed s is that of DreamEnv with seed s + i, but for rounding.

    Rewards as M expects them where it predicts them, else 1 a step; terminated where the dream ends (dream.done). `render`
    gives V's pictures of z, (64, 64, 3) uint8 each. temperature: the run's unless given, and what
    `reset(options={"temperature": 1.3})` says from then on. Other arguments: see OfRun.
    """

    section = "dream"
    reset_options = ("reset_mask", "temperature")

    def __init__(self, num_envs: int, run: Path | str | Run, temperature: float | None = None, **options: Any):
        super().__init__(num_envs, run, **options)
        temperature = self.settings.dream.temperature if temperature is None else temperature
        self.dreams = Dreams(load_dream(self.settings, self.run), num_envs, temperature, self.max_steps)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.dreams.set_temperature((options or {}).get("temperature", self.dreams.temperature))
        return super().reset(seed=seed, options=options)

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        for row, seed in zip(rows, seeds, strict=True):
            self.dreams.generators[row] = np_random(seed)[0]
        self.dreams.begin(rows)
        self.show(self.dreams.state)

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        self.dreams.advance(self.raw(actions), rows)
        self.rewards, self.ended[rows] = self.dreams.rewards, self.dreams.died[rows]
        self.show(self.dreams.state)

    def render(self) -> tuple[np.ndarray, ...]:
        """The dreamed frames, each (64, 64, 3) uint8."""
        return tuple(self._vae.pictures(np.asarray(self.dreams.state.z)))

    @cached_property
    def _vae(self) -> Any:
        vae: Any = load_vae(self.run, self.settings)
        vae.picture = graph(vae.picture, reduce_retracing=True)
        return vae


class DreamEnv(Alone):
    """DoomDream-v0 and CarRacingDream-v0: one dream. Arguments, rewards and pictures are those of DreamVectorEnv."""

    kind, metadata = DreamVectorEnv, DreamVectorEnv.metadata


class LatentVectorEnv(OfRun):
    """N real games side by side, which V sees and M follows: what was trained in the dream plays on here.

    Rewards and ends are the games'; `render` gives their pictures. The noise that z is drawn with follows from an episode's
    seed, so that C sees the very z, c and h that `controller` lets it see. final: whether the games are those that final
    figures are measured in (for CarRacing Gymnasium's simulator, else EnvPool's). Other arguments: see OfRun.
    """

    section = "env"

    def __init__(self, num_envs: int, run: Path | str | Run, final: bool = True, **options: Any):
        super().__init__(num_envs, run, **options)
        vae, rnn = load_vae(self.run, self.settings), load_rnn(self.run, self.settings)
        self.followed = Followed(num_envs, vae.latent_size, rnn.hidden)
        compiled = (graph(step, reduce_retracing=True) for step in (vae.see, rnn.observe))
        self._see, self._remember = (functools.partial(in_pairs, step) for step in compiled)
        env = dataclasses.replace(self.settings.env, max_steps=self.max_steps)
        self.games = self.world.open(env, num_envs, self.patience, final)
        self.seeds = self.games.seeds

    def begin(self, rows: np.ndarray, seeds: list[int]) -> None:
        self.followed.begin(rows, seeds)
        self._look(rows, start(self.games, rows, seeds))

    def drive(self, rows: np.ndarray, actions: np.ndarray) -> None:
        if not len(rows):
            return
        self.followed.follow(rows, self.raw(actions)[rows], self._remember)
        frames, rewards, ended, cut, self.info = self.games.step(actions)
        self.rewards[rows], self.ended[rows], self.cut[rows] = rewards[rows], ended[rows], cut[rows]
        self._look(rows, frames)

    def _look(self, rows: np.ndarray, frames: np.ndarray) -> None:
        self.followed.look(rows, frames[rows], self._see)
        self.show(self.followed.state)

    def render(self) -> Any:
        """The games' own pictures."""
        return self.games.render()

    def close_extras(self, **kwargs: Any) -> None:
        """End the games."""
        self.games.close()


class LatentEnv(Alone):
    """DoomLatent-v0 and CarRacingLatent-v0: one real game. Arguments, rewards and pictures are those of LatentVectorEnv."""

    kind, metadata = LatentVectorEnv, LatentVectorEnv.metadata
