"""Who plays while rollouts are recorded."""

from typing import Protocol

import numpy as np

from experiment.schema import Extract


class Policy(Protocol):
    """Chooses an action for every frame of an episode, as C would: a raw number, of which the world makes what it executes."""

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; all chance comes from `rng`, so that the episode can be had again."""

    def act(self, frame: np.ndarray) -> float:
        """The raw action in [-1, 1] (see envs.doom.execute) after seeing `frame`, (64, 64, 3) uint8."""


class Held:
    """A random action, held for 1 to `hold_max` steps, then another; with hold_max=1 a new one every step.

    Uniform in [-1, 1], so that left, stay and right are equally likely.
    """

    def __init__(self, hold_max: int):
        self.hold_max = hold_max

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode."""
        self.rng, self.left = rng, 0

    def act(self, frame: np.ndarray) -> float:
        """The action held now."""
        if self.left == 0:
            self.action = float(np.float32(self.rng.uniform(-1, 1)))
            self.left = int(self.rng.integers(1, self.hold_max + 1))
        self.left -= 1
        return self.action


def make_policy(settings: Extract) -> Policy:
    """The policy that the settings name."""
    return Held(1 if settings.policy == "per_tic" else settings.hold_max)


def describe_policy(settings: Extract) -> str:
    """The same policy in words."""
    if settings.policy == "per_tic":
        return "a random action every tic"
    return f"a random action held 1 to {settings.hold_max} tics"
