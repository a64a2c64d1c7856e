"""A person signs in with a token in the address, in Chromium: JupyterLab works, and the token is nowhere to be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from tests.auth.tokens import SECRET, token
from tests.e2e.browser import PATIENCE_MS, Complaints, barriers, look, run_in_new_notebook, until_lab_is_there

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page, Request

    from tests.e2e.conftest import Proxies

pytestmark = pytest.mark.browser


@pytest.fixture(autouse=True)
def _no_cookies(page: Page) -> Iterator[None]:
    """Tests share a browser; cookies know no port."""
    page.context.clear_cookies()
    yield
    page.context.clear_cookies()


def test_a_token_in_the_address_opens_jupyterlab_and_is_gone_from_it(
    page: Page, start: Proxies, tmp_path: Path
) -> None:
    secret = tmp_path / "jwt-secret"
    secret.write_text(SECRET)
    proxy = start("--auth=jwt", f"--jwt-secret-file={secret}")
    jwt = token("alice", "demo")
    complaints = Complaints(page)
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))  # noqa: PLW0108 - it marks what it calls; a method it cannot

    page.goto(f"{proxy.url}/ws/demo/lab?token={jwt}")
    until_lab_is_there(page)
    expect(run_in_new_notebook(page, "6*7")).to_have_text("42", timeout=PATIENCE_MS)

    assert jwt not in page.url
    assert page.evaluate("document.cookie").find("notebook-proxy") == -1
    assert jwt not in page.content()
    assert [request.url for request in asked if jwt in request.url] == [f"{proxy.url}/ws/demo/lab?token={jwt}"]
    assert not [request for request in asked if jwt in request.headers.get("referer", "")]
    assert complaints.seen == []
    assert not [part for part in jwt.split(".") if part in proxy.log()]


def test_who_has_signed_in_at_the_dashboard_opens_a_workspace_from_it_and_nobody_else_does(
    page: Page, start: Proxies, tmp_path: Path
) -> None:
    secret = tmp_path / "jwt-secret"
    secret.write_text(SECRET)
    proxy = start("--auth=jwt", f"--jwt-secret-file={secret}")

    refused = page.goto(f"{proxy.url}/")
    assert refused is not None
    assert refused.status == 401
    page.goto(f"{proxy.url}/?token={token('alice', 'demo')}")
    expect(page).to_have_url(f"{proxy.url}/")
    page.get_by_label("Open the workspace").fill("demo")
    page.get_by_role("button", name="Open").click()
    page.wait_for_url(f"{proxy.url}/ws/demo/lab**")
    until_lab_is_there(page)

    other = page.goto(f"{proxy.url}/ws/other/lab")
    assert other is not None
    assert other.status == 403
    assert proxy.servers("other") == []

    page.goto(f"{proxy.url}/")
    expect(page.get_by_text("Signed in as alice")).to_be_visible()
    assert barriers(page) == []
    look(page, "dashboard_signed_in")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    assert barriers(page) == []
    look(page, "signed_out")
    for address in ("/ws/demo/lab", "/"):
        refused = page.goto(f"{proxy.url}{address}")
        assert refused is not None
        assert refused.status == 401
