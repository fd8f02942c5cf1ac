"""Weights & Biases, if asked for: nothing here imports it unless wandb.mode says so."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from experiment.problem import Problem
from experiment.run import Run
from experiment.schema import Experiment

Track = Callable[..., None]  # track(step, picture=None, **numbers)


@contextlib.contextmanager
def tracking(settings: Experiment, run: Run) -> Iterator[Track]:
    """A function that sends figures, and a picture's path, to Weights & Biases; with wandb.mode=disabled it does nothing.

    A training that goes on after an interruption is another run there. Raises Problem if the package is missing.
    """
    if settings.wandb.mode == "disabled":
        yield lambda step, picture=None, **numbers: None
        return
    try:
        import wandb
    except ImportError:
        raise Problem(
            f"wandb.mode={settings.wandb.mode} needs Weights & Biases: install it with "
            "`.venv/bin/pip install -c constraints.txt wandb`"
        ) from None
    run.path.mkdir(parents=True, exist_ok=True)
    session = wandb.init(
        project=settings.wandb.project,
        mode=settings.wandb.mode,
        dir=str(run.path),
        name=run.path.name,
        config=dataclasses.asdict(settings),
    )

    def track(step: int, picture: Path | None = None, **numbers: Any) -> None:
        pictures = {"strip": wandb.Image(str(picture))} if picture else {}
        session.log({**numbers, **pictures}, step=step)

    try:
        yield track
    finally:
        session.finish()
