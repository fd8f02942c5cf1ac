"""Numbers over time: one CSV row a step, epoch or generation, and TensorBoard events beside them."""

import csv
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from experiment.files import atomic, writing
from experiment.problem import Problem


class Metrics:
    """A CSV file that survives being killed: `with Metrics(path, ...) as metrics: metrics.write(step, loss=0.3)`.

    The first row fixes the columns; each row is on disk when `write` returns. Raises Problem when the disk is full.
    tensorboard: folder for events of the same numbers, or None.
    resume_from: keep the rows up to this step, drop later ones (they will be written again); None begins anew.
    """

    def __init__(self, path: Path, tensorboard: Path | None = None, resume_from: float | None = None):
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = (
            [row for row in read_metrics_rows(path) if float(row["step"]) <= resume_from]
            if resume_from is not None
            else []
        )
        with atomic(path) as temporary, open(temporary, "w", newline="") as file:
            if kept:
                writer = csv.DictWriter(file, fieldnames=list(kept[0]))
                writer.writeheader()
                writer.writerows(kept)
        self.columns = list(kept[0]) if kept else None
        self.file = open(path, "a", newline="")  # noqa: SIM115 (closed in __exit__)
        self.events = None
        if tensorboard is not None:
            import tensorflow as tf

            self.events = tf.summary.create_file_writer(str(tensorboard))

    def write(self, step: int, **numbers: float) -> None:
        """Append one row. Raises ValueError if the columns differ from the first row's."""
        row = {"step": step, **numbers}
        writer = csv.DictWriter(self.file, fieldnames=self.columns or list(row))
        text = {
            name: f"{value:.6g}" if isinstance(value, float | np.floating) else value for name, value in row.items()
        }
        with writing(self.path):
            if self.columns is None:
                self.columns = list(row)
                writer.writeheader()
            writer.writerow(text)
            self.file.flush()
            os.fsync(self.file.fileno())
            if self.events is not None:
                import tensorflow as tf

                with self.events.as_default(step=step):
                    for name, value in numbers.items():
                        tf.summary.scalar(name, float(value))
                self.events.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing(self.path):
            try:
                self.file.close()
            finally:
                if self.events is not None:
                    self.events.close()


def read_metrics_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a metrics file as text; none if there is no file. A last row cut short by a kill is left out."""
    if not path.exists():
        return []
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(value not in (None, "") for value in row.values())]


def read_metrics(path: Path) -> Mapping[str, Any]:
    """The columns of a metrics file as float arrays. Raises Problem if it is damaged."""
    rows = read_metrics_rows(path)
    try:
        return {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else {})}
    except ValueError as error:
        raise Problem(
            f"{path} holds something that is not a number ({error}): delete it and run its stage again"
        ) from error


def write_metrics(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write a whole metrics file from its columns, (n,) each, as `read_metrics` reads it."""
    with atomic(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([f"{value:.6g}" for value in row] for row in zip(*columns.values(), strict=True))
