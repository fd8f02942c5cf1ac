"""What every benchmark gives, and how it is timed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

REPEATS = 3


@dataclass(frozen=True)
class Measurement:
    """One row of the table."""

    name: str
    unit: str
    """What is counted, such as 'frames'; rates are per second."""
    rate: float
    baseline: float
    plain: str
    """What the baseline is, in a few words."""
    flop: float | None = None
    """Floating-point operations of the matrix products of one unit, where the share of the peak is of interest."""


def best_rate(action: Callable[[], float], repeats: int = REPEATS, clock: Callable[[], float] | None = None) -> float:
    """Units a second of the fastest of several calls (the others were disturbed); the first call warms up uncounted.

    action: does the work and returns how many units it was. clock: of wall-clock time unless given.
    """
    clock = clock or time.perf_counter
    action()
    rates = []
    for _ in range(repeats):
        began = clock()
        units = action()
        rates.append(units / (clock() - began))
    return max(rates)


@contextmanager
def in_float32() -> Iterator[None]:
    """Networks that are made in the block compute in float32, as plain baselines do; those made after it as before."""
    from experiment.backend import keras

    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(policy)
