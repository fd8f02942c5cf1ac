"""What holds for all tests."""

import gc
import signal
import sys
from collections.abc import Iterator

import pytest

from tests import optional

pytest_plugins = ["pytester"]


def pytest_configure(config: pytest.Config) -> None:
    """What tests start can be interrupted, also where a shell runs them in the background, deaf to Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # until everything is imported
    config.addinivalue_line("markers", "needs(name): is skipped where tests/optional.py finds that this is lacking")


LONGEST = ["pipeline", "player_browser", "openloop", "gallery", "nextframe", "evaluate", "evolution", "notebooks"]
"""The files that are thought to take longest: begun first, so that no process is left with one of them when the others are done."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those first, then the others as they are."""
    place = {f"test_{name}.py": number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def pytest_collection_finish() -> None:
    """The collector leaves alone what was imported: to go through a million objects again and again is a seventh of the time."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Here, and not in a fixture, so that pytest counts all that are skipped for one reason in one line."""
    for mark in item.iter_markers("needs"):
        if said := optional.lacking(*mark.args):
            pytest.skip(said)


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    """Whatever precision a test has chosen for its networks, the next one begins with Keras's own."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")
