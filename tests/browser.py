"""The browser of the player's tests, which a machine may do without: then they are skipped, with a line that says why."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

api = pytest.importorskip("playwright.sync_api", reason="no Playwright: bash launch_scripts/setup.bash dev")

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@contextlib.contextmanager
def open_browser() -> Iterator[Any]:
    """A Chromium without a window: the system's, or else the one that Playwright has installed."""
    # Tried first by itself: where it cannot start, the API raises whatever it likes, and leaves an event loop behind.
    driver = subprocess.run([sys.executable, "-m", "playwright", "--version"], capture_output=True, text=True)
    if driver.returncode:
        pytest.skip(f"Playwright's driver cannot start: apt install libatomic1{reason(driver.stderr)}")
    installed = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    with api.sync_playwright() as playwright:
        try:
            browser = playwright.chromium.launch(executable_path=installed)
        except api.Error as error:
            pytest.skip(f"no Chromium, or it cannot start: apt install chromium{reason(str(error))}")
        yield browser
        browser.close()


def reason(said: str) -> str:
    """The first line of an error, in brackets."""
    return f" ({said.splitlines()[0]})" if said else ""
