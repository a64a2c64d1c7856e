"""One workspace's page against another's workspace: in Chromium, real notebook servers, and somebody who uses both.

The hostile page is whatever a notebook may show: its script runs in JupyterLab's own page. Each attack has its control:
the same thing works for the workspace's own page, or where all workspaces share one host.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.auth.tokens import SECRET, token
from tests.cluster.tls import make_server_context
from tests.e2e import until
from tests.e2e.browser import PATIENCE_MS, Complaints, run_in_new_notebook, show, until_lab_is_there
from tests.e2e.conftest import BROWSER_FLAGS, Proxies

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import BrowserContext, Page

    from tests.e2e import Proxy

pytestmark = pytest.mark.browser

BASE: Final = "nb.test"
SECRET_TEXT: Final = "what only good's people may read"
_NAMES: Final = (  # of this machine, without any name server
    f"--host-resolver-rules=MAP {BASE} 127.0.0.1, MAP *.{BASE} 127.0.0.1",
    "--ignore-certificate-errors",  # for service workers, too, which playwright's own setting does not reach
)
# Each of these runs in a page, and returns what came of it.
FETCH: Final = """async ([url, init]) => {
    try {
        const answer = await fetch(url, {credentials: "include", ...init});
        return [answer.type, answer.status, await answer.text()];
    } catch (error) { return ["refused", 0, String(error)]; }
}"""
WEBSOCKET: Final = """url => new Promise(done => {
    const socket = new WebSocket(url);
    socket.onopen = () => { done("open"); socket.close(); };
    socket.onerror = () => done("refused");
})"""
REGISTER: Final = """async ([script, options]) => {
    try {
        const made = await navigator.serviceWorker.register(script, options);
        const scope = made.scope;
        await made.unregister();
        return scope;
    } catch (error) { return error.name; }
}"""
FRAME: Final = """url => new Promise(done => {
    const frame = document.createElement("iframe");
    frame.onload = () => {
        let seen = "nothing";
        try { seen = frame.contentDocument ? frame.contentDocument.body.innerText : "nothing"; } catch (error) {}
        frame.remove();
        done(seen);
    };
    frame.src = url;
    document.body.append(frame);
})"""
SUBMIT: Final = """url => {
    const form = document.createElement("form");
    Object.assign(form, {method: "post", action: url, target: "_blank"});
    document.body.append(form);
    form.submit();
    form.remove();
}"""
REACH: Final = """other => {
    const seen = {};
    for (const what of ["document", "location.href", "localStorage", "fetch"]) {
        try { seen[what] = String(what.split(".").reduce((object, name) => object[name], other)); }
        catch (error) { seen[what] = error.name; }
    }
    return seen;
}"""


@pytest.fixture(scope="module")
def context(chromium: Path) -> Iterator[BrowserContext]:
    """A browser for which every name below the base domain is this machine."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*BROWSER_FLAGS, *_NAMES])
        context = browser.new_context(viewport={"width": 1200, "height": 800}, ignore_https_errors=True)
        context.set_default_timeout(PATIENCE_MS)
        yield context
        browser.close()


@pytest.fixture
def by_host(start: Proxies, tmp_path: Path) -> Proxy:
    """A proxy with a host for each workspace, which speaks TLS itself."""
    make_server_context(tmp_path, BASE, f"*.{BASE}")
    tls = (f"--tls-cert={tmp_path / 'server.crt'}", f"--tls-key={tmp_path / 'server.key'}")
    return _serve(start, tmp_path, *tls, "--routing=host", f"--base-domain={BASE}")


@pytest.fixture
def by_path(start: Proxies, tmp_path: Path) -> Proxy:
    """A proxy that serves every workspace at one host."""
    return _serve(start, tmp_path)


def _serve(start: Proxies, directory: Path, *flags: str) -> Proxy:
    (directory / "secret").write_text(SECRET)
    proxy = start("--auth=jwt", f"--jwt-secret-file={directory / 'secret'}", *flags)
    for name in ("good", "evil"):
        (proxy.root / name).mkdir(parents=True)
    (proxy.root / "good/secret.txt").write_text(SECRET_TEXT)
    (proxy.root / "evil/worker.js").write_text("self.onfetch = event => event.respondWith(new Response('mine'))")
    return proxy


