"""A forgotten tab: real JupyterLab in Chromium neither keeps its workspace running nor starts it again; a person does.

With the settings that `deploy/` recommends.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect

from tests.e2e import PATIENCE_SECONDS, until
from tests.e2e.browser import PATIENCE_MS, run_in_new_notebook, show, until_lab_is_there

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page, Response

    from tests.e2e import Proxy
    from tests.e2e.conftest import Proxies

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

# Long enough for a slow machine to open JupyterLab and run a cell without a pause.
IDLE_SECONDS: Final = 10
RECOMMENDED: Final = ("--activity=interactive", "--wake=intent", f"--idle-ttl={IDLE_SECONDS}s", "--reap-interval=1s")
# Keeps a page's websockets at hand, so that a test can break them as a network does.
KEEP_SOCKETS: Final = """
    const Original = window.WebSocket;
    window.kept = [];
    window.WebSocket = class extends Original {
        constructor(...given) { super(...given); window.kept.push(this); }
    };
"""
BREAK_KERNELS: Final = """
    const open = window.kept.filter(each => each.url.includes("/channels") && each.readyState === WebSocket.OPEN);
    open.forEach(each => each.close());
    open.length
"""


class Answers:
    """Counts what the page has been answered, by status, since the last reset."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.by_status: Counter[int] = Counter()
        page.on("response", self._on_response)

    def _on_response(self, response: Response) -> None:
        self.by_status[response.status] += 1

    def until(self, number: int, status: int) -> None:
        """Wait until the page has had so many answers of a status from now on, and lets others come meanwhile."""
        self.by_status.clear()
        for _ in range(int(PATIENCE_SECONDS * 10)):
            if self.by_status[status] >= number:
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"not within {PATIENCE_SECONDS:g} s: {number} answers {status}, only {self.by_status}")


def times(proxy: Proxy, what: str) -> int:
    return proxy.log().count(f"workspace {what}: id=demo ")


def until_stopped(page: Page, proxy: Proxy, number: int) -> None:
    """Wait until the workspace has been reaped so often, while the page goes on living."""
    for _ in range(int(PATIENCE_SECONDS * 10)):
        if times(proxy, "stopped") == number:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"not within {PATIENCE_SECONDS:g} s: the workspace is reaped for the {number}. time")


def sources(notebook: Path) -> list[str]:
    """Return what stands in the cells of a saved notebook; nothing while it is being written."""
    text = notebook.read_text()
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"]] if text.rstrip().endswith("}") else []


def test_open_tab_neither_keeps_nor_restarts_but_save_and_reload_do(page: Page, start: Proxies) -> None:
    proxy = start(*RECOMMENDED)
    page.add_init_script(KEEP_SOCKETS)
    answers = Answers(page)
    page.goto(f"{proxy.url}/ws/demo/lab")
    until_lab_is_there(page)
    expect(run_in_new_notebook(page, "6*7")).to_have_text("42", timeout=PATIENCE_MS)
    page.keyboard.press("Control+s")
    page.locator(".jp-Dialog .jp-mod-accept").click()  # a new notebook is asked for its name
    notebook = proxy.root / "demo" / "Untitled.ipynb"
    until(lambda: "6*7" in sources(notebook), "the notebook is saved")
    page.locator(".jp-Notebook .jp-CodeCell").nth(1).locator(".cm-content").click()
    page.keyboard.type("unsaved = 1")
    assert times(proxy, "starting") == 1

    # Untouched, but on an unsteady network: the tab polls, and connects to the kernel again and again.
    answers.by_status.clear()
    breaks = 0
    while times(proxy, "stopped") == 0:
        assert breaks < PATIENCE_SECONDS, "the open tab keeps its workspace running"
        breaks += page.evaluate(BREAK_KERNELS)
        page.wait_for_timeout(1000)
    assert answers.by_status[200] > 2  # it did poll
    assert breaks > 2
    assert "unsaved" not in notebook.read_text()

    # What it asks by itself is refused. JupyterLab says once that it has lost its server, and nothing else.
    answers.until(5, 503)
    lost = page.locator(".jp-Dialog")
    expect(lost).to_have_count(1)
    expect(lost).to_contain_text("Server Connection Error")
    show(page, "an_open_tab_after_a_reap")
    lost.get_by_role("checkbox").check()  # not to be told again
    lost.get_by_role("button", name="Close").click()
    answers.until(2, 503)
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    assert times(proxy, "starting") == 1
    assert proxy.servers("demo") == []

    page.keyboard.press("Control+s")
    until(lambda: "unsaved = 1" in sources(notebook), "the notebook is saved, with what was typed before the reap")
    assert times(proxy, "starting") == 2
    expect(page.locator(".jp-Dialog")).to_have_count(0)
    show(page, "a_save_after_a_reap")

    until_stopped(page, proxy, 2)
    answers.until(2, 503)
    assert times(proxy, "starting") == 2
    page.reload()
    until_lab_is_there(page)
    assert times(proxy, "starting") == 3
    expect(page.locator(".jp-Notebook .jp-CodeCell").nth(1)).to_contain_text("unsaved = 1", timeout=PATIENCE_MS)
    assert "WARNING" not in proxy.log()
