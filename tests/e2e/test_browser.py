"""What a person sees: JupyterLab, the index and an error page, in Chromium, through the proxy.

Screenshots are left in `test-output/`.
"""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.e2e import PATIENCE_SECONDS, REPOSITORY, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Response

    from tests.e2e import Proxy

pytestmark = pytest.mark.browser

_FLAGS: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PATIENCE_MS: Final = PATIENCE_SECONDS * 1000


class Complaints:
    """What goes wrong in a page and could be the proxy's doing."""

    def __init__(self, page: Page) -> None:
        self.seen: list[str] = []
        page.on("pageerror", lambda error: self.seen.append(f"error in the page: {error}"))
        page.on("requestfailed", self._on_request_failed)
        page.on("response", self._on_response)
        page.on("console", self._on_console)

    def _on_request_failed(self, request: Request) -> None:
        if request.failure != "net::ERR_ABORTED":  # the page itself gave up, or was left
            self.seen.append(f"request failed: {request.method} {request.url}: {request.failure}")

    def _on_response(self, response: Response) -> None:
        if response.status >= 400:
            self.seen.append(f"answer: {response.request.method} {response.url}: {response.status}")

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.seen.append(f"console: {message.text}")


@pytest.fixture(scope="module")
def context(chromium: Path) -> Iterator[BrowserContext]:
    """A browser with an empty profile."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        context.set_default_timeout(_PATIENCE_MS)
        yield context
        browser.close()


@pytest.fixture
def page(context: BrowserContext, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of its own; how it looks at the end is kept."""
    page = context.new_page()
    yield page
    _show(page, request.node.name)
    page.close()


def _show(page: Page, name: str) -> None:
    page.screenshot(path=REPOSITORY / "test-output" / f"{name}.png")


def _until_lab_is_there(page: Page) -> None:
    expect(page.locator("#jp-top-panel")).to_be_visible(timeout=_PATIENCE_MS)
    expect(page.locator("#jupyterlab-splash")).to_have_count(0, timeout=_PATIENCE_MS)


def _until_kernel_is_idle(page: Page) -> None:
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=_PATIENCE_MS)


def test_notebook_is_created_run_saved_and_there_again_after_a_kill(page: Page, proxy: Proxy) -> None:
    complaints = Complaints(page)

    page.goto(f"{proxy.url}/ws/demo/lab")
    _until_lab_is_there(page)
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
    _until_kernel_is_idle(page)
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    cell.locator(".cm-content").click()
    page.keyboard.type("6*7")
    page.keyboard.press("Shift+Enter")
    output = cell.locator(".jp-OutputArea-output")
    expect(output).to_have_text("42", timeout=_PATIENCE_MS)
    _show(page, "a_cell_has_run")

    page.keyboard.press("Control+s")
    page.locator(".jp-Dialog .jp-mod-accept").click()  # a new notebook is asked for its name
    saved = proxy.root / "demo" / "Untitled.ipynb"
    until(lambda: '"42"' in saved.read_text(), "the notebook is saved with its output")
    assert json.loads(saved.read_text())["cells"][0]["source"] == ["6*7"]
    assert complaints.seen == []

    (killed,) = proxy.servers("demo")
    os.kill(killed, signal.SIGKILL)
    page.reload()
    _until_lab_is_there(page)
    expect(output).to_have_text("42", timeout=_PATIENCE_MS)
    _until_kernel_is_idle(page)
    assert proxy.servers("demo") != [killed]


def test_index_opens_a_workspace_and_shows_that_it_runs(page: Page, proxy: Proxy) -> None:
    complaints = Complaints(page)

    page.goto(f"{proxy.url}/")
    page.get_by_label("Open the workspace").fill("other")
    page.get_by_role("button", name="Open").click()
    page.wait_for_url(f"{proxy.url}/ws/other/lab**")
    _until_lab_is_there(page)
    expect(page.locator(".jp-LauncherCard[data-category=Notebook]").first).to_be_visible()
    _show(page, "a_workspace_opened_from_the_index")
    page.goto(f"{proxy.url}/")

    expect(page.get_by_role("listitem").filter(has_text="other")).to_have_text("other running")
    assert complaints.seen == []


def test_bad_workspace_id_is_answered_with_a_page(page: Page, proxy: Proxy) -> None:
    response = page.goto(f"{proxy.url}/ws/Not_An_Id/lab")

    assert response is not None
    assert response.status == 404
    expect(page.get_by_role("heading", name="There can be no such workspace")).to_be_visible()
    expect(page.get_by_text("'Not_An_Id' is not a workspace id")).to_be_visible()
    page.get_by_role("link", name="All workspaces").click()
    expect(page).to_have_title(re.compile("Workspaces"))
