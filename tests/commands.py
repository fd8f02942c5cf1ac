"""Commands of this project in the test's own process, which has TensorFlow already: another takes seconds to import it."""

import runpy
import sys
import warnings

import pytest


def command_here(module: str, *words: object) -> int:
    """Run `python -m MODULE WORDS ...` in this process; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)  # the module, if a test imported it
        patch.setattr(sys, "argv", [module, *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    return ended.value.code or 0
