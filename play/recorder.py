"""Recordings: what a session shows, as MP4, for its page to download."""

import contextlib
import queue
import secrets
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from experiment.problem import Problem
from viz.video import save_mp4, side_by_side

HEIGHT = 384  # of a picture in a video, in pixels
LONGEST = 300  # seconds of a recording
KEPT = 20  # finished recordings that the server keeps; the oldest are deleted first
WAITING = 500  # frames that may wait for the encoder; beyond them a frame is left out


class Recordings:
    """A folder of its own for the videos of all sessions, gone when it is closed."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="play-")
        self.lock = threading.Lock()
        self.finished: dict[str, Path] = {}  # by their names, the oldest first

    def begin(self, fps: float) -> "Recorder":
        """A new recording, whose name cannot be guessed."""
        return Recorder(Path(self.folder.name) / f"{secrets.token_urlsafe(16)}.mp4", fps)

    def finish(self, recorder: "Recorder") -> tuple[str, float]:
        """End a recording, which can be found from now on, and drop the oldest of those that ended before.

        Returns where it can be downloaded, and its seconds. Raises Problem if it could not be written.
        """
        seconds = recorder.finish()
        with self.lock:
            self.finished[recorder.path.name] = recorder.path
            for name in list(self.finished)[:-KEPT]:
                self.finished.pop(name).unlink()
        return f"recordings/{recorder.path.name}", seconds

    def close(self) -> None:
        """Delete them all."""
        self.folder.cleanup()


class Recorder:
    """Encodes while it is recorded, in a thread of its own."""

    def __init__(self, path: Path, fps: float):
        self.path, self.fps = path, fps
        self.frames = 0
        self.shape: tuple[int, ...] | None = None
        self.waiting: queue.Queue[np.ndarray | None] = queue.Queue(WAITING)
        self.failure: Exception | None = None
        self.thread = threading.Thread(target=self._save, daemon=True)
        self.thread.start()

    def add(self, pictures: Sequence[np.ndarray], labels: Sequence[str]) -> bool:
        """Add a frame, the pictures beside each other under their labels.

        False when the recording is full, or the world another.
        """
        scale = HEIGHT / max(len(picture) for picture in pictures)
        frame = next(
            side_by_side({label: picture[None] for label, picture in zip(labels, pictures, strict=True)}, scale)
        )
        self.shape = self.shape or frame.shape
        if frame.shape != self.shape or self.frames >= LONGEST * self.fps or not self.thread.is_alive():
            return False
        with contextlib.suppress(queue.Full):
            self.waiting.put_nowait(frame)
            self.frames += 1
        return True

    def finish(self) -> float:
        """End it. Returns its seconds. Raises Problem if it could not be written."""
        while self.thread.is_alive():
            with contextlib.suppress(queue.Full):
                self.waiting.put(None, timeout=0.2)
                break
        self.thread.join()
        if self.failure is not None:
            raise Problem(f"the recording could not be written: {self.failure}") from self.failure
        return self.frames / self.fps

    def _save(self) -> None:
        try:
            save_mp4(self.path, self._taken(), self.fps)
        except Exception as error:  # told where it is finished
            self.failure = error

    def _taken(self) -> Iterator[np.ndarray]:
        while (frame := self.waiting.get()) is not None:
            yield frame
