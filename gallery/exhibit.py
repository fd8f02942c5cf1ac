"""The agent of a run, or a shipped one, and what it lives through in its real world."""

from collections.abc import Sequence

import numpy as np

from controller.agent import Recording
from controller.real import RealWorld
from experiment.hardware import prepare
from experiment.problem import Problem
from experiment.run import Run
from gallery.runs import find_all
from vae.model import DECODED_AT_ONCE
from viz.frames import Table

SECTIONS = ("env", "vae", "rnn", "dream", "controller")  # settings that an agent is made with
VALUES = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # where a latent dimension is looked at: V's prior is a standard normal


class Exhibit:
    """V, M and C of a run, loaded. Raises Problem where one of them is missing."""

    def __init__(self, run: Run):
        self.run = run
        self.settings = run.settings(SECTIONS)
        prepare(self.settings.hardware)
        self.real = RealWorld(self.settings, run)
        self.world, self.agent = self.real.world, self.real.agent
        self.controller = self.real.controller.mean  # (D,)

    def live(self, seed: int, steps: int) -> Recording:
        """The episode of that seed in the real world, C acting, or its first steps."""
        return self.real.record(self.controller, [seed], steps)[0]

    def check_memory(self) -> None:
        """Raise Problem if M does not follow what the agent lives through, so that h and c of a recording are 0."""
        if not self.agent.policy.remembers:
            raise Problem(
                "this C sees nothing of M, so M has not followed the episode: there is no memory to go on from"
            )

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

    def liveliest(self, recording: Recording, count: int) -> list[int]:
        """The latent dimensions whose mu, z without its noise, varies most over an episode, most first.

        In those that V does not use, mu stays near 0 and z is noise.
        """
        parts = np.array_split(recording.frames, -(-len(recording.frames) // DECODED_AT_ONCE))
        mu = np.concatenate([np.asarray(self.agent.vae.encode(part)[0]) for part in parts])  # (T, Z)
        return np.argsort(-mu.var(axis=0), kind="stable")[:count].tolist()

    def traverse(self, z: np.ndarray, dimensions: Sequence[int], values: Sequence[float] = VALUES) -> Table:
        """V's pictures of z (Z,) with each of the dimensions, a row each, at each of n values: (n, 64, 64, 3) uint8."""
        rows = {}
        for dimension in dimensions:
            varied = np.tile(np.asarray(z, np.float32), (len(values), 1))  # (n, Z)
            varied[:, dimension] = values
            rows[f"z[{dimension}]"] = self.agent.vae.pictures(varied)
        return rows, [f"= {value:g}" for value in values]

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
