"""HDF5 files written so that a full disk is one clear error.

HDF5 itself answers a failed write with a torrent of messages when its objects are let go, and sometimes with a
segmentation fault at exit. So it writes through a file that takes note of the first failure and keeps it from HDF5.
"""

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py

from experiment.files import atomic


class Disk(io.FileIO):
    """A file that remembers its first failure to write and from then on only pretends."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of `data`."""
        left = memoryview(data).cast("B")
        size = len(left)
        while len(left) and self.failure is None:
            left = left[self._noting(io.FileIO.write, left) or 0 :]
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length."""
        self._noting(io.FileIO.truncate, size)
        return size or 0

    def _noting(self, act: Callable[..., Any], value: Any) -> Any:
        try:
            return act(self, value)
        except OSError as error:
            self.failure = self.failure or error
            return None

    def check(self) -> None:
        """Raise the failure, if there was one."""
        if self.failure is not None:
            raise self.failure


@contextlib.contextmanager
def written(path: Path, libver: str = "latest", **options: Any) -> Iterator[tuple[h5py.File, Disk]]:
    """A new HDF5 file, which appears under its name when the block ends well, and the disk below it.

    `disk.check()` raises what went wrong so far; the end of the block does so too. libver: "earliest" for files whose bytes
    do not depend on when they were written. options: those of h5py.File.
    Raises Problem when the disk is full.
    """
    with atomic(path) as temporary, Disk(temporary, "r+") as disk:
        with h5py.File(disk, "w", libver=libver, **options) as file:
            yield file, disk
        disk.check()
