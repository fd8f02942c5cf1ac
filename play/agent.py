"""V, M and C of a run, and their two scenes: M's dream, and the real game beside what V keeps of it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from controller.policy import load_controller, policy_from
from envs.worlds import dream_steps, world_of
from experiment.backend import graph, tf
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment, Hardware
from play.messages import BENDS, SLIDERS
from play.scenes import GameScene, Models, Scene
from rnn.dream import Dream, drawn_weight
from rnn.mixture import at_temperature, spread
from rnn.model import ending, load_rnn
from rnn.starts import load_starts
from rnn.stepping import Dreams, Followed, make_step
from vae.model import VAE, load_vae

Tensor = Any
SECTIONS = ("env", "vae", "rnn", "dream", "controller")


def for_one(hardware: Hardware) -> Hardware:
    """The same for batches of one, in float32 unless told otherwise: bfloat16 gains less than converting the weights costs."""
    return replace(hardware, precision="float32") if hardware.precision == "auto" else hardware


def compiled(step: Callable[..., Any]) -> Callable[..., Any]:
    """For one row: dozens of small operations, handed from thread to thread, wait wherever others work; XLA makes them one."""
    traced = graph(step, reduce_retracing=True, jit_compile=True)
    return lambda *arguments: traced(*map(tf.constant, arguments))  # tensors: see in_pairs


class AgentModels(Models):
    """V, M and C. Raises Problem if the run has no V."""

    kind = "agent"

    def __init__(self, run: Run):
        self.settings = run.settings(SECTIONS)
        prepare(for_one(self.settings.hardware))
        self.world, self.missing = world_of(self.settings), {}
        self.scenes = {"dream": DreamScene, "real": RealScene}
        self.vae, self.rnn, self.parameters = load_vae(run, self.settings), None, None
        steps = self.vae.see, self._follow, self._think
        self.see, self.remember, self._compiled_think = (compiled(step) for step in steps)
        self.policy = policy_from(self.settings)
        try:
            self.rnn = load_rnn(run, self.settings)
            self.meters = meters_of(self.settings)
            starts = load_starts(self.settings, run, self.rnn)
            self.dream = Dream(self.rnn, starts, drawn_weight(self.settings))
            self.dream_step = make_step(self.dream, 1)
            self.sliders = most_seen(self.vae, starts.mu.mean(axis=0))
        except Problem as problem:
            self.missing["dream"] = str(problem)
        try:
            if self.policy.remembers and self.rnn is None:
                raise Problem(self.missing["dream"])
            self.parameters = tf.constant(load_controller(run.controller, self.policy).mean[None])
        except Problem as problem:
            self.missing["controller"] = str(problem)

    def _follow(self, z: Tensor, raw: Tensor, restart: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return (h, c) if self.rnn is None else self.rnn.observe(z, raw, restart, h, c)

    def _think(self, z: Tensor, h: Tensor, c: Tensor, temperature: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        advice = z[:, 0] if self.parameters is None else self.policy.act(self.parameters, z, h, c)
        expected = {}  # of the moment, for each of the meters
        if self.rnn is not None:
            mixture, _, done_logit = self.rnn.head(h)
            expected["spread"] = tf.reduce_mean(spread(*at_temperature(mixture, temperature)))
            if done_logit is not None:
                expected["ending"] = ending(done_logit, self.settings.rnn.done_weight)[0]
        return advice, self.vae.picture(z), expected

    def think(
        self, z: Tensor, h: Tensor, c: Tensor, temperature: float = 1.0
    ) -> tuple[np.ndarray | None, np.ndarray, dict[str, float]]:
        """What C, V and M make of a moment of one game or dream; temperature: of the mixture that M expected z from.

        C's raw action, None where there is no C, V's picture (64, 64, 3) uint8, and what M expected (see Scene).
        """
        advice, picture, expected = self._compiled_think(z, h, c, np.float32(temperature))
        known = {name: float(value) for name, value in expected.items()} if np.any(h) else {}
        return None if self.parameters is None else advice.numpy()[0], picture.numpy()[0], known

    def warm_up(self) -> None:
        raw, (h, c) = self.raw(self.rest), np.zeros((2, 1, self.settings.rnn.hidden), "float32")
        z = self.see(np.zeros((1, 64, 64, 3), "uint8"), np.zeros((1, self.settings.vae.z), "float32"))
        self.think(z, *self.remember(z, raw[None], np.ones(1, "float32"), h, c))
        if "dream" not in self.missing:
            scene = self.open("dream")
            scene.begin(0)
            scene.step(raw, 1.0)


def meters_of(settings: Experiment) -> dict[str, float]:
    """What M expects, and when a meter of it is full: V's z has a spread of about 1, and there the dream ends."""
    ends = 1 / (1 + settings.rnn.done_weight) if settings.dream.done == "threshold" else 1.0
    return {"ending": ends, "spread": 1.0} if settings.rnn.predict_done else {"spread": 1.0}


def most_seen(vae: VAE, z: np.ndarray) -> list[int]:
    """The places in z, (Z,), whose numbers change V's picture most from the lowest to the highest of BENDS."""
    lowest, highest = (np.where(np.eye(len(z), dtype=bool), value, z).astype("float32") for value in BENDS)  # (Z, Z)
    change = np.abs(vae.pictures(highest).astype("float32") - vae.pictures(lowest)).mean(axis=(1, 2, 3))
    return np.argsort(-change)[:SLIDERS].tolist()


class DreamScene(Scene):
    """M's dream, drawn by V."""

    labels = ("the dream",)
    heated = True

    def __init__(self, models: AgentModels):
        options = models.settings.dream
        self.models = models
        self.dreams = Dreams(models.dream, 1, options.temperature, dream_steps(models.settings), models.dream_step)

    def begin(self, seed: int) -> None:
        self.dreams.generators = [np.random.default_rng(seed)]
        self.dreams.begin([0])
        self._show()

    def step(self, raw: np.ndarray, temperature: float) -> tuple[float, bool, bool]:
        self.dreams.set_temperature(temperature)
        self.dreams.advance(raw[None], np.arange(1))
        self._show()
        return float(self.dreams.rewards[0]), bool(self.dreams.died[0]), bool(self.dreams.truncated[0])

    def bend(self, values: dict[int, float]) -> None:
        self.dreams.state.z[0, [*values]] = [*values.values()]
        self._show()

    def _show(self) -> None:
        state = self.dreams.state
        self.z = state.z[0]
        self.advice, picture, self.expected = self.models.think(*state, self.dreams.temperature)
        self.pictures = [picture]


class RealScene(GameScene):
    """The real game, and what V keeps of it. M listens, so that C can take over at any moment."""

    labels = ("the game", "what V keeps of it")

    def look(self, frames: np.ndarray, seed: int | None = None) -> None:
        if seed is not None:
            self.followed = Followed(1, self.models.policy.latent_size, self.models.policy.memory)
            self.followed.begin([0], [seed])
        self.followed.look([0], frames, self.models.see)
        self.advice, picture, self.expected = self.models.think(*self.followed.state)
        self.pictures = [self.vector.render()[0], picture]

    def expect(self, raw: np.ndarray) -> None:
        self.followed.follow([0], raw, self.models.remember)
