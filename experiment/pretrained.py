"""What is shipped: run folders in pretrained/, small enough to be kept with the code, and found by name."""

from pathlib import Path

from experiment.problem import UsageProblem
from experiment.run import PRETRAINED, Run


def shipped(name: str) -> Run | None:
    """What is shipped under a name, if there is such a thing."""
    run = Run(PRETRAINED / name)
    return run if run.path.parent == PRETRAINED and run.config.exists() else None  # not PRETRAINED / "/runs/doom"


def is_shipped(run: Run) -> bool:
    """Whether a run folder is one of those."""
    return run.path.resolve().is_relative_to(PRETRAINED.resolve())


def find_run(name: Path | str) -> Run:
    """What is shipped under a name, or the run folder there; see Run.latest. Raises UsageProblem if there is none."""
    run = shipped(str(name)) or Run(name)
    if not run.config.exists():
        names = sorted(path.parent.name for path in PRETRAINED.glob("*/config.yaml"))
        raise UsageProblem(
            f"{name} is neither shipped ({', '.join(names) or 'nothing is'}) nor a run folder such as runs/doom"
        )
    return run.latest()
