"""What a hostile notebook, or another site's page, achieves in Chromium: nothing beyond its own workspace."""

from __future__ import annotations

import http.client
import shlex
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.e2e import REPOSITORY, hostile_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import BrowserContext, Page

    from tests.e2e.conftest import Proxies

pytestmark = pytest.mark.browser

_PAYLOADS: Final = REPOSITORY / "tests" / "corpora" / "openredirects.txt"
_ELSEWHERE: Final = "http://hub.localhost:8999/"  # another port: another origin, of the same site


@pytest.fixture
def hub(start: Proxies) -> str:
    """The address of a proxy whose notebooks are hostile, under a name that has subdomains."""
    command = [sys.executable, hostile_server.__file__, "{port}", str(_PAYLOADS)]
    proxy = start(f"--notebook-command={shlex.join(command)}")
    assert proxy.get("/ws/demo/api").status == 200
    return f"http://hub.localhost:{proxy.port}"


@pytest.fixture
def page(context: BrowserContext, page: Page) -> Iterator[Page]:
    """A page in a browser that has a cookie of the proxy's."""
    context.clear_cookies()
    context.add_cookies([{"name": "notebook-proxy", "value": "real", "domain": "hub.localhost", "path": "/"}])
    yield page
    context.clear_cookies()


def _locations(hub: str) -> list[str]:
    """Return the paths of the redirects that are passed on, each with us for the payload's own hosts."""
    host = hub.removeprefix("http://")
    connection = http.client.HTTPConnection("127.0.0.1", int(host.partition(":")[2]))
    paths, refused = [], 0
    for number, payload in enumerate(_PAYLOADS.read_bytes().splitlines()):
        if not payload:
            continue  # it leads to itself
        path = f"/ws/demo/location/{number}?host={host}"
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (302, 502)
        refused += answer.status == 502
        location = answer.getheader("Location") or ""
        if answer.status == 302 and not location.startswith(f"https://{host}/"):  # our host, but no TLS is spoken
            paths.append(path)
    connection.close()
    assert refused > len(paths)
    return paths


def test_a_browser_that_follows_a_notebooks_redirects_stays_here(hub: str, page: Page) -> None:
    paths = _locations(hub)
    page.goto(f"{hub}/ws/demo/")

    ends = page.evaluate(
        "paths => Promise.all(paths.map(p => fetch(p).then(a => new URL(a.url).origin, e => p + e)))", paths
    )

    assert set(ends) == {hub}


def test_a_notebooks_cookies_stay_in_its_workspace_and_replace_none_of_ours(
    hub: str, page: Page, context: BrowserContext
) -> None:
    page.goto(f"{hub}/ws/demo/cookies")

    cookies: list[Any] = [dict(cookie) for cookie in context.cookies()]
    ours = [cookie for cookie in cookies if "notebook-proxy" in f"{cookie['name']}={cookie['value']}".lower()]
    theirs = [cookie for cookie in cookies if cookie not in ours]
    assert [(cookie["name"], cookie["value"], cookie["path"]) for cookie in ours] == [("notebook-proxy", "real", "/")]
    assert {cookie["name"] for cookie in theirs} == {
        "mine", "wide", "pathless", "shared", "dotted", "neighbour", "quoted",
    }  # fmt: skip
    assert {(cookie["path"], cookie["domain"]) for cookie in theirs} == {("/ws/demo/", "hub.localhost")}
    seen = page.evaluate("() => fetch('/ws/demo/seen').then(answer => answer.json())")
    assert "mine=1" in seen[-1]
    assert "notebook-proxy" not in seen[-1]


def test_a_notebook_gets_no_power_over_the_whole_origin(hub: str, page: Page) -> None:
    page.goto(f"{hub}/ws/demo/")
    page.evaluate("localStorage.setItem('kept', 'yes')")

    page.evaluate("fetch('/ws/demo/wide').then(answer => answer.text())")
    register = "scope => navigator.serviceWorker.register('/ws/demo/worker.js', {scope}).then(() => 'yes', e => e.name)"

    assert page.evaluate("localStorage.getItem('kept')") == "yes"
    assert page.evaluate(register, "/") == "SecurityError"
    assert page.evaluate(register, "/ws/other/") == "SecurityError"
    assert page.evaluate(register, "/ws/demo/") == "yes"


def test_pages_of_the_proxy_cannot_be_framed(hub: str, page: Page) -> None:
    page.goto(f"{hub}/ws/demo/", wait_until="load")

    (frame,) = page.frames[1:]

    assert frame.url.startswith("chrome-error:")


def test_another_origin_of_the_same_site_can_neither_act_nor_listen_nor_look(hub: str, page: Page) -> None:
    page.route(f"{_ELSEWHERE}**", lambda route: route.fulfill(body="<!doctype html>", content_type="text/html"))
    page.goto(f"{hub}/ws/demo/")
    page.goto(_ELSEWHERE)

    tried = page.evaluate(
        """async hub => {
            const send = options => fetch(hub + "/ws/demo/try", {mode: "no-cors", credentials: "include", ...options});
            await Promise.all(["GET", "POST"].map(method => send({method}).catch(() => null)));
            const listen = new WebSocket(hub.replace("http", "ws") + "/ws/demo/try");
            const opened = await new Promise(done => {
                listen.onopen = () => done(true);
                listen.onerror = () => done(false);
            });
            const image = new Image();
            const shown = new Promise(done => { image.onload = () => done(true); image.onerror = () => done(false); });
            image.src = hub + "/ws/demo/try";
            return [opened, await shown];
        }""",
        hub,
    )

    assert tried == [False, False]
    page.goto(f"{hub}/ws/demo/")
    seen = page.evaluate("() => fetch('/ws/demo/seen').then(answer => answer.json())")
    assert not [request for request in seen if "/try" in request]


def test_another_sites_form_starts_nothing(hub: str, page: Page, start: Proxies) -> None:
    form = f"<!doctype html><form method=post action='{hub}/ws/other/try'><button>x</button></form>"
    page.route(f"{_ELSEWHERE}**", lambda route: route.fulfill(body=form, content_type="text/html"))
    page.goto(_ELSEWHERE)

    with page.expect_response(f"{hub}/ws/other/try") as answer:
        page.click("button")

    assert answer.value.status == 403
    assert not (start.started[0].root / "other").exists()
