"""Which runs are shown, by name."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from experiment.pretrained import find_run, shipped
from experiment.problem import UsageProblem
from experiment.run import PRETRAINED, Run

PROJECT = PRETRAINED.parent


def find(name: str) -> Run:
    """What is shipped under a name, or the run folder there; or that of the project, with or without `runs/`.

    A notebook runs in a folder of its own, and is to find the runs all the same. Raises UsageProblem if there is none.
    """
    for place in (PROJECT / name, PROJECT / "runs" / name):
        if not (Path(name) / "config.yaml").exists() and not shipped(name) and (place / "config.yaml").exists():
            return find_run(str(place))
    return find_run(name)


def named(text: str) -> list[str]:
    """The names in a text such as 'doom "runs/my run"', quoted as in a shell; of a single one, spaces need no quotes."""
    try:
        find(text)
        return [text]
    except UsageProblem:
        return shlex.split(text)


def find_all(names: Sequence[str]) -> list[Run]:
    """The runs of these names, but for those that there are not; each of these is named in a line."""
    found = []
    for name in names:
        try:
            found.append(find(name))
        except UsageProblem as problem:
            print(f"left out: {problem}")
    return found


def title(run: Run) -> str:
    """What a run is called in pictures: its folder's name, whichever iteration it is."""
    return run.at(1).path.name
