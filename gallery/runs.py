"""Which runs are shown, by name."""

import contextlib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from experiment.problem import Problem, UsageProblem
from experiment.run import PRETRAINED, Run, find_run, shipped

PROJECT = PRETRAINED.parent


def find(name: str, command: str = "") -> Run:
    """What is shipped under a name, or the run folder there; or that of the project, with or without `runs/`.

    A notebook runs in its own folder, so the project's runs are looked for too. command: see Run.latest.
    Raises UsageProblem if there is none.
    """
    for place in (PROJECT / name, PROJECT / "runs" / name):
        if not (Path(name) / "config.yaml").exists() and not shipped(name) and (place / "config.yaml").exists():
            return find_run(str(place), command)
    return find_run(name, command)


def named(text: str) -> list[str]:
    """The names in a text such as 'doom "runs/my run"', quoted as in a shell; of a single one, spaces need no quotes."""
    try:
        find(text)
        return [text]
    except UsageProblem:
        with contextlib.suppress(ValueError):  # quotes that are not closed
            return shlex.split(text)
        return [text]


def find_all(names: Sequence[str], opened: Callable[[Run], Any] = lambda run: run) -> list[Any]:
    """The runs of these names, opened. A name without a run, or one that cannot be opened, is left out; a line says why."""
    found = []
    for name in names:
        try:
            found.append(opened(find(name)))
        except Problem as problem:
            print(f"left out: {problem}")
    return found
