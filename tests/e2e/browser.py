"""What the browser tests share: complaints of a page, pictures of it, and JupyterLab as a person uses it."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

from playwright.sync_api import expect

from tests.e2e import PATIENCE_SECONDS, REPOSITORY

if TYPE_CHECKING:
    from playwright.sync_api import ConsoleMessage, Locator, Page, Request, Response

PATIENCE_MS: Final = PATIENCE_SECONDS * 1000
expect.set_options(timeout=PATIENCE_MS)  # of every expectation: it is a condition, not a time, that is waited for
_AXE: Final = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")


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


def show(page: Page, name: str) -> None:
    """Keep how a page looks in `test-output/`."""
    page.screenshot(path=REPOSITORY / "test-output" / f"{name}.png")


def until_lab_is_there(page: Page) -> None:
    """Wait until JupyterLab has loaded."""
    expect(page.locator("#jp-top-panel")).to_be_visible(timeout=PATIENCE_MS)
    expect(page.locator("#jupyterlab-splash")).to_have_count(0, timeout=PATIENCE_MS)


def until_kernel_is_idle(page: Page) -> None:
    """Wait until the notebook's kernel has started."""
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=PATIENCE_MS)


def run_in_new_notebook(page: Page, code: str) -> Locator:
    """Open a notebook from the launcher, run its first cell; return that cell's output."""
    page.locator(".jp-LauncherCard[data-category=Notebook]").first.click()
    until_kernel_is_idle(page)
    cell = page.locator(".jp-Notebook .jp-CodeCell").first
    cell.locator(".cm-content").click()
    page.keyboard.type(code)
    page.keyboard.press("Shift+Enter")
    return cell.locator(".jp-OutputArea-output")


def look(page: Page, name: str) -> None:
    """Keep how a page of ours looks, light and dark, wide and at 320 px; fail if it must be scrolled sideways there."""
    size = page.viewport_size
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        show(page, f"{name}_{scheme}")
        page.set_viewport_size({"width": 320, "height": 640})
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        page.screenshot(path=REPOSITORY / "test-output" / f"{name}_{scheme}_320.png", full_page=True)
        if size is not None:
            page.set_viewport_size(size)
    page.emulate_media(color_scheme="no-preference")


def barriers(page: Page) -> list[str]:
    """Return what axe-core finds that would keep somebody from using a page, in both colour schemes."""
    page.evaluate(_AXE)  # evaluated by the browser's debugger, which the page's policy does not bind
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        result = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        for violation in result["violations"]:
            found += [f"{scheme}: {violation['id']}: {node['html'][:200]}" for node in violation["nodes"]]
    page.emulate_media(color_scheme="no-preference")
    return found
