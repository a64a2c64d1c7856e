"""What all tests share: a browser, a web server, and an honest word about tests that were left out for want of one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A time limit for one example says more about the machine than about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

_COMMANDS: Final = ("chromium", "chromium-browser", "google-chrome")
_HOW: Final = (
    "install Debian's `chromium`, `nginx-light`, `haproxy` and `prometheus`, or set CHROMIUM to a Chromium's path"
)
_MARKS: Final = {"browser", "front"}  # of tests that need what pip cannot install
_SYSTEM_COMMANDS: Final = "/usr/sbin"  # where Debian has nginx, and no user's PATH leads


def find_chromium() -> Path | None:
    """Return the Chromium to drive: what CHROMIUM names, or the first of the usual commands; None if there is none."""
    named = os.environ.get("CHROMIUM")
    for command in (named,) if named else _COMMANDS:
        if found := shutil.which(command):
            return Path(found)
    return None


def find_nginx() -> Path | None:
    """Return the nginx to put in front of the proxy; None if there is none."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_COMMANDS}")
    return Path(found) if found else None


def must_have_browser() -> bool:
    """Tell whether a browser test that is left out counts as failed (REQUIRE_BROWSER=1, as CI sets it)."""
    return os.environ.get("REQUIRE_BROWSER", "") not in {"", "0"}


@pytest.fixture(scope="session")
def chromium() -> Path:
    """The path of a Chromium. Without one the test is skipped, or fails where the browser is required."""
    return find_chromium() or _leave_out(f"no Chromium found: {_HOW}")


def find_haproxy() -> Path | None:
    """Return the haproxy to put in front of the proxy; None if there is none."""
    found = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM_COMMANDS}")
    return Path(found) if found else None


@pytest.fixture(scope="session")
def haproxy() -> Path:
    """The path of a haproxy. Without one the test is skipped, or fails where the browser is required."""
    return find_haproxy() or _leave_out(f"no haproxy found: {_HOW}")


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The path of Prometheus' promtool. Without one the test is skipped, or fails where the browser is required."""
    found = shutil.which("promtool")
    return Path(found) if found else _leave_out(f"no promtool found: {_HOW}")


@pytest.fixture(scope="session")
def prometheus() -> Path:
    """The path of a Prometheus. Without one the test is skipped, or fails where the browser is required."""
    found = shutil.which("prometheus")
    return Path(found) if found else _leave_out(f"no prometheus found: {_HOW}")


@pytest.fixture(scope="session")
def nginx() -> Path:
    """The path of an nginx. Without one the test is skipped, or fails where the browser is required."""
    return find_nginx() or _leave_out(f"no nginx found: {_HOW}")


def _leave_out(reason: str) -> NoReturn:
    if must_have_browser():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _left_out(reporter: pytest.TerminalReporter) -> list[str]:
    skipped: Iterable[pytest.TestReport] = reporter.stats.get("skipped", [])
    return [report.nodeid for report in skipped if _MARKS & set(report.keywords)]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Fail a run that had to have a browser and left a browser test out, for whatever reason."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if exitstatus == pytest.ExitCode.OK and reporter and must_have_browser() and _left_out(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say in one line, below everything else, which tests were left out for want of a program, and how to get them."""
    yield
    if left_out := _left_out(terminalreporter):
        names = ", ".join(nodeid.rpartition("::")[2] for nodeid in left_out)
        terminalreporter.write_line(
            f"Left out {len(left_out)} browser, web server and Prometheus tests ({names}): {_HOW}.", yellow=True
        )
