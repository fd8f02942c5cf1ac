"""What holds for all tests."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    """Whatever precision a test has chosen for its networks, the next one begins with Keras's own."""
    yield
    if "keras" in sys.modules:
        sys.modules["keras"].config.set_dtype_policy("float32")
