"""The dream as Gymnasium environments, with the actions, rewards and seeds of the real game.

`gymnasium.make("rnn:DoomDream-v0", run="runs/doom")` is one dream (`CarRacingDream-v0` of a CarRacing run),
`gymnasium.make_vec` with the same arguments many side by side. An observation is what C sees: z of the moment, and M's memory c and h.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import tensorflow as tf
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from envs.checks import SPAWN, check_actions, check_seed, each_seed
from envs.worlds import world_of
from experiment.config import load_made
from experiment.pretrained import find_run
from experiment.problem import Problem, UsageProblem
from experiment.schema import TEMPERATURE
from rnn import LOST
from rnn.dream import Dream, State, load_dream
from vae.model import draw, load_vae

Tensor = Any
SECTIONS = ("env", "vae", "rnn", "dream")
AHEAD = 16
"""Steps that a dream draws random numbers for at once: to draw for each takes as long as M's products of a large batch."""


class Dreams:
    """N dreams, each with a generator of its own: what both environments and the player step.

    dream: of a run's M. step: `compile_step(dream, number)`, made here unless given. generators: of each dream, to be
    set before it begins. Raises Problem for a temperature or a number of steps that cannot be.
    """

    def __init__(self, dream: Dream, number: int, temperature: float, max_steps: int, step: Any = None):
        if not max_steps >= 1:
            raise Problem(f"max_steps is {max_steps}: expected at least 1")
        self.set_temperature(temperature)
        self.dream, self.max_steps = dream, max_steps
        latent_size, hidden = dream.model.latent_size, dream.model.hidden
        self.state = State(*(np.zeros((number, size), "float32") for size in (latent_size, hidden, hidden)))
        self.generators = [np.random.default_rng(0)] * number
        self.uniform = np.zeros((number, AHEAD, latent_size + 1), "float32")  # the last is for the ending
        self.normal = np.zeros((number, AHEAD, latent_size), "float32")
        self.steps = np.zeros(number, "int64")
        self.died = np.zeros(number, bool)
        self.rewards = np.zeros(number)
        self._step = step or compile_step(dream, number)

    @property
    def truncated(self) -> np.ndarray:
        """(N,) bool, dreams that lasted max_steps."""
        return ~self.died & (self.steps >= self.max_steps)

    def set_temperature(self, temperature: float) -> None:
        """Dream at this temperature from now on. Raises Problem if it is out of range."""
        if not 0 < temperature <= TEMPERATURE:
            raise Problem(f"the temperature of a dream is {temperature}: expected above 0, at most {TEMPERATURE}")
        self.temperature = temperature

    def begin(self, rows: Sequence[int] | np.ndarray) -> None:
        """Start some dreams (their numbers) at recorded moments, drawn by their generators."""
        check_tensorflow()
        starts, self.state = self.dream.starts, State(*(np.array(part) for part in self.state))
        for row in rows:
            generator = self.generators[row]
            chosen = generator.integers(len(starts.mu))
            normal = generator.standard_normal(starts.mu.shape[1], "float32")
            self.state.z[row] = draw(starts.mu[chosen], starts.logvar[chosen], normal)
            self.state.h[row], self.state.c[row] = starts.h[chosen], starts.c[chosen]
            self.steps[row], self.died[row] = 0, False

    def advance(self, raw: np.ndarray, rows: np.ndarray) -> None:
        """One step of some dreams (their numbers), given raw actions for all, (N,) or (N, A); the others stay as they are."""
        check_tensorflow()
        for row in rows[self.steps[rows] % AHEAD == 0]:
            self.generators[row].random(out=self.uniform[row], dtype="float32")
            self.generators[row].standard_normal(out=self.normal[row], dtype="float32")
        going = np.zeros(len(self.steps), "float32")
        going[rows] = 1
        drawn = np.arange(len(self.steps)), self.steps % AHEAD
        restart = ((self.steps == 0) & self.dream.starts.fresh).astype("float32")
        arguments = raw, restart, going, self.temperature, self.uniform[drawn], self.normal[drawn]
        z, h, c, died, rewards = self._step(*self.state, *(np.asarray(each, "float32") for each in arguments))
        self.state = State(z, h, c)
        self.died[rows] = died.numpy()[rows]
        self.rewards = np.zeros(len(self.steps))
        self.rewards[rows] = rewards.numpy()[rows]
        self.steps[rows] += 1


