"""A proxy for one test, or for all that can share one, and their logs where a test fails."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.e2e import Proxy

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path


class Proxies:
    """Starts proxies for one test, and knows them all."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.started: list[Proxy] = []

    def __call__(self, *flags: str) -> Proxy:
        """Return a proxy that listens."""
        return self.begin(*flags).until_listening()

    def begin(self, *flags: str) -> Proxy:
        """Return a proxy that may not listen yet, or never will."""
        directory = self._directory / str(len(self.started))
        directory.mkdir()
        self.started.append(Proxy(directory, *flags))
        return self.started[-1]


@pytest.fixture(scope="session", autouse=True)
def _linux() -> None:
    if sys.platform != "linux":
        pytest.skip("looks at processes in /proc")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Proxies]:
    """Starts a proxy with the flags given. What a test leaves behind is killed."""
    proxies = Proxies(tmp_path)
    try:
        yield proxies
    finally:
        for proxy in proxies.started:
            proxy.clear()


@pytest.fixture(scope="session")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that many tests share, and its workspace `demo`; at the end it stops, and leaves nothing behind."""
    shared = Proxy(tmp_path_factory.mktemp("proxy"))
    try:
        yield shared.until_listening()
        assert shared.stop() == 0
        assert shared.others() == {}
    finally:
        shared.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of every proxy that a failed test has used."""
    report = yield
    if report.failed:
        used = list(getattr(item, "funcargs", {}).values())
        proxies = {value for value in used if isinstance(value, Proxy)}
        proxies.update(*(value.started for value in used if isinstance(value, Proxies)))
        for proxy in proxies:
            logs = {"proxy.log": proxy.log(), **proxy.notebook_logs()}
            report.sections.extend((f"{proxy.directory.name}/{name}", text) for name, text in logs.items())
    return report
