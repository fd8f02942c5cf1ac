"""Batches for model.fit, and the Problem that can be met with in making one."""

import contextlib
from collections.abc import Generator, Iterator
from typing import TypeVar

from experiment.problem import Problem

Item = TypeVar("Item")


@contextlib.contextmanager
def feed(batches: Iterator[Item]) -> Iterator[Generator[Item, None, None]]:
    """`with feed(batches) as fed: model.fit(fed, ...)`: the same batches; a Problem in making them is raised here.

    model.fit reads them in a thread of TensorFlow's, which makes an error of its own of whatever is raised there.
    """
    problems: list[Problem] = []

    def watched() -> Generator[Item, None, None]:
        try:
            yield from batches
        except Problem as problem:
            problems.append(problem)
            raise

    try:
        yield watched()
    except Exception:
        if problems:
            raise problems[0] from None
        raise