def test_no_workspaces_page_reaches_anothers_where_each_has_a_host(context: BrowserContext, by_host: Proxy) -> None:
    good, evil, main = (f"https://{name}:{by_host.port}" for name in (f"good.{BASE}", f"evil.{BASE}", BASE))
    mine = context.new_page()
    complaints = Complaints(mine)

    # Somebody signs in at the main host, and works at two workspaces' hosts, without being asked again.
    mine.goto(f"{main}/?token={token('alice', 'good', 'evil')}")
    assert mine.url == f"{main}/"
    mine.goto(f"{main}/ws/good/lab")
    mine.wait_for_url(f"{good}/ws/good/lab**")
    until_lab_is_there(mine)
    expect(run_in_new_notebook(mine, "6*7")).to_have_text("42", timeout=PATIENCE_MS)
    show(mine, "a_workspace_at_its_own_host")
    assert complaints.seen == []
    hostile = context.new_page()
    hostile.goto(f"{evil}/ws/evil/lab")
    hostile.wait_for_url(f"{evil}/ws/evil/lab**")
    until_lab_is_there(hostile)
    answers = _answers(hostile)
    servers = by_host.servers("good")

    _reads_nothing(hostile, mine, good, main)
    _sends_nothing(hostile, good, main, by_host)
    _opens_no_websocket(hostile, mine, good)
    _tosses_cookies_in_vain(hostile, mine, good, main, by_host.port)
    _serves_nothing_to_others(hostile, good, evil)
    _frames_nobody(hostile, good, main)
    _reaches_no_window(hostile, good, main)

    strays = [(url, status) for url, status in answers if url.startswith((good, main))]
    assert {status for _, status in strays} == {403}, strays
    asked = {url for url, _ in strays}
    assert {f"{good}/ws/good/files/secret.txt", f"{good}/ws/good/lab", f"{main}/", f"{main}/api/workspaces"} <= asked
    _takes_no_ticket(hostile, evil, main)
    assert by_host.servers("good") == servers
    assert (by_host.root / "good/secret.txt").read_text() == SECRET_TEXT


def _answers(page: Page) -> list[tuple[str, int]]:
    """Gather how each request of a page and its frames is answered from now on, also where the page may not know it."""
    asked: dict[str, str] = {}
    seen: list[tuple[str, int]] = []
    session = page.context.new_cdp_session(page)
    session.on("Network.requestWillBeSent", lambda event: asked.update({event["requestId"]: event["request"]["url"]}))
    session.on(
        "Network.responseReceivedExtraInfo",
        lambda event: seen.append((asked.get(event["requestId"], ""), event["statusCode"])),
    )
    session.send("Network.enable")
    return seen


def _reads_nothing(hostile: Page, mine: Page, good: str, main: str) -> None:
    secret = f"{good}/ws/good/files/secret.txt"
    assert mine.evaluate(FETCH, [secret, {}]) == ["basic", 200, SECRET_TEXT]

    for url in (
        secret,
        f"{good}/ws/good/api/contents/secret.txt",
        f"{good}/ws/good/_proxy/status",
        f"{main}/",
        f"{main}/api/workspaces",
    ):
        for init in ({}, {"mode": "no-cors"}, {"headers": {"X-Mine": "1"}}):
            kind, status, text = hostile.evaluate(FETCH, [url, init])
            assert (kind in ("refused", "opaque"), status, SECRET_TEXT in text) == (True, 0, False), url
    by_main = hostile.evaluate(FETCH, [f"{main}/ws/good/files/secret.txt", {"mode": "no-cors"}])
    assert by_main[0] in ("refused", "opaque")
    here = hostile.evaluate(FETCH, ["/ws/good/files/secret.txt", {}])
    assert here[1] == 404
    assert SECRET_TEXT not in here[2]


def _sends_nothing(hostile: Page, good: str, main: str, proxy: Proxy) -> None:
    made = proxy.root / "good/planted.txt"
    body = json.dumps({"type": "file", "format": "text", "content": "x"})
    for method, mode in (("PUT", "cors"), ("POST", "no-cors"), ("DELETE", "cors")):
        url = f"{good}/ws/good/api/contents/{'' if method == 'POST' else 'planted.txt'}"
        hostile.evaluate(FETCH, [url, {"method": method, "mode": mode, "body": body}])
    for url in (f"{good}/ws/good/_proxy/stop", f"{main}/api/workspaces/good/stop", f"{good}/ws/good/api/shutdown"):
        with hostile.context.expect_page() as opened:
            hostile.evaluate(SUBMIT, url)
        opened.value.wait_for_load_state()
        assert "another site" in opened.value.inner_text("body")
        opened.value.close()
    assert not made.exists()


def _opens_no_websocket(hostile: Page, mine: Page, good: str) -> None:
    url = f"{good}/ws/good/api/events/subscribe".replace("https:", "wss:")
    assert mine.evaluate(WEBSOCKET, url) == "open"

    assert hostile.evaluate(WEBSOCKET, url) == "refused"


