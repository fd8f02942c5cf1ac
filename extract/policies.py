"""Who plays while rollouts are recorded."""

from typing import Protocol

import numpy as np

from experiment.schema import Extract

ACTIONS = (-1.0, 0.0, 1.0)


class Policy(Protocol):
    """Chooses an action for every frame of an episode."""

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; all chance comes from `rng`, so that the episode can be had again."""

    def act(self, frame: np.ndarray) -> float:
        """The action to execute (-1 left, 0 stay, 1 right) after seeing `frame`, (64, 64, 3) uint8."""


class Held:
    """A random action, held for 1 to `hold_max` steps, then another; with hold_max=1 a new one every step."""

    def __init__(self, hold_max: int):
        self.hold_max = hold_max

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode."""
        self.rng, self.left = rng, 0

    def act(self, frame: np.ndarray) -> float:
        """The action held now."""
        if self.left == 0:
            self.action = ACTIONS[self.rng.integers(len(ACTIONS))]
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
