"""Numbers over time: one CSV row a step, epoch or generation, and TensorBoard events beside them."""

import contextlib
import csv
import itertools
import math
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
from PIL import Image
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, types_pb2
from tensorboard.plugins.scalar.metadata import create_summary_metadata
from tensorboard.summary.writer.record_writer import RecordWriter

from experiment.files import atomic, read_text, reading, sync, writing
from experiment.problem import Problem
from experiment.tracking import track

LIMIT = 100_000_000  # bytes of the largest metrics file that is read: a million rows
REMEDY = "delete it, or run its stage again"
# Of charts, by the folder's name or its first word; the next-frame model is alone in its run.
GROUPS = {"vae": "V/", "rnn": "M/", "controller": "C/", "controller_both": "C/both/"}


class Metrics:
    """A CSV file that survives being killed: `with Metrics(path, ...) as metrics: metrics.write(step, loss=0.3)`.

    The first row fixes the columns; each row is on disk when `write` returns. Raises Problem when the disk is full, or
    where the file that is there is damaged.
    tensorboard: folder for events of the same numbers. Weights & Biases is sent them too, where it is on.
    resume_from: keep the rows up to this step, drop later ones (they will be written again); None begins anew.
    """

    def __init__(self, path: Path, tensorboard: Path, resume_from: float | None = None):
        self.path = path
        last = -math.inf if resume_from is None else resume_from
        kept = [row for row in ([] if resume_from is None else read_metrics_rows(path)) if float(row["step"]) <= last]
        self.columns: list[str] | None = list(kept[0]) if kept else None
        with writing(path):
            with atomic(path) as temporary, open(temporary, "w", newline="") as file:
                if self.columns is not None:
                    writer = csv.DictWriter(file, fieldnames=self.columns)
                    writer.writeheader()
                    writer.writerows(kept)
            self.events = Events(tensorboard, last)
            self.file = open(path, "a", newline="")  # noqa: SIM115 (closed in __exit__)

    def write(self, step: int, **numbers: float) -> None:
        """Append one row. Raises Problem if its columns are not those of the first row."""
        row = {"step": step, **numbers}
        if self.columns is not None and set(self.columns) != set(row):
            raise damaged(self.path, f"it has the columns {', '.join(self.columns)} and not {', '.join(row)}")
        writer = csv.DictWriter(self.file, fieldnames=self.columns or list(row))
        text = {name: rounded(value) for name, value in row.items()}
        with writing(self.path):
            # First: an event without its row is dropped after a kill, and one that is not there is lost.
            self.events.write(step, numbers)
            track(step, {f"{self.events.folder.name}/{name}": number for name, number in numbers.items()})
            if self.columns is None:
                self.columns = list(row)
                writer.writeheader()
            writer.writerow(text)
            self.file.flush()
            sync(self.file.fileno())

    def show(self, step: int, pictures: Mapping[str, Path]) -> None:
        """Put PNG files, by name, beside the numbers in TensorBoard and Weights & Biases."""
        with writing(self.path):
            self.events.show(step, pictures)
        track(step, {f"{self.events.folder.name}/{name}": path for name, path in pictures.items()})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        with writing(self.path):
            try:
                self.file.close()
            finally:
                self.events.file.close()


class Events:
    """TensorBoard's events, in a file that replaces those of the folder; earlier ones up to step `last` are kept.

    Each name is a chart or a row of pictures such as V/loss, for all folders vae and vae_*, unless one has its own (GROUPS).

    TensorFlow's own writer answers a full disk with messages and a traceback, and leaves what is to be dropped.
    """

    def __init__(self, folder: Path, last: float):
        self.folder = folder
        self.group = GROUPS.get(folder.name, GROUPS.get(folder.name.partition("_")[0], ""))
        before = [path for path in folder.glob("*tfevents*") if path.is_file()]
        path = folder / f"events.out.tfevents.{time.time_ns()}"
        with atomic(path) as temporary, open(temporary, "wb") as self.file:
            self.append(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
            for event in itertools.chain.from_iterable(map(read_events, before)):
                if event.HasField("summary") and event.step <= last:
                    self.append(event)
        for earlier in before:
            earlier.unlink()
        self.file = open(path, "ab")  # noqa: SIM115 (closed by Metrics)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Append an event with these numbers."""
        summary, about = summary_pb2.Summary(), create_summary_metadata(display_name=None, description=None)
        for name, number in numbers.items():
            tensor = tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, float_val=[float(number)])
            summary.value.add(tag=f"{self.group}{name}", metadata=about, tensor=tensor)
        self.append(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def show(self, step: int, pictures: Mapping[str, Path]) -> None:
        """Append an event with these PNG files."""
        summary = summary_pb2.Summary()
        for name, path in pictures.items():
            with Image.open(path) as picture:
                width, height = picture.size
            png = {"encoded_image_string": path.read_bytes(), "colorspace": 3}  # RGB
            summary.value.add(tag=f"{self.group}{name}", image={"width": width, "height": height, **png})
        self.append(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def append(self, event: event_pb2.Event) -> None:
        """Append any event."""
        RecordWriter(self.file).write(event.SerializeToString())
        self.file.flush()


def read_events(path: Path) -> Iterator[event_pb2.Event]:
    """The events in a file, as far as it is whole: they are a copy of the metrics, and not worth an error."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    with contextlib.suppress(Exception):
        yield from LegacyEventFileLoader(str(path)).Load()


class Columns(dict[str, Any]):
    """The columns of a metrics file, or of a row of it, by name. One that it lacks is a Problem."""

    def __init__(self, path: Path, columns: Mapping[str, Any]):
        super().__init__(columns)
        self.path = path

    def __missing__(self, name: str) -> NoReturn:
        raise damaged(self.path, f"it has no column {name}")


def read_metrics_rows(path: Path, text: Collection[str] = ()) -> list[Columns]:
    """The rows of a metrics file as text; none if there is no file. A last row cut short by a kill is left out.

    Raises Problem if it is damaged: what is not in one of the columns `text` is to be a number.
    """
    if not path.exists():
        return []
    with reading(path, REMEDY):
        lines = read_text(path, LIMIT).splitlines(keepends=True)
        rows = list(csv.DictReader(line for line in lines if line.endswith("\n")))
        rows = [row for row in rows if all(value not in (None, "") for value in row.values())]
        for row in rows:
            for name, value in row.items():
                if name not in text:
                    float(value)
    return [Columns(path, row) for row in rows]


def damaged(path: Path, reason: str) -> Problem:
    """The Problem that a metrics file cannot be used."""
    return Problem(f"{path} is damaged ({reason[:200]}): {REMEDY}")


def read_metrics(path: Path) -> Columns:
    """A metrics file as float arrays; no columns if it has no rows. Raises Problem if it is damaged."""
    rows = read_metrics_rows(path)
    return Columns(path, {name: np.array([float(row[name]) for row in rows]) for name in (rows[0] if rows else {})})


def write_metrics(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write a whole metrics file from its columns, (n,) each, as `read_metrics` reads it."""
    write_rows(path, columns, zip(*columns.values(), strict=True))


def write_rows(path: Path, columns: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """The same from its rows."""
    with atomic(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(map(rounded, row) for row in rows)


def rounded(value: Any) -> Any:
    """A number as it is written: a fraction with six digits."""
    return f"{value:.6g}" if isinstance(value, float | np.floating) else value
