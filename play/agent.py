"""V, M and C of a run, loaded and compiled once, for all sessions."""

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from controller.policy import policy_from
from controller.weights import load_controller
from envs.worlds import world_of
from experiment.config import load_made
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment, Hardware
from play.places import DreamPlace, Place, RealPlace
from rnn.dream import Dream, State, drawn_weight, seen_by
from rnn.model import load_rnn
from rnn.starts import load_starts
from vae.model import draw, load_vae

Tensor = Any
SECTIONS = ("env", "vae", "rnn", "dream", "controller")


def for_one(hardware: Hardware) -> Hardware:
    """The same for batches of one, in float32 unless told otherwise: bfloat16 gains less than converting the weights costs."""
    return replace(hardware, precision="float32") if hardware.precision == "auto" else hardware


class Mind(NamedTuple):
    """What V, M and C make of a moment of one game or dream."""

    z: np.ndarray  # (Z,)
    advice: np.ndarray | None  # C's raw action, () or (A,); None where there is no C
    picture: np.ndarray  # V's picture of z, (64, 64, 3) uint8


class Agent:
    """V, M and C of a run, and what can be played with them; see play.models.Models. Raises Problem if the run has no V."""

    kind = "agent"

    def __init__(self, run: Run):
        self.run = run
        self.settings: Experiment = load_made(run.config, SECTIONS)
        prepare(for_one(self.settings.hardware))
        self.world = world_of(self.settings)
        self.policy = policy_from(self.settings)
        self.seen = seen_by(self.settings)
        self.vae = load_vae(run, self.settings)
        self.missing: dict[str, str] = {}
        """Why it cannot be had: of 'dream' and 'controller'."""
        self.rnn, self.dream, self.parameters = None, None, None
        try:
            self.rnn = load_rnn(run, self.settings)
            starts = load_starts(self.settings, run, self.rnn)
            self.dream = Dream(self.rnn, starts, self.seen, drawn_weight(self.settings))
            self.weights = self.dream.weights()
        except Problem as problem:
            self.missing["dream"] = str(problem)
        try:
            if self.policy.remembers and self.rnn is None:
                raise Problem(self.missing["dream"])
            self.parameters = tf.constant(load_controller(run.controller, self.policy).mean[None])
        except Problem as problem:
            self.missing["controller"] = str(problem)
        # XLA makes one operation of each: dozens of small ones, handed from thread to thread, wait wherever others work.
        self._reflect, self._see, self._imagine, self._remember = (
            tf.function(step, reduce_retracing=True, jit_compile=True)
            for step in (self.mind, self.see, self.imagine, self.remember)
        )

    @property
    def memory(self) -> int:
        """H."""
        return self.settings.rnn.hidden

    def open(self, name: str) -> Place:
        """A game or dream of its own for a session: 'dream' or 'real'. Raises Problem if it cannot be had."""
        if name in self.missing:
            raise Problem(self.missing[name])
        return DreamPlace(self) if name == "dream" else RealPlace(self)

    def warm_up(self) -> None:
        """Compile everything, so that the first session need not wait for it."""
        for place in [DreamPlace(self)] if self.dream else []:
            place.begin(0)
            place.step(np.zeros(self.world.actions, "float32").squeeze(), 1.0)
        z, h, c = np.zeros((1, self.settings.vae.z), "f"), *np.zeros((2, 1, self.memory), "f")
        self.encode(np.zeros((64, 64, 3), "uint8"), z[0], h, c)
        self.recall(z[0], np.zeros(self.world.actions, "float32").squeeze(), 1.0, h, c)

    # What is compiled: a batch of one, tensors in and out.

    def mind(self, z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, C's raw action and V's picture of z."""
        advice = z[:, 0] if self.parameters is None else self.policy.act(self.parameters, z, h, c)
        return z, advice, self.vae.picture(z)

    def see(self, frames: Tensor, normal: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same of real frames, z drawn with standard normal numbers (1, Z), as the agent does."""
        mu, logvar = self.vae.encode(frames)
        return self.mind(draw(mu, logvar, normal), h, c)

    def remember(self, z: Tensor, raw: Tensor, restart: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """M's next h and c after a raw action in the real game."""
        assert self.rnn is not None
        return self.rnn.step(self.rnn.inputs(z, self.seen(raw), restart), h, c)

    def imagine(
        self, state: State, raw: Tensor, restart: Tensor, temperature: Tensor, uniform: Tensor, normal: Tensor
    ) -> tuple[State, Tensor, Tensor, tuple[Tensor, ...]]:
        """The dream after a raw action: its state, done logit, reward, and what V and C make of it."""
        assert self.dream is not None
        state, imagined = self.dream.step(self.weights, state, self.seen(raw), restart, temperature, uniform, normal)
        return state, imagined.done_logit, imagined.reward, self.mind(*state)

    # The same for one game: arrays in and out.

    def encode(self, frame: np.ndarray, normal: np.ndarray, h: np.ndarray, c: np.ndarray) -> Mind:
        """What is made of a real frame (64, 64, 3) uint8."""
        return self._mind(self._see(frame[None], normal[None], h, c))

    def recall(
        self, z: np.ndarray, raw: np.ndarray, restart: float, h: np.ndarray, c: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """M's next h and c, (1, H), after a raw action in the real game; as they were where there is no M."""
        if self.rnn is None:
            return h, c
        remembered = self._remember(z[None], raw[None], np.full(1, restart, "float32"), h, c)
        return remembered[0].numpy(), remembered[1].numpy()

    def dreamt(self, state: State) -> Mind:
        """What is made of a dream's state, parts (1, ...)."""
        return self._mind(self._reflect(*state))

    def dream_on(
        self, state: State, raw: np.ndarray, restart: float, temperature: float, generator: np.random.Generator
    ) -> tuple[State, bool, float, Mind]:
        """A dream's next state after a raw action, whether it ends there, the reward, and what is made of it."""
        assert self.dream is not None
        uniform = generator.random((1, self.settings.vae.z), "float32")
        normal = generator.standard_normal((1, self.settings.vae.z), "float32")
        restarts = np.full(1, restart, "float32")
        state, done_logit, reward, mind = self._imagine(
            state, raw[None], restarts, np.float32(temperature), uniform, normal
        )
        luck = np.float32(0) if self.dream.drawn is None else generator.random(dtype="float32")
        return state, bool(self.dream.ends(done_logit[0], luck)), float(reward[0]), self._mind(mind)

    def _mind(self, parts: Any) -> Mind:
        z, advice, picture = (part.numpy()[0] for part in parts)
        return Mind(z, None if self.parameters is None else advice, picture)