def _tosses_cookies_in_vain(hostile: Page, mine: Page, good: str, main: str, port: int) -> None:
    """A page may set cookies for all hosts of its domain, but none that could be taken for one of ours."""
    assert hostile.evaluate("document.cookie.includes('notebook-proxy')") is False
    names = [
        f"{prefix}notebook-proxy{kind}"
        for prefix in ("__Host-", "__Secure-", "")
        for kind in ("-session", "-site", "-state", "")
    ]
    for name in names:
        for path in ("/", "/ws/good/"):
            hostile.evaluate(f"document.cookie = '{name}=tossed; Domain={BASE}; Path={path}; Secure'")
    tossed = {cookie["name"] for cookie in hostile.context.cookies(f"{good}/ws/good/") if cookie["value"] == "tossed"}
    assert "notebook-proxy-session" in tossed
    assert not [name for name in tossed if name.startswith("__Host-")]

    assert mine.evaluate(FETCH, [f"{good}/ws/good/files/secret.txt", {}])[2] == SECRET_TEXT
    there = mine.context.new_page()
    there.goto(f"{main}/")
    assert urlsplit(there.url).netloc == f"{BASE}:{port}"
    expect(there.get_by_role("heading", name="good", exact=True)).to_be_visible()
    there.close()
    for name in names:
        hostile.evaluate(f"document.cookie = '{name}=; Domain={BASE}; Path=/; Max-Age=0; Secure'")


def _serves_nothing_to_others(hostile: Page, good: str, evil: str) -> None:
    script = "/ws/evil/files/worker.js"
    assert hostile.evaluate(REGISTER, [script, {}]) == f"{evil}/ws/evil/files/"

    for options in (
        {"scope": "/"},
        {"scope": "/ws/"},
        {"scope": "/ws/good/"},
        {"scope": "/auth"},
        {"scope": f"{good}/"},
    ):
        assert hostile.evaluate(REGISTER, [script, options]) == "SecurityError"
    assert hostile.evaluate(REGISTER, [f"{good}/ws/good/files/worker.js", {}]) == "SecurityError"


def _frames_nobody(hostile: Page, good: str, main: str) -> None:
    for url in (f"{good}/ws/good/lab", f"{good}/ws/good/files/secret.txt", f"{good}/ws/good/_proxy/", f"{main}/"):
        assert hostile.evaluate(FRAME, url) == "nothing"


def _reaches_no_window(hostile: Page, good: str, main: str) -> None:
    for url, shown in ((f"{good}/ws/good/lab", "#jp-top-panel"), (f"{main}/", "main")):
        with hostile.context.expect_page() as opened:
            other = hostile.evaluate_handle("url => window.open(url)", url)
        expect(opened.value.locator(shown)).to_be_visible()  # a navigation may come from anywhere

        seen: dict[str, Any] = hostile.evaluate(REACH, other)

        assert seen == dict.fromkeys(seen, "SecurityError")
        assert opened.value.evaluate("try { window.opener.document } catch (error) { error.name }") == "SecurityError"
        opened.value.close()


def _takes_no_ticket(hostile: Page, evil: str, main: str) -> None:
    """With a ticket for a value of its own it could be its visitor elsewhere, for as long as their token holds.

    It has pushed the session out of the browser, and its cookies are too much for its own host: a page of an error,
    which is of its own origin, then stands at the ticket's address.
    """
    hostile.evaluate("for (let n = 0; n < 12; n++) document.cookie = `c${n}=${'x'.repeat(3900)}; Path=/auth; Secure`")
    hostile.context.clear_cookies(name="__Host-notebook-proxy-session", domain=urlsplit(evil).hostname)
    with hostile.context.expect_page() as opened:
        other = hostile.evaluate_handle("url => window.open(url)", f"{main}/auth?to=/ws/evil/lab&browser={'a' * 43}")
    opened.value.wait_for_url(f"{evil}/auth?ticket=**")

    seen = hostile.evaluate(
        "other => { try { return other.location.href } catch (error) { return error.name } }", other
    )

    assert "ticket" not in seen
    assert opened.value.evaluate("window.opener") is None
    opened.value.close()


def test_all_workspaces_share_one_origin_where_they_share_a_host(context: BrowserContext, by_path: Proxy) -> None:
    """What the README says plainly: path routing is for people who trust each other."""
    page = context.new_page()
    for name in ("good", "evil"):
        page.goto(f"{by_path.url}/ws/{name}/files/secret.txt?token={token('alice', 'good', 'evil')}")
        until(lambda name=name: by_path.servers(name), "it has started")  # type: ignore[misc]
    page.goto(f"{by_path.url}/ws/evil/lab")
    until_lab_is_there(page)

    assert page.evaluate(FETCH, ["/ws/good/files/secret.txt", {}]) == ["basic", 200, SECRET_TEXT]
    assert page.evaluate(WEBSOCKET, f"ws://127.0.0.1:{by_path.port}/ws/good/api/events/subscribe") == "open"
