"""A proxy for one test, or for all that can share one, a browser, and logs where a test fails."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import sync_playwright

from proxy.backends.kubernetes.permissions import WORKSPACE_RULES
from tests.cluster.threaded import ThreadedCluster
from tests.e2e import Proxy
from tests.e2e.browser import PATIENCE_MS, show

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Page

BROWSER_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


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


@pytest.fixture(scope="module")
def context(chromium: Path) -> Iterator[BrowserContext]:
    """A browser with an empty profile, which takes every certificate."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_FLAGS)
        context = browser.new_context(viewport={"width": 1200, "height": 800}, ignore_https_errors=True)
        context.set_default_timeout(PATIENCE_MS)
        yield context
        browser.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of its own; how it looks at the end is kept."""
    page = context.new_page()
    yield page
    with suppress(PlaywrightError):  # a picture for people; a page that Chromium cannot draw just then has none
        show(page, request.node.name)
    page.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[ThreadedCluster]:
    """A cluster whose pods run a real JupyterLab, for the tests of one module."""
    with ThreadedCluster(default_image="jupyter") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kubeconfig(cluster: ThreadedCluster) -> Path:
    """Lets the proxy in, as its Role does."""
    rules = {(verb, group, resource) for group, resource, verbs in WORKSPACE_RULES for verb in verbs}
    return cluster.do(lambda double: double.kubeconfig(double.add_user("proxy", rules, ["default"])))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of every proxy and every cluster that a failed test has used."""
    report = yield
    if report.failed:
        used = list(getattr(item, "funcargs", {}).values())
        proxies = {value for value in used if isinstance(value, Proxy)}
        proxies.update(*(value.started for value in used if isinstance(value, Proxies)))
        for proxy in proxies:
            logs = {"proxy.log": proxy.log(), **proxy.notebook_logs()}
            report.sections.extend((f"{proxy.directory.name}/{name}", text) for name, text in logs.items())
        for cluster in (value for value in used if isinstance(value, ThreadedCluster)):
            report.sections.extend(cluster.logs().items())
    return report
