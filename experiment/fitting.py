"""model.fit as V and the next-frame model are trained: on batches that follow from the step, with checkpoints."""

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiment.backend import keras
from experiment.problem import Problem
from experiment.progress import Progress

Numbers = dict[str, float]


def fit(
    model: keras.Model,
    batches: Generator[Any, None, None],
    steps: int,
    inputs: Callable[[Any], tuple[Any, ...]],
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> float:
    """Train on the next `steps` batches, each as `inputs` gives it to model.fit. Returns the seconds that it took.

    model.fit reads them in a thread of TensorFlow's, which makes an error of its own of whatever is raised there: a Problem
    in making a batch is raised here as it was.
    """
    problems: list[Problem] = []

    def fed() -> Generator[tuple[Any, ...], None, None]:
        try:
            with contextlib.closing(batches):  # by the thread that reads from it
                yield from map(inputs, itertools.islice(batches, steps))
        except Problem as problem:
            problems.append(problem)
            raise

    began = time.monotonic()
    try:
        model.fit(fed(), steps_per_epoch=steps, verbose=0, shuffle=False, callbacks=[*callbacks])
    except Exception:
        if problems:
            raise problems[0] from None
        raise
    return time.monotonic() - began


class Checkpoints(keras.callbacks.Callback):
    """Saves the model every `every` steps before step `before`, for whoever goes on after an interruption.

    Ends training with a Problem at the first step whose loss, or weights when they are to be saved, are no numbers.
    name: of the model, and section: of its settings, for that Problem.
    """

    def __init__(
        self, save: Callable[[keras.Model, Path], None], path: Path, every: int, before: int, name: str, section: str
    ):
        super().__init__()
        self.save, self.path, self.every, self.before = save, path, every, before
        self.name, self.section = name, section

    def on_train_batch_end(self, batch: int, logs: Numbers | None = None) -> None:
        step = int(self.model.optimizer.iterations)
        if logs and not math.isfinite(logs["loss"]):
            self.stop("loss")
        if step % self.every == 0:
            self.check_weights()
            if step < self.before:
                self.save(self.model, self.path)
                self.model.reset_metrics()  # as they are where training goes on from here

    def on_train_end(self, logs: Numbers | None = None) -> None:
        self.check_weights()

    def check_weights(self) -> None:
        """A last gradient may have spoilt the weights without having shown in any loss yet."""
        if not all(np.isfinite(weights).all() for weights in self.model.get_weights()):
            self.stop("weights")

    def stop(self, what: str) -> None:
        """Raise the Problem; nothing is saved after it."""
        kept = f"the last good weights are kept in {self.path}" if self.path.exists() else "no weights had been saved"
        raise Problem(
            f"training {self.name}: {what} not a number at step {int(self.model.optimizer.iterations)}; {kept}. "
            f"Try a lower {self.section}.learning_rate, or hardware.precision=float32, in another run folder (--run)"
        )


class Log(keras.callbacks.Callback):
    """Counts steps in the progress bar, with a note, and gives `write` a row every `every` steps.

    A row is the mean of the steps since the row before; or since the last checkpoint, or since this fit began, where
    those before it are forgotten.
    """

    def __init__(self, write: Callable[..., None], every: int, bar: Progress, note: Callable[[Numbers], str]):
        super().__init__()
        self.write, self.every, self.bar, self.note = write, every, bar, note

    def on_train_batch_end(self, batch: int, logs: Numbers | None = None) -> None:
        step = int(self.model.optimizer.iterations)
        self.bar.update(1, self.note(logs) if logs else "")
        if logs and step % self.every == 0:
            self.write(step, **logs, learning_rate=float(self.model.optimizer.learning_rate))
            self.model.reset_metrics()
