"""Arrays in files, HDF5 and npz, written so that a full disk is one clear error, and read without trust.

A file may be damaged, or come from somebody else: nothing in it is executed, no other file is opened because it says so,
and no memory is taken for more than it can hold. Whatever is wrong is one Problem that names the file.
"""

import contextlib
import io
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from experiment.files import atomic, reading
from experiment.problem import Problem

CHUNK_LIMIT = 64 << 20  # bytes of a compressed chunk, unpacked: what is read at once
CHUNK_ENTRY = 8  # bytes that HDF5 needs at least to say where a chunk is


class Disk(io.FileIO):
    """A file that remembers its first failure to write and from then on only pretends.

    HDF5 itself answers one with a torrent of messages when its objects are let go, and sometimes with a crash at exit.
    """

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


@contextlib.contextmanager
def open_hdf5(
    path: Path, remedy: str, compressed: Sequence[str] | None = (), fault: str = "is damaged"
) -> Iterator[h5py.File]:
    """An HDF5 file opened for reading; Problem for whatever goes wrong in the block (see experiment.files.reading).

    compressed: the arrays that may be; None leaves out checking what the file declares, where that has been done before.
    Not locked: what is read is whole, and network disks know no locks.
    """
    with reading(path, remedy, fault), h5py.File(path, "r", locking=False) as file:
        if compressed is not None:
            check(file, os.path.getsize(path), compressed)
        yield file


def check(file: h5py.File, size: int, compressed: Sequence[str] = ()) -> None:
    """Raise ValueError if a file of `size` bytes declares more than it can hold, or has anything but arrays of its own."""

    def fault_of_link(name: str, link: Any) -> str | None:
        return None if isinstance(link, h5py.HardLink) else f"{name} is a link to elsewhere"

    def fault_of_array(name: str, item: Any) -> str | None:
        if not isinstance(item, h5py.Dataset):
            return None
        if item.shape is None or item.dtype.kind not in "biuf" or item.is_virtual or item.external:
            return f"{name} is not an array of numbers"
        most = size
        if item.id.get_create_plist().get_nfilters():  # such as a compression
            chunk = math.prod(item.chunks) * item.dtype.itemsize
            if name not in compressed or chunk > CHUNK_LIMIT:
                return f"{name} is compressed, in pieces of {chunk:,} bytes"
            most = size // CHUNK_ENTRY * chunk
        return f"{name} declares {item.nbytes:,} bytes in a file of {size:,}" if item.nbytes > most else None

    if fault := file.visititems_links(fault_of_link) or file.visititems(fault_of_array):
        raise ValueError(fault)


def needed(path: Path, command: str) -> None:
    """Raise Problem if a file is missing. command: that makes it."""
    if not path.exists():
        raise Problem(f"{path} is missing: run `{command}` first, with the same arguments")


def load_weights(model: Any, path: Path, command: str, fault: str, remedy: str | None = None) -> None:
    """Load a file of weights into a Keras model. Raises Problem if it is missing, damaged, or of another model.

    command: that makes it. remedy: what to do about a damaged one, if not to delete it and run that again.
    """
    needed(path, command)
    again = f"delete it and run `{command}` again, or use the settings it was made with, or another run folder (--run)"
    remedy = remedy or again
    with open_hdf5(path, remedy, fault=fault):
        pass  # what it declares is checked; Keras opens it itself, perhaps with a lock, which is not for two at once
    with reading(path, remedy, fault):
        model.load_weights(path)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays by their names, atomically."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_npz(path: Path, remedy: str) -> dict[str, np.ndarray]:
    """What write_npz wrote. Raises Problem if a byte of it has changed."""
    with reading(path, remedy), zipfile.ZipFile(path) as archive:
        parts = archive.infolist()
        if sum(part.file_size for part in parts) > os.path.getsize(path):
            raise ValueError("it declares more than it holds")
        # From memory and not from the archive, so that all of a part has been checked before it is an array.
        read = partial(np.lib.format.read_array, allow_pickle=False)
        return {part.filename.removesuffix(".npy"): read(io.BytesIO(archive.read(part))) for part in parts}
