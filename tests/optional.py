"""What a machine may do without. `@pytest.mark.needs("qt")` skips a test there, and a line says what to install."""

import functools
import shutil
import subprocess
import sys
from importlib.util import find_spec

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@functools.cache
def lacking(name: str) -> str:
    """What to install for it here, on one line; empty where it can be used."""
    found = {"browser": browser, "qt": qt}.get(name)
    return found() if found else missing(name)


def browser() -> str:
    """A Chromium, and Playwright's driver for it: there is nothing but to start them."""
    # By itself first: where the driver cannot start, the library raises whatever it likes, and leaves an event loop behind.
    driver = subprocess.run([sys.executable, "-m", "playwright", "--version"], capture_output=True, text=True)
    if driver.returncode:
        return f"Playwright's driver cannot start: apt install libatomic1{first_line(driver.stderr)}"
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as playwright:
        try:
            playwright.chromium.launch(executable_path=installed()).close()
        except Error as error:
            return f"no Chromium, or it cannot start: apt install chromium{first_line(str(error))}"
    return ""


def installed() -> str | None:
    """The system's browser; without one, Playwright looks for its own."""
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def first_line(error: str) -> str:
    return f" ({error.splitlines()[0]})" if error else ""


def qt() -> str:
    from envs.arcade import CoinRunVector
    from experiment.problem import Problem

    try:
        CoinRunVector(1).reset(seed=0)
    except Problem as problem:
        return str(problem)
    return ""


def missing(module: str) -> str:
    """Of what an extra brings."""
    extra = {"stable_baselines3": "rl"}.get(module, module)
    return "" if find_spec(module) else f"no {module}: bash launch_scripts/setup.bash {extra}"
