"""What holds for all tests."""

import signal
import sys
from collections.abc import Iterator

import pytest


def pytest_configure() -> None:
    """What tests start can be interrupted, also where a shell runs them in the background, deaf to Ctrl-C."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    """Whatever precision a test has chosen for its networks, the next one begins with Keras's own."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")
