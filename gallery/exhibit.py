"""The agent of a run, or a shipped one, and what it lives through in its real world."""

import numpy as np

from controller.agent import Recording
from controller.real import RealWorld
from controller.report import decode
from controller.weights import load_controller
from experiment.config import load_made
from experiment.hardware import prepare
from experiment.run import Run
from gallery.runs import find

SECTIONS = ("env", "vae", "rnn", "dream", "controller")
"""Settings that an agent is made with."""


class Exhibit:
    """V, M and C of a run, loaded. Raises Problem where one of them is missing."""

    def __init__(self, run: Run):
        self.run = run
        self.settings = load_made(run.config, SECTIONS)
        prepare(self.settings.hardware)
        self.real = RealWorld(self.settings, run)
        self.world, self.agent = self.real.world, self.real.agent
        self.controller = load_controller(run.controller, self.agent.policy).mean  # (D,)

    def live(self, seed: int, steps: int) -> Recording:
        """The episode of that seed in the real world, C acting, or its first steps."""
        return self.real.record(self.controller, seed, steps)

    def reconstruct(self, recording: Recording) -> np.ndarray:
        """V's pictures of an episode's latents, (T, 64, 64, 3) uint8."""
        return decode(self.agent.vae, recording.z)

    def eventful(self, recording: Recording, steps: int) -> int:
        """The step of an episode from which so many steps show most of what is small and matters: fireballs, kerbs.

        Not the first, where M remembers nothing.
        """
        shown = self.world.shows_detail(recording.frames).sum(axis=(1, 2))  # (T,) pixels
        begins = np.convolve(shown, np.ones(min(steps, max(1, len(shown) - 1))), mode="valid")[1:]
        return 1 + int(begins.argmax()) if len(begins) else 0


def open_exhibit(name: str) -> Exhibit:
    """The agent of that name: shipped, or in a run folder."""
    return Exhibit(find(name))
