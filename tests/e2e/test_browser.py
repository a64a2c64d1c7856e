"""What a person sees: JupyterLab, the index and an error page, in Chromium, through the proxy.

Screenshots are left in `test-output/`.
"""

from __future__ import annotations

import json
import os
import re
import signal
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.e2e import until
from tests.e2e.browser import (
    PATIENCE_MS,
    Complaints,
    run_in_new_notebook,
    show,
    until_kernel_is_idle,
    until_lab_is_there,
)

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.e2e import Proxy

pytestmark = pytest.mark.browser


def test_notebook_is_created_run_saved_and_there_again_after_a_kill(page: Page, proxy: Proxy) -> None:
    complaints = Complaints(page)

    page.goto(f"{proxy.url}/ws/demo/lab")
    until_lab_is_there(page)
    output = run_in_new_notebook(page, "6*7")
    expect(output).to_have_text("42", timeout=PATIENCE_MS)
    show(page, "a_cell_has_run")

    page.keyboard.press("Control+s")
    page.locator(".jp-Dialog .jp-mod-accept").click()  # a new notebook is asked for its name
    saved = proxy.root / "demo" / "Untitled.ipynb"
    until(lambda: '"42"' in saved.read_text(), "the notebook is saved with its output")
    assert json.loads(saved.read_text())["cells"][0]["source"] == ["6*7"]
    assert complaints.seen == []

    (killed,) = proxy.servers("demo")
    os.kill(killed, signal.SIGKILL)
    page.reload()
    until_lab_is_there(page)
    expect(output).to_have_text("42", timeout=PATIENCE_MS)
    until_kernel_is_idle(page)
    assert proxy.servers("demo") != [killed]


def test_index_opens_a_workspace_and_shows_that_it_runs(page: Page, proxy: Proxy) -> None:
    complaints = Complaints(page)

    page.goto(f"{proxy.url}/")
    page.get_by_label("Open the workspace").fill("other")
    page.get_by_role("button", name="Open").click()
    page.wait_for_url(f"{proxy.url}/ws/other/lab**")
    until_lab_is_there(page)
    expect(page.locator(".jp-LauncherCard[data-category=Notebook]").first).to_be_visible()
    show(page, "a_workspace_opened_from_the_index")
    page.goto(f"{proxy.url}/")

    row = page.locator("li.row").filter(has=page.get_by_role("link", name="other", exact=True))
    expect(row.locator(".chip")).to_have_text("running")
    assert complaints.seen == []


def test_bad_workspace_id_is_answered_with_a_page(page: Page, proxy: Proxy) -> None:
    response = page.goto(f"{proxy.url}/ws/Not_An_Id/lab")

    assert response is not None
    assert response.status == 404
    expect(page.get_by_role("heading", name="There can be no such workspace")).to_be_visible()
    expect(page.get_by_text("'Not_An_Id' is not a workspace id")).to_be_visible()
    page.get_by_role("link", name="All workspaces").click()
    expect(page).to_have_title(re.compile("Workspaces"))
