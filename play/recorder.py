"""Recordings: what a session shows, as MP4, for its page to download."""

import queue
import secrets
import tempfile
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np

from experiment.problem import Problem
from viz.text import text_image
from viz.video import CAPTION, GAP, save_mp4

HEIGHT = 384
"""Of a picture in a video, in pixels."""
LONGEST = 300
"""Seconds of a recording."""
KEPT = 20
"""Finished recordings that the server keeps; the oldest are deleted first."""
WAITING = 500
"""Frames that may wait for the encoder; beyond them a frame is left out."""


class Recordings:
    """A folder of its own for the videos of all sessions, gone when it is closed."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="play-")
        self.lock = threading.Lock()
        self.names: list[str] = []
        """Of finished recordings, the oldest first."""

    def begin(self, fps: float) -> "Recorder":
        """A new recording, whose name cannot be guessed."""
        return Recorder(Path(self.folder.name) / f"{secrets.token_urlsafe(16)}.mp4", fps)

    def finish(self, recorder: "Recorder") -> tuple[str, float]:
        """End a recording, which can be found from now on, and drop the oldest of those that ended before.

        Returns where it can be downloaded, and its seconds. Raises Problem if it could not be written.
        """
        seconds = recorder.finish()
        name = recorder.path.name
        with self.lock:
            self.names.append(name)
            old, self.names = self.names[:-KEPT], self.names[-KEPT:]
        for each in old:
            (Path(self.folder.name) / each).unlink(missing_ok=True)
        return f"recordings/{name}", seconds

    def find(self, name: str) -> Path | None:
        """The file of a finished recording."""
        with self.lock:
            return Path(self.folder.name) / name if name in self.names else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.folder.cleanup()


class Recorder:
    """Encodes while it is recorded, in a thread of its own."""

    def __init__(self, path: Path, fps: float):
        self.path, self.fps = path, fps
        self.frames = 0
        self.width: tuple[int, ...] | None = None
        self.waiting: queue.Queue[np.ndarray | None] = queue.Queue(WAITING)
        self.thread = threading.Thread(target=save_mp4, args=(path, self._taken(), fps), daemon=True)
        self.thread.start()

    def add(self, pictures: list[np.ndarray], labels: list[str]) -> bool:
        """Add a frame, the pictures beside each other under their labels.

        False when the recording is full, or the world another.
        """
        frame = compose(pictures, labels)
        self.width = self.width or frame.shape
        if frame.shape != self.width or self.frames >= LONGEST * self.fps or not self.thread.is_alive():
            return False
        try:
            self.waiting.put_nowait(frame)
            self.frames += 1
        except queue.Full:
            pass
        return True

    def finish(self) -> float:
        """End it. Returns its seconds. Raises Problem if it could not be written."""
        while self.thread.is_alive():
            try:
                self.waiting.put(None, timeout=0.2)
                break
            except queue.Full:
                continue
        self.thread.join()
        if not self.path.exists():
            raise Problem("the recording could not be written: is the disk full?")
        return self.frames / self.fps

    def _taken(self) -> Iterator[np.ndarray]:
        while (frame := self.waiting.get()) is not None:
            yield frame


def compose(pictures: list[np.ndarray], labels: list[str]) -> np.ndarray:
    """Pictures beside each other, each under its label: (H, W, 3) uint8."""
    parts: list[np.ndarray] = []
    for picture, label in zip(pictures, labels, strict=True):
        width = round(picture.shape[1] * HEIGHT / picture.shape[0])
        large = cv2.resize(np.ascontiguousarray(picture), (width, HEIGHT), interpolation=cv2.INTER_NEAREST)
        gap = np.full((CAPTION + HEIGHT, GAP, 3), 255, np.uint8)
        parts += [gap, np.concatenate([caption(label, width), large])]
    return np.concatenate(parts[1:], axis=1)


@lru_cache(maxsize=16)
def caption(label: str, width: int) -> np.ndarray:
    """A label above a picture, (CAPTION, width, 3) uint8."""
    return text_image(label, width, CAPTION, 16)
