"""From C's output to the action that a world executes (paper, appendix A): for arrays and tensors alike.

`xp` is the module that computes: numpy for arrays (the default), keras.ops for tensors.
"""

from typing import Any

import numpy as np

Array = Any
THRESHOLD = 1 / 3


def move(raw: Array, xp: Any = np) -> Array:
    """DoomTakeCover: raw in [-1, 1], any shape, to -1 (left, below -1/3), 1 (right, above 1/3) or 0 (stay), float32."""
    return xp.where(raw > THRESHOLD, np.float32(1), xp.where(raw < -THRESHOLD, np.float32(-1), np.float32(0)))


def drive(raw: Array, xp: Any = np) -> Array:
    """CarRacing: raw (..., 3) in [-1, 1] to steering in [-1, 1], gas (raw + 1) / 2 and brake max(raw, 0), both in [0, 1]."""
    steer, gas, brake = raw[..., 0], raw[..., 1], raw[..., 2]
    return xp.stack([steer, (gas + 1) / 2, xp.clip(brake, 0, 1)], axis=-1)


def undrive(executed: Array) -> np.ndarray:
    """The raw action (..., 3) that `drive` makes this of; of those that do not brake, the one with brake 0."""
    executed = np.asarray(executed, np.float32)
    return np.stack([executed[..., 0], executed[..., 1] * 2 - 1, executed[..., 2]], axis=-1)


def choose(raw: Array, xp: Any = np, *, choices: int) -> Array:
    """One of n actions: raw in [-1, 1], any shape, in n equal parts, to the action's number 0 to n - 1, float32."""
    part = xp.floor((raw + 1) * (choices / 2))
    return xp.clip(part, np.float32(0), np.float32(choices - 1))


def unchoose(executed: Array, *, choices: int) -> np.ndarray:
    """The raw action in the middle of those that `choose` makes this of, float32."""
    return ((np.asarray(executed, np.float32) + np.float32(0.5)) * np.float32(2 / choices) - 1).astype(np.float32)


def to_discrete(executed: np.ndarray | float) -> np.ndarray:
    """Doom's executed actions (-1 left, 0 stay, 1 right) as those of its environments (1, 0, 2), int64."""
    return np.asarray(executed).astype(np.int64) % 3 * 2 % 3


def from_discrete(action: np.ndarray | int) -> np.ndarray:
    """The other way: 0, 1, 2 to 0, -1, 1, float32."""
    return np.array([0, -1, 1], np.float32)[action]
