"""Files that are either whole or absent: written under a temporary name, renamed when complete.

And files that are read without trust in them: a run folder may be damaged, or come from somebody else.
"""

import contextlib
import errno
import json
import os
import secrets
import stat
import textwrap
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiment.problem import Problem

PROJECT = Path(__file__).parents[1]
SHIPPED = PROJECT / "world_models" if (PROJECT / "world_models" / "configs").exists() else PROJECT
"""Where configs/ and pretrained/ are: pip puts them into a package of ours."""
PARTIAL = ".partial"
ROLLOUTS = "rollouts"  # in a run folder, where recorded episodes are
LOCK = ".lock"  # in a run folder, the file that the process which works there holds locked
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""How the system says that nothing more can be written: no space, quota used up, file size limit."""
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.EIO, errno.ESTALE)
"""How it says that this cannot be written, or not here."""
NOT_OFFERED = (errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # how a file system says that it has no such thing
TEXT_LIMIT = 64 << 20  # bytes of a file of text above which it is none of ours
REASON = 120  # letters of what a library says of a damaged file that are shown
JSON_REMEDY = "delete it, or use another run folder (--run)"
# What may lie in the place of a file.
KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
         stat.S_IFBLK: "a device"}  # fmt: skip


@contextlib.contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; rename it to `path` when the block ends well.

    The temporary name keeps the suffixes of `path` (Keras looks at `.weights.h5`) and its folder (a
    rename across file systems is not atomic). Its permissions are those that the user's umask leaves. If the block
    raises, the temporary file is removed. Raises Problem when the disk is full.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{PARTIAL}-{secrets.token_hex(4)}-{path.name}")
        try:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            yield temporary
            with open(temporary, "rb+") as file:
                sync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def sync(descriptor: int) -> None:
    """Wait until what was written to an open file is on the disk, where the file system can be asked for that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Raise Problem, naming `path`, if the block fails because the disk is full, or the system refuses to write there."""
    try:
        yield
    except Exception as error:
        if isinstance(error, Problem):
            raise
        if is_disk_full(error):
            raise Problem(
                f"the disk is full while writing {path}: free some space and run the same command again"
            ) from error
        if isinstance(error, OSError) and error.errno in REFUSED:
            raise Problem(f"{path} cannot be written: {os.strerror(error.errno)}") from error
        raise


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
    for path in walk(folder):
        if path.name.startswith(PARTIAL + "-") and (path.is_symlink() or not path.is_dir()):
            path.unlink(missing_ok=True)


def walk(folder: Path | str) -> Iterator[Path]:
    """Everything in a folder and those below it, but for folders that have a lock of their own; no link is followed."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not Path(place, name, LOCK).exists()]
        for name in (*folders, *files):
            yield Path(place, name)


def check_folder(folder: Path) -> None:
    """Raise Problem if something in a run folder would be waited for, or lead out of it what is written there.

    A link to a file is harmless, since what is written takes its place, and so is one to rollouts that are only read:
    who writes in a folder asks check_inside for it.
    """
    for path in walk(folder):
        if path.is_symlink():
            if path.is_dir() and path.name != ROLLOUTS:
                check_inside(path, folder)
        elif not path.is_dir():
            regular(path)


def check_inside(path: Path, folder: Path) -> None:
    """Raise Problem if a path leads out of the folder that it is in, by a link."""
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise Problem(
            f"{path} is a link that leads out of {folder}, and nothing is written there: put a folder in its place, or "
            "make the run folder itself the link"
        )


def write_json(path: Path | str, content: Any) -> None:
    """Write JSON with two-space indents, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: Path | str, default: Any = None) -> Any:
    """The dictionary in a JSON file; `default` where there is no file. Raises Problem if it is damaged or something else."""
    if not os.path.exists(path):
        return default
    with reading(path, JSON_REMEDY, "is not valid JSON"):
        content = json.loads(read_text(path))
    if not isinstance(content, dict):
        raise Problem(f"{path} is JSON, but not what was written there: {JSON_REMEDY}")
    return content


def read_text(path: Path | str, limit: int = TEXT_LIMIT) -> str:
    """The text of a small file. Raises Problem if it is no file or larger than any of ours, OSError, UnicodeDecodeError."""
    if (size := regular(path).stat().st_size) > limit:
        raise Problem(f"{path} has {size / 1e6:,.0f} MB, which is none of ours: move it away")
    return Path(path).read_text(encoding="utf-8")


def checksum(path: Path) -> int:
    """The CRC-32 of a file. Raises Problem if it is no file."""
    value = 0
    with open(regular(path), "rb") as file:
        while block := file.read(1 << 20):
            value = zlib.crc32(block, value)
    return value


def regular(path: Path | str) -> Path:
    """The path of a file, or of a link to one. Raises Problem if it is a pipe or the like, which would be waited for."""
    path = Path(path)
    kind = KINDS.get(stat.S_IFMT(path.stat().st_mode))
    if kind is not None:
        raise Problem(f"{path} is {kind}, not a file: move it away")
    return path


@contextlib.contextmanager
def reading(path: Path | str, remedy: str, fault: str = "is damaged") -> Iterator[None]:
    """Raise Problem, naming `path`, the fault and the remedy, whatever goes wrong in the block, which reads that file.

    remedy: such as 'delete it and run ...'. Whatever goes wrong: HDF5, Keras, NumPy and JSON answer damaged files with a
    dozen types of exceptions, and what is inside may be of another form than what was written.
    """
    try:
        regular(path)
        yield
    except Problem:
        raise
    except FileNotFoundError as error:
        raise Problem(f"{path} is missing: {remedy.removeprefix('delete it and ')}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno:  # the system's refusal; libraries' own complaints have no number
            raise Problem(f"{path} cannot be read: {os.strerror(error.errno)}") from error
        reason = textwrap.shorten(str(error) or type(error).__name__, REASON, placeholder=" ...")
        raise Problem(f"{path} {fault} ({reason}): {remedy}") from error
