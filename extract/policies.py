"""Who plays while rollouts are recorded, without any network.

A policy, called with the generator that all chance of an episode comes from, yields its raw actions one after the other, as
C would choose them: numbers in [-1, 1], (A,) float32, of which the world makes what it executes.
"""

import itertools
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from experiment.schema import Extract

RandomPolicy = Callable[[np.random.Generator], Iterator[np.ndarray]]


def held(rng: np.random.Generator, actions: int, hold_max: int) -> Iterator[np.ndarray]:
    """A random action, held for 1 to `hold_max` steps, then another; with hold_max=1 a new one every step.

    Uniform in [-1, 1], so that Doom's left, stay and right are equally likely.
    """
    while True:
        action = rng.uniform(-1, 1, actions).astype(np.float32)
        for _ in range(int(rng.integers(1, hold_max + 1))):
            yield action


def clocked(rng: np.random.Generator, actions: int, hold_max: int) -> Iterator[np.ndarray]:
    """`held` as the original's code does it: an action ends where the step's number is a multiple of what was drawn with it.

    With hold_max=10 that is after 3.7 steps on average instead of 5.5.
    """
    every = 1
    for step in itertools.count():
        if step % every == 0:
            action = rng.uniform(-1, 1, actions).astype(np.float32)
            every = int(rng.integers(1, hold_max + 1))
        yield action


def sticky(rng: np.random.Generator, actions: int, stickiness: float) -> Iterator[np.ndarray]:
    """A random action every step, but with probability `stickiness` the last one again. Uniform in [-1, 1]."""
    action = rng.uniform(-1, 1, actions).astype(np.float32)
    while True:
        if rng.random() >= stickiness:
            action = rng.uniform(-1, 1, actions).astype(np.float32)
        yield action


def brownian(rng: np.random.Generator, centre: np.ndarray, spread: np.ndarray, memory: float) -> Iterator[np.ndarray]:
    """Smooth random driving: every number wanders, pulled back to a centre (an Ornstein-Uhlenbeck process).

    centre, spread: (A,), the mean and standard deviation of each number in the long run. memory: steps after which
    little is left of what was. It begins somewhere in the long run; numbers are clipped to [-1, 1].
    """
    centre, spread = np.asarray(centre, np.float32), np.asarray(spread, np.float32)
    keep = np.float32(np.exp(-1 / memory))
    away = rng.standard_normal(len(centre), np.float32)
    while True:
        yield np.clip(centre + spread * away, -1, 1)
        away = keep * away + np.sqrt(1 - keep**2) * rng.standard_normal(len(centre), np.float32)


def make_policy(actions: int, settings: Extract) -> RandomPolicy:
    """The policy that the settings name, if it needs no network. actions: A."""
    if settings.policy == "brownian":
        centre, spread = (np.resize(each, actions) for each in (settings.brownian_centre, settings.brownian_spread))
        return partial(brownian, centre=centre, spread=spread, memory=settings.brownian_memory)
    if settings.policy == "sticky":
        return partial(sticky, actions=actions, stickiness=settings.stickiness)
    if settings.policy == "clocked":
        return partial(clocked, actions=actions, hold_max=settings.hold_max)
    return partial(held, actions=actions, hold_max=1 if settings.policy == "per_step" else settings.hold_max)


def describe_policy(settings: Extract) -> str:
    """The same policy in words."""
    return {
        "held": f"a random action held 1 to {settings.hold_max} steps",
        "clocked": f"a random action held up to {settings.hold_max} steps",
        "per_step": "a random action every step",
        "sticky": f"random actions that stick with probability {settings.stickiness:g}",
        "brownian": "smooth random actions",
        "networks": "random V-M-C networks",
        "agent": "the last iteration's controller with noise",
    }[settings.policy]