def compile_step(dream: Dream, number: int) -> Any:
    """A whole step of N dreams as one compiled function, for all `Dreams` of so many.

    From z (N, Z), h and c (N, H), raw actions (N,) or (N, A), restart (N,), going (N,), 1 where a dream is to be stepped and
    else 0, the temperature, and random numbers, uniform (N, Z+1) and standard normal (N, Z), to the next z, h and c, which
    dreams end (N,) bool, and the rewards (N,). All float32. One dream is compiled by XLA as a whole, so that its small
    operations do not wait for each other; twice, since XLA multiplies one row more slowly than two. Of more dreams the
    products count, which are faster as they are (see rnn/dream.py).
    """
    weights = dream.weights()

    def step(
        z: Tensor, h: Tensor, c: Tensor, raw: Tensor, restart: Tensor, going: Tensor, temperature: Tensor,
        uniform: Tensor, normal: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        batch = [z, h, c, dream.seen(raw), restart, uniform[:, :-1], normal]
        *state, seen, begun, chance, noise = [tf.repeat(part, 2, axis=0) for part in batch] if number == 1 else batch
        after, imagined = dream.step(weights, State(*state), seen, begun, temperature, chance, noise)
        kept = [tf.where(going[:, None] > 0, new[:number], old) for new, old in zip(after, (z, h, c), strict=True)]
        return *kept, dream.ends(imagined.done_logit[:number], uniform[:, -1]), imagined.reward[:number]

    def of(*shape: int) -> tf.TensorSpec:
        return tf.TensorSpec(shape, tf.float32)

    m = dream.model
    rows, z, memory = of(number), of(number, m.latent_size), of(number, m.hidden)
    action = of(number, m.action_size) if m.action_size > 1 else rows
    signature = z, memory, memory, action, rows, rows, of(), of(number, m.latent_size + 1), z
    # The graph itself: finding it again for every step's arguments takes a millisecond.
    return tf.function(step, jit_compile=number == 1).get_concrete_function(*signature)


class DreamsOfRun(Dreams):
    """The same of a run, as environments have them: with their actions, what is seen, and pictures.

    run: a folder, or the name of what is shipped; of several iterations, the last. world: whose dream is wanted, any if
    None. observation: the letters of what is seen, some of z, c and h, in that order. temperature, max_steps: those of
    the run unless given. Raises Problem if the run is of another world, or has no trained M, or one that cannot dream.
    """

    def __init__(
        self,
        number: int,
        run: Path | str,
        temperature: float | None = None,
        max_steps: int | None = None,
        observation: str = "zch",
        world: str | None = None,
    ):
        if not observation or set(observation) - set("zch"):
            raise Problem(f"observation is {observation!r}: expected some of the letters z, c and h, such as 'zch'")
        check_tensorflow()
        self.observation, self.run = observation, find_run(run)
        self.settings = load_made(self.run.config, SECTIONS)
        if world not in (None, self.settings.env.name):
            raise UsageProblem(f"{run} is a run of {self.settings.env.name}, and no dream of {world} can be had of it")
        self.world, options = world_of(self.settings), self.settings.dream
        super().__init__(
            load_dream(self.settings, self.run),
            number,
            options.temperature if temperature is None else temperature,
            options.max_steps if max_steps is None else max_steps,
        )
        self.space = gymnasium.spaces.Box(-np.inf, np.inf, self.observe().shape[1:], np.float32)
        """Of one dream's observations."""

    def act(self, actions: np.ndarray, rows: np.ndarray) -> None:
        """`advance`, with the environments' actions."""
        self.advance(self.world.unexecute(self.world.from_env(actions)), rows)

    def observe(self) -> np.ndarray:
        """What is seen of all dreams, (N, X) float32, a new array."""
        return np.concatenate([getattr(self.state, letter) for letter in self.observation], axis=1)

    def draw(self) -> np.ndarray:
        """What the dreams look like, decoded by V: (N, 64, 64, 3) uint8."""
        return self._vae.pictures(np.asarray(self.state.z))

    @cached_property
    def _vae(self) -> Any:
        vae: Any = load_vae(self.run, self.settings)
        vae.picture = tf.function(vae.picture, reduce_retracing=True)
        return vae


def check_tensorflow() -> None:
    """Raise Problem where TensorFlow would wait for ever, for threads that did not survive a fork."""
    if LOST:
        raise Problem(
            f"no dream can be dreamed in a process that was forked from one with TensorFlow in it: {SPAWN}, or dream "
            "many in one process, with gymnasium.make_vec(...) alone"
        )


class DreamEnv(gymnasium.Env[np.ndarray, Any]):
    """DoomDream-v0 and CarRacingDream-v0: one dream.

    Observation float32 (X,); actions and rewards as in the real environment, the rewards as M expects them where it
    predicts them, else 1 a step; terminated where the dream ends (dream.done), truncated after max_steps. `render` gives V's
    picture of z, (64, 64, 3) uint8. Other arguments as DreamsOfRun takes them; `reset(options={"temperature": 1.3})` sets the temperature from then on.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 35}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(self, run: Path | str, render_mode: str | None = None, **options: Any):
        self.dreams = DreamsOfRun(1, run, **options)
        self.metadata = DreamEnv.metadata | {"render_fps": self.dreams.world.fps}
        self.observation_space = self.dreams.space
        self.action_space = self.dreams.world.action_space
        self.render_mode = render_mode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin a dream."""
        super().reset(seed=None if seed is None else check_seed(seed))
        self.dreams.set_temperature((options or {}).get("temperature", self.dreams.temperature))
        self.dreams.generators = [self.np_random]
        self.dreams.begin(np.arange(1))
        return self.dreams.observe()[0], {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Dream one step."""
        dreams = self.dreams
        dreams.act(check_actions(action, self.action_space)[None], np.arange(1))
        return dreams.observe()[0], float(dreams.rewards[0]), bool(dreams.died[0]), bool(dreams.truncated[0]), {}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The dreamed frame, (64, 64, 3) uint8."""
        return self.dreams.draw()[0]


class DreamVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N dreams side by side, stepped in one batch; dream i of seed s is that of DreamEnv with seed s + i, but for rounding.

    Observations (N, X) float32, actions (N,) or (N, A). autoreset_mode: what happens to a dream that is over.
    NEXT_STEP: the next step begins another in its place, with reward 0. SAME_STEP: the same step does, and
    info["final_obs"] has what was seen last. DISABLED: it stays as it is, with reward 0, until
    `reset(options={"reset_mask": finished})`.
    """

    def __init__(
        self,
        num_envs: int,
        run: Path | str,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        **options: Any,
    ):
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.dreams = DreamsOfRun(num_envs, run, **options)
        about = {"render_fps": self.dreams.world.fps, "autoreset_mode": self.autoreset_mode}
        self.metadata = DreamEnv.metadata | about
        self.single_observation_space = self.dreams.space
        self.single_action_space = self.dreams.world.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.dreams.generators = [seeding.np_random()[0] for _ in range(num_envs)]

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin all dreams, or those where options["reset_mask"], (N,) bool, says so; returns all observations.

        seed: s for s, s + 1, s + 2..., or a list with a seed or None for each; None goes on with what came before.
        """
        self.dreams.set_temperature((options or {}).get("temperature", self.dreams.temperature))
        rows = np.flatnonzero((options or {}).get("reset_mask", np.ones(self.num_envs, bool)))
        seeds = each_seed(seed, self.num_envs)
        for row in rows.tolist():
            if seeds[row] is not None:
                self.dreams.generators[row] = seeding.np_random(check_seed(seeds[row]))[0]
        self.dreams.begin(rows)
        return self.dreams.observe(), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Dream one step in every dream that is not over."""
        over = self.dreams.died | self.dreams.truncated
        info: dict[str, Any] = {}
        live = np.flatnonzero(~over)
        self.dreams.act(check_actions(actions, self.single_action_space, self.num_envs, live), live)
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self.dreams.begin(np.flatnonzero(over))
        observation, rewards = self.dreams.observe(), self.dreams.rewards
        died, truncated = self.dreams.died.copy(), self.dreams.truncated
        ended = died | truncated
        if self.autoreset_mode is AutoresetMode.SAME_STEP and ended.any():
            final = np.full(self.num_envs, None, object)
            for row in np.flatnonzero(ended):
                final[row] = observation[row]
            info = {"final_obs": final, "_final_obs": ended}
            self.dreams.begin(np.flatnonzero(ended))
            observation = self.dreams.observe()
        return observation, rewards, died, truncated, info

    def render(self) -> tuple[np.ndarray, ...]:
        """The dreamed frames, each (64, 64, 3) uint8."""
        return tuple(self.dreams.draw())
