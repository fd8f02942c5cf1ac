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


def pick(raw: Array, xp: Any = np, *, counts: list[int]) -> Array:
    """One or more choices: raw (..., A), a number for each thing that can be chosen, to 1 for the largest of each choice, else 0.

    counts: how many there are of each; A is their sum. float32.
    """
    parts, first = [], 0
    for count in counts:
        largest = xp.argmax(raw[..., first : first + count], axis=-1)[..., None]  # (..., 1)
        parts.append(xp.where(xp.arange(count) == largest, np.float32(1), np.float32(0)))
        first += count
    return xp.concatenate(parts, axis=-1)


def unpick(executed: Array) -> np.ndarray:
    """A raw action (..., A) that `pick` makes this of, float32."""
    return np.asarray(executed, np.float32) * 2 - 1


def to_numbers(executed: Array, *, counts: list[int], one: bool) -> np.ndarray:
    """What `pick` gives, (..., A), as the numbers chosen, (..., choices), int64; one: (...), that of the only choice."""
    parts = np.split(np.asarray(executed), np.cumsum(counts)[:-1], axis=-1)
    numbers = np.stack([part.argmax(axis=-1) for part in parts], axis=-1)
    return numbers[..., 0] if one else numbers


def from_numbers(numbers: Array, *, counts: list[int], one: bool) -> np.ndarray:
    """The other way, float32."""
    chosen = np.asarray(numbers, np.int64)
    chosen = chosen[..., None] if one else chosen
    return np.concatenate([np.eye(count, dtype=np.float32)[chosen[..., i]] for i, count in enumerate(counts)], axis=-1)


def scale(raw: Array, xp: Any = np, *, low: np.ndarray, high: np.ndarray) -> Array:
    """Numbers between limits: raw in [-1, 1], (..., A), or (...) where A is 1, to low + (raw + 1) / 2 (high - low), float32.

    low, high: (A,).
    """
    low, high = (limit[0] if len(limit) == 1 else limit for limit in (low.astype(np.float32), high.astype(np.float32)))
    return xp.clip(low + (raw + 1) * ((high - low) / 2), low, high)


def unscale(executed: Array, *, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The raw action that `scale` makes this of, float32."""
    low, high = (limit[0] if len(limit) == 1 else limit for limit in (low.astype(np.float32), high.astype(np.float32)))
    return ((np.asarray(executed, np.float32) - low) * (2 / (high - low)) - 1).astype(np.float32)


def to_discrete(executed: np.ndarray | float) -> np.ndarray:
    """Doom's executed actions (-1 left, 0 stay, 1 right) as those of its environments (1, 0, 2), int64."""
    return np.asarray(executed).astype(np.int64) % 3 * 2 % 3


def from_discrete(action: np.ndarray | int) -> np.ndarray:
    """The other way: 0, 1, 2 to 0, -1, 1, float32."""
    return np.array([0, -1, 1], np.float32)[action]
