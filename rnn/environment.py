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
from rnn import LOST
from rnn.dream import State, load_dream
from vae.model import draw, load_vae

SECTIONS = ("env", "vae", "rnn", "dream")


class Dreams:
    """N dreams of a run's M, each with a generator of its own: what both environments are made of.

    run: a folder, or the name of what is shipped; of several iterations, the last. world: whose dream is wanted, any if
    None. observation: the letters of what is seen, some of z, c and h, in that order. temperature, max_steps: those of
    the run unless given. Raises Problem if the run is of another world, or has no trained M, or one that cannot dream.
    """

    def __init__(
        self,
        run: Path | str,
        world: str | None,
        number: int,
        observation: str,
        temperature: float | None,
        max_steps: int | None,
    ):
        if not observation or set(observation) - set("zch"):
            raise Problem(f"observation is {observation!r}: expected some of the letters z, c and h, such as 'zch'")
        check_tensorflow()
        self.run = find_run(run)
        self.settings = load_made(self.run.config, SECTIONS)
        if world not in (None, self.settings.env.name):
            raise UsageProblem(f"{run} is a run of {self.settings.env.name}, and no dream of {world} can be had of it")
        self.world = world_of(self.settings)
        self.set_temperature(self.settings.dream.temperature if temperature is None else temperature)
        self.max_steps = max_steps or self.settings.dream.max_steps
        self.observation = observation
        self.dream = load_dream(self.settings, self.run)
        self.weights = self.dream.weights()
        latent_size, hidden = self.dream.model.latent_size, self.dream.model.hidden
        self.state = State(*(np.zeros((number, size), "float32") for size in (latent_size, hidden, hidden)))
        self.generators = [np.random.default_rng(0)] * number
        self.steps = np.zeros(number, "int64")
        self.died = np.zeros(number, bool)
        self.rewards = np.zeros(number)
        self._step = tf.function(self.dream.step)

    @property
    def space(self) -> gymnasium.spaces.Box:
        """The observation space of one dream."""
        return gymnasium.spaces.Box(-np.inf, np.inf, self.observe().shape[1:], np.float32)

    @property
    def truncated(self) -> np.ndarray:
        """(N,) bool, dreams that lasted max_steps."""
        return ~self.died & (self.steps >= self.max_steps)

    @property
    def over(self) -> np.ndarray:
        """(N,) bool, dreams that have ended, either way."""
        return self.died | self.truncated

    def set_temperature(self, temperature: float) -> None:
        """Dream at this temperature from now on. Raises Problem if it is not above 0."""
        if not temperature > 0:
            raise Problem(f"the temperature of a dream is {temperature}: expected a number above 0")
        self.temperature = temperature

    def begin(self, rows: np.ndarray) -> None:
        """Start some dreams (their numbers) at the first frames of real episodes, drawn by their generators."""
        check_tensorflow()
        starts = self.dream.starts
        for row in rows:
            generator = self.generators[row]
            chosen = generator.integers(len(starts.mu))
            normal = generator.standard_normal(starts.mu.shape[1], "float32")
            self.state.z[row] = draw(starts.mu[chosen], starts.logvar[chosen], normal)
            self.state.h[row], self.state.c[row] = starts.h[chosen], starts.c[chosen]
            self.steps[row], self.died[row] = 0, False

    def advance(self, actions: np.ndarray, rows: np.ndarray) -> None:
        """One step of some dreams (their numbers), with the environments' actions for all dreams, N of them.

        All N are computed, so that the shapes stay the same. One is computed twice, because a product with one
        row is rounded differently from a product with more.
        """
        check_tensorflow()
        uniform, normal = np.zeros((2, *self.state.z.shape), "float32")  # (N, Z)
        luck = np.zeros(len(self.steps), "float32")
        for row in rows:
            self.generators[row].random(out=uniform[row], dtype="float32")
            self.generators[row].standard_normal(out=normal[row], dtype="float32")
            if self.dream.drawn is not None:
                luck[row] = self.generators[row].random(dtype="float32")
        restart = ((self.steps == 0) & self.dream.starts.fresh).astype("float32")
        executed = np.asarray(self.world.from_env(actions), "float32")
        given = executed if self.settings.rnn.action == "executed" else self.world.unexecute(executed)
        batch = [*self.state, given, restart, uniform, normal]
        z, h, c, *others = batch if len(restart) > 1 else [np.repeat(part, 2, axis=0) for part in batch]
        seen, restart, uniform, normal = others
        temperature = np.float32(self.temperature)
        state, imagined = self._step(self.weights, State(z, h, c), seen, restart, temperature, uniform, normal)
        for kept, new in zip(self.state, state, strict=True):
            kept[rows] = new.numpy()[rows]
        self.died[rows] = self.dream.ends(imagined.done_logit[: len(luck)], luck).numpy()[rows]
        self.rewards[:] = 0
        self.rewards[rows] = imagined.reward.numpy()[rows]
        self.steps[rows] += 1

    def observe(self) -> np.ndarray:
        """What is seen of all dreams, (N, X) float32, a new array."""
        return np.concatenate([getattr(self.state, letter) for letter in self.observation], axis=1)

    def draw(self) -> np.ndarray:
        """What the dreams look like, decoded by V: (N, 64, 64, 3) uint8."""
        return self._vae.pictures(self.state.z)

    @cached_property
    def _vae(self) -> Any:
        return load_vae(self.run, self.settings)


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
    predicts them, else 1 a step; terminated when M's done logit is above 0, truncated after max_steps. `render` gives V's picture of z, (64, 64, 3) uint8.
    `reset(options={"temperature": 1.3})` sets the temperature from then on.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 35}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        run: Path | str,
        temperature: float | None = None,
        max_steps: int | None = None,
        observation: str = "zch",
        render_mode: str | None = None,
        world: str | None = None,
    ):
        self.dreams = Dreams(run, world, 1, observation, temperature, max_steps)
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
        dreams.advance(check_actions(action, self.action_space)[None], np.arange(1))
        return dreams.observe()[0], float(dreams.rewards[0]), bool(dreams.died[0]), bool(dreams.truncated[0]), {}

    def render(self) -> np.ndarray:  # type: ignore[override]
        """The dreamed frame, (64, 64, 3) uint8."""
        return self.dreams.draw()[0]


class DreamVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N dreams side by side, stepped in one batch; dream i of seed s is that of DreamEnv with seed s + i.

    Observations (N, X) float32, actions (N,) or (N, A). autoreset_mode: what happens to a dream that is over.
    NEXT_STEP: the next step begins another in its place, with reward 0. SAME_STEP: the same step does, and
    info["final_obs"] has what was seen last. DISABLED: it stays as it is, with reward 0, until
    `reset(options={"reset_mask": finished})`.
    """

    def __init__(
        self,
        num_envs: int,
        run: Path | str,
        temperature: float | None = None,
        max_steps: int | None = None,
        observation: str = "zch",
        render_mode: str | None = None,
        world: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ):
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.dreams = Dreams(run, world, num_envs, observation, temperature, max_steps)
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
        over = self.dreams.over
        info: dict[str, Any] = {}
        rewards = np.zeros(self.num_envs)
        live = np.flatnonzero(~over)
        checked = check_actions(actions, self.single_action_space, self.num_envs, live)
        if len(live):
            self.dreams.advance(checked, live)
            rewards = self.dreams.rewards.copy()
        if self.autoreset_mode is AutoresetMode.NEXT_STEP:
            self.dreams.begin(np.flatnonzero(over))
        observation, died, truncated = self.dreams.observe(), self.dreams.died.copy(), self.dreams.truncated
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
