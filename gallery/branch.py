"""Dreams that leave a real episode at one moment: M goes on from what it remembers, and the world goes on beside it."""

from typing import Any, NamedTuple

import numpy as np

from controller.agent import Recording
from experiment.backend import tf
from experiment.problem import Problem
from gallery.exhibit import Exhibit
from rnn.dream import Act, Dream, drawn_weight
from rnn.starts import Starts

Tensor = Any
CERTAIN = -100.0  # a log-variance that draws nothing: the z of the moment is the one that the agent drew
TEMPERATURES = (0.1, 0.5, 1.0, 1.15, 1.3)  # those of the paper's table that show most


class Dreamt(NamedTuple):
    """A dream of T steps; shorter than was asked for where M said that it ends."""

    frames: np.ndarray  # (T, 64, 64, 3) uint8, as V draws it
    z: np.ndarray  # (T, Z), the first of the real moment


class Branch:
    """Dreams that begin at step `at` of a recording. Raises Problem where there is no such step, or M cannot dream."""

    def __init__(self, exhibit: Exhibit, recording: Recording, at: int):
        if not 0 <= at < len(recording.z):
            raise Problem(f"the episode has no step {at}: it has steps 0 to {len(recording.z) - 1}")
        exhibit.check_memory()
        self.exhibit, self.recording, self.at = exhibit, recording, at
        here = slice(at, at + 1)
        z, h, c = recording.z[here], recording.h[here], recording.c[here]
        start, drawn = Starts(z, np.full_like(z, CERTAIN), h, c), drawn_weight(exhibit.settings)
        self.dream = Dream(exhibit.agent.rnn, start, drawn)

    def under_same_actions(self, steps: int, temperature: float = 1.0, seed: int = 0) -> Dreamt:
        """A dream in which what is done is what was done in the real world, as long as that is known."""
        steps = min(steps, len(self.recording.raw) - self.at)
        return self._dreamt(self._act_again, np.zeros((1, 1), np.float32), steps, temperature, seed)

    def with_controller(self, steps: int, temperature: float, seed: int = 0) -> Dreamt:
        """A dream in which C acts on what it dreams."""
        act = self.exhibit.agent.policy.act
        return self._dreamt(act, self.exhibit.controller[None], steps, temperature, seed)

    def _act_again(self, parameters: Tensor, z: Tensor, h: Tensor, c: Tensor, step: Tensor) -> Tensor:
        taken = tf.constant(self.recording.raw[self.at :])  # (T,) or (T, A)
        return tf.repeat(taken[step][None], tf.shape(z)[0], axis=0)  # (N,) or (N, A)

    def _dreamt(self, act: Act, parameters: np.ndarray, steps: int, temperature: float, seed: int) -> Dreamt:
        lengths, lived = self.dream.trace(act, parameters, 1, seed, temperature, steps)
        z = lived.z[0, 0, : lengths[0, 0]]
        return Dreamt(self.exhibit.agent.vae.pictures(z), z)


def eventful_branch(exhibit: Exhibit, recording: Recording, seconds: float) -> Branch:
    """The branch after which most is to be seen within so many seconds."""
    return Branch(exhibit, recording, exhibit.eventful(recording, exhibit.steps(seconds)))


def compare(branch: Branch, steps: int, temperature: float = 1.0) -> dict[str, np.ndarray]:
    """The same steps three times, each (T, 64, 64, 3) uint8: as they were, as V keeps them, and as M imagines them.

    M sees nothing from the branch on but the actions that were taken.
    """
    part = slice(branch.at, branch.at + steps)
    return {
        "real": branch.recording.frames[part],
        "V's reconstruction": branch.exhibit.agent.vae.pictures(branch.recording.z[part]),
        f"M's dream, τ {temperature:g}": branch.under_same_actions(steps, temperature).frames,
    }


def at_temperatures(
    branch: Branch, steps: int, temperatures: tuple[float, ...] = TEMPERATURES, seed: int = 0
) -> dict[str, np.ndarray]:
    """A dream from the same moment at each temperature, with the same random numbers and C acting: label -> frames."""
    return {
        f"τ {temperature:g}": branch.with_controller(steps, temperature, seed).frames for temperature in temperatures
    }
