"""What environments are given, checked before it is used: seeds, actions, and the process that they are used in."""

import functools
import operator
import os
from collections.abc import Callable, Sequence
from typing import Any, Self

import gymnasium
import numpy as np

from experiment.problem import Problem

SPAWN = 'let processes be spawned, as in gymnasium.make_vec(..., vectorization_mode="async", vector_kwargs={"context": "spawn"})'


def check_seed(seed: Any) -> int:
    """A seed as Gymnasium has them: any whole number from 0 on. Raises Problem if it is none."""
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0:
        raise Problem(f"seed {seed}: expected a whole number from 0 on")
    return number


def each_seed(seed: int | Sequence[int | None] | np.ndarray | None, number: int) -> list[int | None]:
    """The seeds of N environments side by side: s, s + 1, s + 2... for s; those of a list; None where there is none."""
    if seed is None:
        return [None] * number
    if isinstance(seed, str) or np.ndim(seed) == 0:  # type: ignore[arg-type]
        return [check_seed(seed) + i for i in range(number)]
    seeds = [None if each is None else check_seed(each) for each in seed]  # type: ignore[union-attr]
    if len(seeds) != number:
        raise Problem(f"{len(seeds)} seeds: expected {number}, one for each environment")
    return seeds


def check_actions(actions: Any, space: gymnasium.Space[Any], number: int | None = None, rows: Any = ...) -> np.ndarray:
    """One action of a space, or those of N environments side by side, as an array (...) or (N, ...) of the space's type.

    rows: the environments that count; the actions of others may be anything, and become 0. Raises Problem, naming action
    and range, for one that is outside the space: of another form, a fraction where they are counted, too large, or NaN.
    """
    discrete = not isinstance(space, gymnasium.spaces.Box)  # one of n, or some, by their numbers
    low, high = (0, getattr(space, "nvec", getattr(space, "n", None)) - 1) if discrete else (space.low, space.high)  # type: ignore[attr-defined, operator]
    shape = (*(() if number is None else (number,)), *space.shape)  # type: ignore[misc]
    try:
        given = np.asarray(actions)
    except ValueError:  # lists in a list that are not of one length
        given = np.asarray(None)
    if given.shape != shape or given.dtype.kind not in ("iu" if discrete else "iuf"):
        shown = " ".join(repr(actions).split())
        raise Problem(f"actions {shown:.80}: expected {describe(low, high)} in an array of shape {shape}")
    used = given[rows]
    if not discrete:
        used = used.astype(space.dtype)
    right = (used >= low) & (used <= high)  # NaN is neither
    if not right.all():
        raise Problem(f"action {used[~right][0]}: expected {describe(low, high)}")
    checked = np.zeros(shape, space.dtype)
    checked[rows] = used
    return checked


def describe(low: Any, high: Any) -> str:
    """The limits of an action in words."""
    if np.ndim(low) == 0:
        return f"whole numbers from {low} to {high}"
    return f"numbers from {low.tolist()} to {high.tolist()}"


class MadeAgain:
    """What is copied and pickled as it was made, by its arguments: a copy has no episode until it is reset."""

    _made_by: Callable[[], Any]

    def __new__(cls, *arguments: Any, **options: Any) -> Self:
        made = super().__new__(cls)
        made._made_by = functools.partial(cls, *arguments, **options)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made_by, ()


def check_process(made_in: int) -> None:
    """Raise Problem in a process that was forked from the one that made an environment: its threads are not here."""
    if os.getpid() != made_in:
        raise Problem(f"this environment was made before its process was forked: make it after that, or {SPAWN}")
