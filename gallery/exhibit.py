"""The agent of a run, or a shipped one, and what it lives through in its real world."""

from collections.abc import Sequence

import numpy as np

from controller.agent import Recording
from controller.policy import load_controller
from controller.real import RealWorld
from experiment.config import load_made
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import Run
from gallery.runs import find_all

SECTIONS = ("env", "vae", "rnn", "dream", "controller")  # settings that an agent is made with


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
        return self.real.record(self.controller, [seed], steps)[0]

    def steps(self, seconds: float) -> int:
        """Steps that the real world takes in so many seconds."""
        return round(seconds * self.world.fps)

    def eventful(self, recording: Recording, steps: int) -> int:
        """The step of an episode from which so many steps show most of what is small and matters: fireballs, kerbs.

        Not the first, where M remembers nothing, and early enough that so many follow, where there are that many.
        """
        shown = self.world.shows_detail(recording.frames).sum(axis=(1, 2))  # (T,) pixels
        first, last = 1, max(1, len(shown) - steps)
        return first + int(np.argmax([shown[begin : begin + steps].sum() for begin in range(first, last + 1)]))

    def describe(self, recording: Recording) -> str:
        """A recording in words, such as 'doom: 983 tics, survival in tics 983'."""
        total = f"{self.world.score} {recording.rewards.sum():,.0f}"
        return f"{self.settings.env.name}: {len(recording.z):,} {self.world.step}s, {total}"


def open_all(names: Sequence[str]) -> list[Exhibit]:
    """The agents of these names, as find_all does. Raises Problem if none is left."""
    found = find_all(names, Exhibit)
    if not found:
        raise Problem(
            f"none of {', '.join(names)} is an agent: give what is shipped (doom) or a run folder (runs/doom)"
        )
    return found
