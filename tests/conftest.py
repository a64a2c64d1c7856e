"""What all tests share: the browser, and an honest word about tests that were left out for want of one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A time limit for one example says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_COMMANDS: Final = ("chromium", "chromium-browser", "google-chrome")
_HOW: Final = "install Debian's `chromium`, or set CHROMIUM to a Chromium's path"


def find_chromium() -> Path | None:
    """Return the Chromium to drive: what CHROMIUM names, or the first of the usual commands; None if there is none."""
    named = os.environ.get("CHROMIUM")
    for command in (named,) if named else _COMMANDS:
        if found := shutil.which(command):
            return Path(found)
    return None


def must_have_browser() -> bool:
    """Tell whether a browser test that is left out counts as failed (REQUIRE_BROWSER=1, as CI sets it)."""
    return os.environ.get("REQUIRE_BROWSER", "") not in {"", "0"}


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The path of a Chromium. Without one the test is skipped, or fails where the browser is required."""
    found = find_chromium()
    if found is None:
        reason = f"no Chromium found: {_HOW}"
        if must_have_browser():
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    return found


def _left_out(reporter: pytest.TerminalReporter) -> list[str]:
    skipped: Iterable[pytest.TestReport] = reporter.stats.get("skipped", [])
    return [report.nodeid for report in skipped if "browser" in report.keywords]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that had to have a browser and left a browser test out, for whatever reason."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and reporter and must_have_browser() and _left_out(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say in one line, below everything else, which browser tests were left out and how to get them."""
    yield
    if left_out := _left_out(terminalreporter):
        names = ", ".join(nodeid.rpartition("::")[2] for nodeid in left_out)
        terminalreporter.write_line(f"Left out {len(left_out)} browser tests ({names}): {_HOW}.", yellow=True)
