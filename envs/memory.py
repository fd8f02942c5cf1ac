"""What simulators that draw large pictures need of the C library."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's mallopt."""
KEPT, LARGE = 2**29, 2**25
"""Bytes: of freed memory that stays with the process, and from which on an array is given back at once."""


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, where the C library is glibc.

    Both of CarRacing's simulators take 2 to 3 MB for each picture they draw and free them again. glibc gives them back
    to the system each time (EnvPool's once the heap has grown, as in a process that has trained V and M), and the
    system makes all their pages anew. That was half of the processor's time in EnvPool (800 steps a second; 1,650 with
    this), a quarter in Gymnasium's.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(M_TRIM_THRESHOLD, KEPT)
        library.mallopt(M_MMAP_THRESHOLD, LARGE)
