"""Who plays while rollouts are recorded, without any network."""

from typing import Protocol

import numpy as np

from envs.worlds import WORLDS
from experiment.schema import Env, Extract


class Policy(Protocol):
    """Chooses the raw actions of one episode, as C would: numbers in [-1, 1], of which the world makes what it executes."""

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode; all chance comes from `rng`, so that the episode can be had again."""

    def act(self) -> np.ndarray:
        """The next raw action, (A,) float32."""


class Held:
    """A random action, held for 1 to `hold_max` steps, then another; with hold_max=1 a new one every step.

    Uniform in [-1, 1], so that Doom's left, stay and right are equally likely.
    """

    def __init__(self, hold_max: int, actions: int = 1):
        self.hold_max, self.actions = hold_max, actions

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode."""
        self.rng, self.left = rng, 0

    def act(self) -> np.ndarray:
        """The action held now."""
        if self.left == 0:
            self.action = self.rng.uniform(-1, 1, self.actions).astype(np.float32)
            self.left = int(self.rng.integers(1, self.hold_max + 1))
        self.left -= 1
        return self.action


class Sticky:
    """A random action every step, but with probability `stickiness` the last one again. Uniform in [-1, 1]."""

    def __init__(self, stickiness: float, actions: int = 1):
        self.stickiness, self.actions = stickiness, actions

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode."""
        self.rng = rng
        self.action = self._draw()

    def _draw(self) -> np.ndarray:
        return self.rng.uniform(-1, 1, self.actions).astype(np.float32)

    def act(self) -> np.ndarray:
        """The last action or another."""
        if self.rng.random() >= self.stickiness:
            self.action = self._draw()
        return self.action


class Brownian:
    """Smooth random driving: every number wanders, pulled back to a centre (an Ornstein-Uhlenbeck process).

    centre, spread: (A,), the mean and standard deviation of each number in the long run. memory: steps after which
    little is left of what was. Numbers are clipped to [-1, 1].
    """

    def __init__(self, centre: np.ndarray, spread: np.ndarray, memory: float):
        self.centre, self.spread = np.asarray(centre, np.float32), np.asarray(spread, np.float32)
        self.keep = np.float32(np.exp(-1 / memory))

    def reset(self, rng: np.random.Generator) -> None:
        """Begin an episode, somewhere in the long run."""
        self.rng = rng
        self.away = rng.standard_normal(len(self.centre), np.float32)

    def act(self) -> np.ndarray:
        """Where the numbers are now."""
        raw = np.clip(self.centre + self.spread * self.away, -1, 1)
        noise = self.rng.standard_normal(len(self.centre), np.float32)
        self.away = self.keep * self.away + np.sqrt(1 - self.keep**2) * noise
        return raw


def policy_rng(seed: int, episode: int) -> np.random.Generator:
    """The chance of a policy with that seed in the episode with the other."""
    return np.random.default_rng((seed, episode))


class Each:
    """A Player whose games are each played by a policy of their own, which draws from the episode's seed."""

    def __init__(self, policies: list[Policy], seed: int):
        self.policies, self.seed = policies, seed

    def begin(self, games: np.ndarray, episodes: np.ndarray, seeds: np.ndarray) -> None:
        for game, seed in zip(games, seeds, strict=True):
            self.policies[game].reset(policy_rng(self.seed, int(seed)))

    def act(self, frames: np.ndarray, games: np.ndarray) -> np.ndarray:
        raw = np.array([self.policies[game].act() for game in games.tolist()])  # (N, A)
        return raw[:, 0] if raw.shape[1] == 1 else raw


def make_policy(env: Env, settings: Extract) -> Policy:
    """The policy that the settings name, if it needs no network."""
    actions = WORLDS[env.name].actions
    if settings.policy == "brownian":
        return Brownian(
            np.resize(settings.brownian_centre, actions),
            np.resize(settings.brownian_spread, actions),
            settings.brownian_memory,
        )
    if settings.policy == "sticky":
        return Sticky(settings.stickiness, actions)
    return Held(1 if settings.policy == "per_step" else settings.hold_max, actions)


def describe_policy(settings: Extract) -> str:
    """The same policy in words."""
    return {
        "held": f"a random action held 1 to {settings.hold_max} steps",
        "per_step": "a random action every step",
        "sticky": f"random actions that stick with probability {settings.stickiness:g}",
        "brownian": "smooth random actions",
        "networks": "random V-M-C networks",
        "agent": "the last iteration's controller with noise",
    }[settings.policy]
