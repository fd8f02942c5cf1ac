"""What is not installed and need not be: tests that need it are skipped, and a line says what to install."""

import pytest

from tests import optional


@pytest.mark.parametrize("node", ["false", "/nowhere/node"])
def test_the_browsers_driver_cannot_start(node, monkeypatch):
    monkeypatch.setenv("PLAYWRIGHT_NODEJS_PATH", node)
    said = optional.browser()
    assert said.startswith("Playwright's driver cannot start: apt install libatomic1") and "\n" not in said


@pytest.mark.parametrize("installed", [(), ("false",)], ids=["missing", "broken"])
def test_the_browser_is_missing_or_cannot_start(installed, monkeypatch, tmp_path):
    monkeypatch.setattr(optional, "BROWSERS", installed)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    said = optional.browser()
    assert "apt install chromium" in said or "libatomic1" in said  # without a driver either, the latter
    assert "\n" not in said


def test_all_tests_skipped_for_one_reason_share_a_line(pytester, monkeypatch):
    monkeypatch.setattr(optional, "lacking", {"qt": "no Qt: apt install qt"}.get)
    pytester.makeconftest("from tests.conftest import pytest_configure, pytest_runtest_setup")
    pytester.makepyfile("""
        import pytest

        pytestmark = pytest.mark.needs("qt")

        @pytest.mark.parametrize("number", [1, 2])
        def test_this(number): ...

        def test_that(): ...
    """)
    result = pytester.runpytest("-ra", "--strict-markers")
    result.assert_outcomes(skipped=3)
    result.stdout.fnmatch_lines(["SKIPPED [[]3[]] *: no Qt: apt install qt"])
