"""What a command is started in, variables and streams, made such that nothing of the user's changes or ends its work."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from experiment.problem import printable

OURS = ("KERAS_", "TF_", "TF2_", "XLA_", "ONEDNN_", "DNNL_", "MPLBACKEND", "MATPLOTLIBRC", "IMAGEIO_", "SDL_",
        "FFREPORT", "WORLD_MODELS_")  # fmt: skip
"""How the variables begin that would change how TensorFlow computes and how pictures and videos are made, or forbid it.

An unknown flag in XLA_FLAGS ends TensorFlow, and TF_ENABLE_ONEDNN_OPTS=0, which is in many a shell's profile, takes its
bfloat16."""
USERS = ("TF_CPP_", "TF_GPU_", "TF_FORCE_GPU_ALLOW_GROWTH", "ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
"""Those of them that stay, as CUDA_* and OMP_* do: which part of the machine is used, and what is logged."""


def drop_variables() -> None:
    """Take those variables from this process and those that it will start, and let no warning be an error."""
    for name in [*os.environ]:
        if name.startswith(OURS) and not name.startswith(USERS):
            del os.environ[name]
    if any(action == "error" for action, *_ in warnings.filters):  # PYTHONWARNINGS=error
        warnings.resetwarnings()
        warnings.simplefilter("ignore")
        sys.warnoptions[:] = [option for option in sys.warnoptions if not option.startswith("error")]  # for workers
        os.environ.pop("PYTHONWARNINGS", None)
    if sys.flags.optimize > 1 and os.environ.pop("PYTHONOPTIMIZE", ""):  # without docstrings `cma` cannot be imported
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


class Stream:
    """A standard stream that cannot end a command.

    What its encoding lacks is replaced, a control character (of a name in somebody else's file, say) is written as its
    number, and once it cannot be written to, because its disk is full or nobody reads it any more, the rest goes nowhere.
    """

    def __init__(self, stream: Any, keep: str = ""):
        self.stream, self.keep = stream, "\n\t" + keep
        self.failure: Exception | None = None
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        self._attempt(self.stream.write, printable(text, self.keep))
        return len(text)

    def flush(self) -> None:
        self._attempt(self.stream.flush)

    def _attempt(self, act: Callable[..., Any], *values: str) -> None:
        if self.failure is None:
            try:
                act(*values)
            except (OSError, ValueError) as error:
                self.failure = error
                with contextlib.suppress(OSError, ValueError):  # what is still to be flushed goes nowhere too
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def own_streams() -> Iterator[Stream]:
    """In the block there are three standard streams, and the two for output are `Stream`s; yields that of stdout."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened, whichever it is, would have its place
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    before = sys.stdin, sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        streams: Iterator[Any] = (
            stream or stack.enter_context(open(os.devnull, mode)) for stream, mode in zip(before, "rww", strict=True)
        )
        sys.stdin, out, errors = streams
        sys.stdout, sys.stderr = standard = Stream(out), Stream(errors, keep="\r")  # which bars are drawn with
        try:
            yield standard[0]
        finally:
            for stream in standard:
                stream.flush()
            sys.stdin, sys.stdout, sys.stderr = before
