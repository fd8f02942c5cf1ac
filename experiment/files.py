"""Files that are either whole or absent: written under a temporary name, renamed when complete."""

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiment.problem import Problem

PARTIAL = ".partial"
LOCK = ".lock"
"""In a run folder, the file that the process which works there holds locked."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""How the system says that nothing more can be written: no space, quota used up, file size limit."""


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block ends well.

    The temporary name keeps the suffixes of `path` (Keras looks at `.weights.h5`) and its folder (a
    rename across file systems is not atomic). If the block raises, the temporary file is removed.
    Raises Problem when the disk is full.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=PARTIAL + "-", suffix="-" + path.name, dir=path.parent)
        temporary = Path(name)
        try:
            os.close(descriptor)
            os.chmod(temporary, 0o644)
            yield temporary
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise Problem, naming `path`, if the block fails because the disk is full; other errors stay what they are."""
    try:
        yield
    except Exception as error:
        if isinstance(error, Problem) or not is_disk_full(error):
            raise
        raise Problem(
            f"the disk is full while writing {path}: free some space and run the same command again"
        ) from error


def is_disk_full(error: BaseException) -> bool:
    """Whether an error, or one that caused it, is the system's 'no space left on device'.

    HDF5, TensorFlow and ffmpeg report it without errno, so the text is looked at as well.
    """
    seen: BaseException | None = error
    while seen is not None:
        if getattr(seen, "errno", None) in FULL or any(os.strerror(number) in str(seen) for number in FULL):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def remove_partial(folder: Path | str) -> None:
    """Remove what a killed process left half-written in a folder and those below it.

    Folders that have a lock of their own (later iterations) are passed by: another process may be writing there.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not Path(place, name, LOCK).exists()]
        for name in files:
            if name.startswith(PARTIAL + "-"):
                Path(place, name).unlink(missing_ok=True)


def write_json(path: Path | str, content: Any) -> None:
    """Write JSON with two-space indents, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path | str, default: Any = None) -> Any:
    """The content of a JSON file; `default` where there is none. Raises Problem if it is damaged or cannot be read."""
    path = Path(path)
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return default
    except OSError as error:
        raise Problem(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise Problem(f"{path} is not valid JSON ({error}): delete it, or use another run folder with --run") from error
