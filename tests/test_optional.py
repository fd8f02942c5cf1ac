"""What is not installed and need not be: tests of it are skipped, and a line says what to install."""

import pytest

from tests.browser import open_browser


def assert_skipped(match):
    with pytest.raises(pytest.skip.Exception, match=match) as skipped, open_browser():
        pass
    assert "\n" not in str(skipped.value)


@pytest.mark.parametrize("node", ["false", "/nowhere/node"])
def test_the_browsers_driver_cannot_start(node, monkeypatch):
    monkeypatch.setenv("PLAYWRIGHT_NODEJS_PATH", node)
    assert_skipped("driver cannot start: apt install libatomic1")


@pytest.mark.parametrize("installed", [(), ("false",)], ids=["missing", "broken"])
def test_the_browser_is_missing_or_cannot_start(installed, monkeypatch, tmp_path):
    monkeypatch.setattr("tests.browser.BROWSERS", installed)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    assert_skipped("apt install (chromium|libatomic1)")  # the latter where there is no driver either
