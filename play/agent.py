"""V, M and C of a run, and their two scenes: M's dream, and the real game beside what V keeps of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from controller.policy import load_controller, policy_from
from envs.worlds import world_of
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Hardware
from play.scenes import GameScene, Models, Scene
from rnn.dream import Dream, drawn_weight, seen_by
from rnn.environment import Dreams, make_step
from rnn.model import load_rnn
from rnn.starts import load_starts
from vae.model import draw, load_vae

Tensor = Any
SECTIONS = ("env", "vae", "rnn", "dream", "controller")


def for_one(hardware: Hardware) -> Hardware:
    """The same for batches of one, in float32 unless told otherwise: bfloat16 gains less than converting the weights costs."""
    return replace(hardware, precision="float32") if hardware.precision == "auto" else hardware


# Dozens of small operations, handed from thread to thread, wait wherever others work: XLA makes them one.
compiled = tf.function(reduce_retracing=True, jit_compile=True)


class AgentModels(Models):
    """V, M and C. Raises Problem if the run has no V."""

    kind = "agent"

    def __init__(self, run: Run):
        self.settings = run.settings(SECTIONS)
        prepare(for_one(self.settings.hardware))
        self.world, self.missing = world_of(self.settings), {}
        self.scenes = {"dream": DreamScene, "real": RealScene}
        self.vae, self.rnn, self.parameters = load_vae(run, self.settings), None, None
        self.policy, self.seen = policy_from(self.settings), seen_by(self.settings)
        try:
            self.rnn = load_rnn(run, self.settings)
            starts = load_starts(self.settings, run, self.rnn)
            self.dream = Dream(self.rnn, starts, self.seen, drawn_weight(self.settings))
            self.dream_step = make_step(self.dream, 1)
        except Problem as problem:
            self.missing["dream"] = str(problem)
        try:
            if self.policy.remembers and self.rnn is None:
                raise Problem(self.missing["dream"])
            self.parameters = tf.constant(load_controller(run.controller, self.policy).mean[None])
        except Problem as problem:
            self.missing["controller"] = str(problem)

    @compiled
    def see(self, frames: Tensor, normal: Tensor) -> Tensor:
        return draw(*self.vae.encode(frames), normal)

    @compiled
    def remember(self, z: Tensor, raw: Tensor, restart: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return (h, c) if self.rnn is None else self.rnn.step(self.rnn.inputs(z, self.seen(raw), restart), h, c)

    @compiled
    def _think(self, z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        advice = z[:, 0] if self.parameters is None else self.policy.act(self.parameters, z, h, c)
        return advice, self.vae.picture(z)

    def think(self, z: Tensor, h: Tensor, c: Tensor) -> tuple[np.ndarray | None, np.ndarray]:
        """C's raw action at a moment of one game or dream, None where there is no C, and V's picture (64, 64, 3) uint8."""
        advice, picture = self._think(z, h, c)
        return None if self.parameters is None else advice.numpy()[0], picture.numpy()[0]

    def warm_up(self) -> None:
        raw, (h, c) = self.raw(self.rest), np.zeros((2, 1, self.settings.rnn.hidden), "float32")
        z = self.see(np.zeros((1, 64, 64, 3), "uint8"), np.zeros((1, self.settings.vae.z), "float32"))
        self.think(z, *self.remember(z, raw[None], np.ones(1, "float32"), h, c))
        if "dream" not in self.missing:
            scene = self.open("dream")
            scene.begin(0)
            scene.step(raw, 1.0)


class DreamScene(Scene):
    """M's dream, drawn by V."""

    labels = ("the dream",)
    heated = True

    def __init__(self, models: AgentModels):
        options = models.settings.dream
        self.models = models
        self.dreams = Dreams(models.dream, 1, options.temperature, options.max_steps, models.dream_step)

    def begin(self, seed: int) -> None:
        self.dreams.generators = [np.random.default_rng(seed)]
        self.dreams.begin([0])
        self._show()

    def step(self, raw: np.ndarray, temperature: float) -> tuple[float, bool, bool]:
        self.dreams.set_temperature(temperature)
        self.dreams.advance(raw[None], np.arange(1))
        self._show()
        return float(self.dreams.rewards[0]), bool(self.dreams.died[0]), bool(self.dreams.truncated[0])

    def _show(self) -> None:
        self.advice, picture = self.models.think(*self.dreams.state)
        self.pictures = [picture]


class RealScene(GameScene):
    """The real game, and what V keeps of it. M listens, so that C can take over at any moment."""

    labels = ("the game", "what V keeps of it")

    def look(self, frames: np.ndarray, seed: int | None = None) -> None:
        settings = self.models.settings
        if seed is not None:
            self.noise, self.restart = np.random.default_rng(seed), np.ones(1, "float32")
            self.h, self.c = np.zeros((2, 1, settings.rnn.hidden), "float32")
        self.z = self.models.see(frames, self.noise.standard_normal((1, settings.vae.z), "float32"))
        self.advice, picture = self.models.think(self.z, self.h, self.c)
        self.pictures = [self.vector.render()[0], picture]

    def expect(self, raw: np.ndarray) -> None:
        self.h, self.c = self.models.remember(self.z, raw, self.restart, self.h, self.c)
        self.restart = np.zeros(1, "float32")
