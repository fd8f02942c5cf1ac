"""Commands of this project, in the test's own process, which has TensorFlow already, or in one of their own, which takes
seconds to import it."""

import os
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]


def command_here(module: str, *words: object) -> int:
    """Run `python -m MODULE WORDS ...` in this process; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)  # the module, if a test imported it
        patch.setattr(sys, "argv", [module, *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    return ended.value.code or 0


def python(
    *words: object, cwd: Path = PROJECT, shell: str = "", timeout: float = 60, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS ...` in a process of its own, with this project whatever its folder is, and these variables set.

    shell: redirections of its streams, as a shell has them. timeout: seconds after which the test fails.
    """
    line = ["bash", "-c", f'exec "$0" "$@" {shell}', sys.executable, *map(str, words)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), **variables}
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=timeout)
