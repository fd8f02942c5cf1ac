"""Weights & Biases, if asked for: nothing here imports it unless wandb.mode says so."""

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment


@contextlib.contextmanager
def tracking(settings: Experiment, run: Run, stage: str) -> Iterator[None]:
    """In the block, `track` sends what it is given to Weights & Biases; with wandb.mode=disabled it does nothing.

    A training that goes on after an interruption is another run there. Raises Problem if the package is missing.
    """
    if settings.wandb.mode == "disabled":
        yield
        return
    try:
        import wandb
    except ImportError:
        raise Problem(
            f"wandb.mode={settings.wandb.mode} needs Weights & Biases: bash launch_scripts/setup.bash wandb"
        ) from None
    session = wandb.init(
        project=settings.wandb.project,
        mode=settings.wandb.mode,
        dir=str(run.path),
        name=f"{run.path.name} {stage}",
        group=run.title,
        config=dataclasses.asdict(settings),
    )
    try:
        yield
    finally:
        session.finish()


def track(step: int, values: dict[str, Any]) -> None:
    """Send figures, and pictures by their paths."""
    wandb: Any = sys.modules.get("wandb")
    if wandb is not None and wandb.run is not None:
        shown = {key: wandb.Image(str(value)) if isinstance(value, Path) else value for key, value in values.items()}
        wandb.run.log(shown, step=step)
