"""Who has signed out opens nothing with a cookie of before: at no workspace, and on no workspace's host."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.auth.tokens import SECRET, token
from tests.relay.origin import Answers, ask

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Message

JWT: Final = {"auth": "jwt", "jwt_secret": SECRET}
HOSTS: Final = {**JWT, "routing": "host", "base_domain": "nb.test"}
GOOD: Final = token("alice", "demo", "other")
PAGE: Final = ("Sec-Fetch-Mode: navigate", "Sec-Fetch-Dest: document", "Accept: text/html")
HTTPS: Final = "X-Forwarded-Proto: https"
LOCAL: Final = (ip_network("127.0.0.0/8"),)


class Browser:
    """Keeps cookies by host and path, as a browser does that is behind https; it follows nothing."""

    def __init__(self, proxy: Proxy, base: str = "nb.test") -> None:
        self.proxy = proxy
        self.base = base
        self.jar: dict[tuple[str, str, str], str] = {}  # domain (with a dot: wide), path, name

    def cookies(self, host: str, target: str) -> str:
        sent = [
            f"{name}={value}"
            for (domain, path, name), value in self.jar.items()
            if target.startswith(path) and (host == domain or (domain[0] == "." and f".{host}".endswith(domain)))
        ]
        return "; ".join(sent)

    async def do(self, target: str, *lines: str, host: str = "", method: str = "GET") -> Message:
        host = host or self.base
        cookies = self.cookies(host, target)
        acts = (f"Origin: https://{host}",) if method != "GET" else ()
        sent = (f"Cookie: {cookies}",) if cookies else ()
        request = ask(target, HTTPS, *sent, *acts, *lines, host=host, method=method)
        answer = await (await self.proxy.sent(request)).take_response()
        for line in answer.values(b"set-cookie"):
            cookie, *attributes = line.decode().split("; ")
            said = dict(attribute.partition("=")[::2] for attribute in attributes)
            assert {"HttpOnly", "Secure"} <= set(said)
            assert said["SameSite"] == "Lax"
            name, _, value = cookie.partition("=")
            assert not (name.startswith("__Host-") and ("Domain" in said or said["Path"] != "/"))
            key = f".{said['Domain']}" if "Domain" in said else host, said["Path"], name
            self.jar.pop(key, None) if said["Max-Age"] == "0" else self.jar.update({key: value})
        return answer

    async def status(self, target: str, host: str = "") -> int:
        """Return the status of what no navigation asks for."""
        return (await self.do(target, host=host)).status


async def signed_in(proxy: Proxy, target: str = "/ws/demo/lab", credential: str = GOOD) -> Browser:
    browser = Browser(proxy)
    assert (await browser.do(f"{target}?token={credential}", *PAGE)).status == 303
    return browser


async def test_who_has_signed_out_opens_no_workspace_whose_cookie_was_never_seen_by_the_answer(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers, auth=JWT, trusted=LOCAL)
    browser = await signed_in(proxy)
    assert (await browser.status("/ws/demo/api"), await browser.status("/api/workspaces")) == (200, 200)
    stolen = browser.cookies("nb.test", "/ws/demo/api")

    answer = await browser.do("/api/sign-out", method="POST")

    assert answer.status == 204
    assert (await browser.status("/ws/demo/api"), await browser.status("/api/workspaces")) == (401, 401)
    assert [path for _, path, _ in browser.jar] == ["/ws/demo/", "/"]  # the workspace's is there, and worth nothing
    assert not [request for request in answers.requests if b"notebook-proxy-out" in request.head]
    # What somebody has copied holds on: that is what the lifetime of tokens is for.
    copied = ask("/ws/demo/api", HTTPS, f"Cookie: {stolen}", host="nb.test")
    assert (await (await proxy.sent(copied)).take_response()).status == 200


async def test_the_next_who_signs_in_there_is_nowhere_the_one_before(launch: Launch) -> None:
    proxy = await launch(Answers(), auth=JWT, trusted=LOCAL)
    browser = await signed_in(proxy)
    await browser.do("/api/sign-out", method="POST")

    answer = await browser.do(f"/?token={token('bob', 'his')}", *PAGE)

    assert answer.status == 303
    assert await browser.status("/api/workspaces/his") == 200
    assert await browser.status("/ws/demo/api") == 401
    page = await browser.do("/ws/demo/lab", *PAGE)  # bob is asked for at /auth, and it is not his
    assert page.values(b"location") == [b"/auth?to=/ws/demo/lab"]
    assert (await browser.do("/auth?to=/ws/demo/lab", *PAGE)).status == 403


async def test_a_browser_signs_in_and_out_as_often_as_it_likes(launch: Launch) -> None:
    proxy = await launch(Answers(), auth=JWT, trusted=LOCAL)
    browser = Browser(proxy)

    for _ in range(3):
        assert (await browser.do(f"/?token={GOOD}", *PAGE)).status == 303
        assert (await browser.do("/auth?to=/ws/demo/api", *PAGE)).status == 303
        assert (await browser.status("/ws/demo/api"), await browser.status("/")) == (200, 200)
        before = browser.jar["nb.test", "/ws/demo/", "__Secure-notebook-proxy"]
        assert (await browser.do("/api/sign-out", method="POST")).status == 204
        browser.jar["nb.test", "/", "__Host-notebook-proxy-site"] = before
        assert (await browser.status("/ws/demo/api"), await browser.status("/")) == (401, 401)
        assert not (await browser.do("/ws/demo/lab", *PAGE)).values(b"location")  # and is not led in a circle


async def test_a_person_is_told_and_goes_on_to_where_they_sign_out(launch: Launch) -> None:
    proxy = await launch(auth={**JWT, "logout_url": "https://login.example.org/out?a=1&b=2"}, trusted=LOCAL)
    browser = await signed_in(proxy)

    page = await browser.do("/", *PAGE)
    answer = await browser.do("/api/sign-out", *PAGE, method="POST")

    assert b"Signed in as <b>alice</b>" in page.body
    assert (answer.status, answer.values(b"location")) == (200, [])
    assert b"You are signed out" in answer.body
    assert b'content="0; url=https://login.example.org/out?a=1&amp;b=2"' in answer.body


@pytest.mark.parametrize(
    ("lines", "method", "status"),
    [
        (("Origin: https://evil.example",), "POST", 403),
        (("Origin: https://nb.test", "Sec-Fetch-Site: cross-site"), "POST", 403),
        ((), "POST", 403),
        ((), "GET", 405),
        (("Origin: https://nb.test",), "DELETE", 405),
    ],
)
async def test_no_page_of_another_site_signs_anybody_out(
    launch: Launch, lines: tuple[str, ...], method: str, status: int
) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)
    cookie = f"Cookie: __Host-notebook-proxy-site={GOOD}"

    answer = await (
        await proxy.sent(ask("/api/sign-out", HTTPS, cookie, *lines, host="nb.test", method=method))
    ).take_response()

    assert (answer.status, answer.values(b"set-cookie")) == (status, [])


@pytest.mark.parametrize(
    ("auth", "status"),
    [
        ({}, 404),
        ({"auth": "forward"}, 404),
        ({"auth": "forward", "logout_url": "/oauth2/sign_out"}, 204),
    ],
)
async def test_there_is_a_way_out_where_it_is_known(launch: Launch, auth: dict[str, Any], status: int) -> None:
    proxy = await launch(auth=auth, trusted=LOCAL)
    who = ("Origin: http://localhost", "X-Forwarded-User: alice")

    answer = await (await proxy.sent(ask("/api/sign-out", *who, method="POST"))).take_response()
    page = await (await proxy.sent(ask("/", *who[1:], *PAGE))).take_response()

    assert answer.status == status
    assert (b'data-leaves="" hidden' in page.body or b"data-leaves hidden" in page.body) == (status == 404)


async def test_who_signs_out_at_the_main_host_is_out_on_every_workspaces_host(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers, auth=HOSTS, trusted=LOCAL)
    browser = Browser(proxy)
    await browser.do(f"/?token={GOOD}", *PAGE)
    for name in ("demo", "other"):
        await browser.do(f"/ws/{name}/api?token={GOOD}", *PAGE, host=f"{name}.nb.test")
        assert await browser.status(f"/ws/{name}/api", host=f"{name}.nb.test") == 200

    answer = await browser.do("/api/sign-out", method="POST")

    assert answer.status == 204
    assert (".nb.test", "/", "__Secure-notebook-proxy-out") in browser.jar
    for name in ("demo", "other"):
        assert await browser.status(f"/ws/{name}/api", host=f"{name}.nb.test") == 401
    assert await browser.status("/api/workspaces") == 401
    assert not [request for request in answers.requests if b"notebook-proxy" in request.head.lower()]

    await browser.do(f"/ws/demo/api?token={GOOD}", *PAGE, host="demo.nb.test")
    assert await browser.status("/ws/demo/api", host="demo.nb.test") == 200
    assert await browser.status("/ws/other/api", host="other.nb.test") == 401


async def test_a_ticket_from_before_a_sign_out_opens_nothing(launch: Launch) -> None:
    proxy = await launch(auth=HOSTS, trusted=LOCAL)
    browser = Browser(proxy)
    await browser.do(f"/?token={GOOD}", *PAGE)
    away = await browser.do("/ws/demo/_proxy/", *PAGE, host="demo.nb.test")
    back = await browser.do(away.values(b"location")[0].decode().removeprefix("https://nb.test"), *PAGE)
    way_in = back.values(b"location")[0].decode().removeprefix("https://demo.nb.test")

    await browser.do("/api/sign-out", method="POST")
    await browser.do(way_in, *PAGE, host="demo.nb.test")

    assert await browser.status("/ws/demo/_proxy/status", host="demo.nb.test") == 401


async def test_a_sibling_host_signs_people_out_at_most(launch: Launch) -> None:
    """It can set a second cookie of that name, for the whole domain; nobody comes in again by that."""
    proxy = await launch(auth=HOSTS, trusted=LOCAL)
    browser = Browser(proxy)
    target, host = "/ws/demo/_proxy/status", "demo.nb.test"
    await browser.do(f"{target}?token={GOOD}", *PAGE, host=host)
    session = browser.cookies(host, target)
    await browser.do(f"/?token={GOOD}", *PAGE)
    await browser.do("/api/sign-out", method="POST")

    for value in ("0", "", "x", "-1", "1.0", "01", "999999999999999", "\xb9"):
        lines = (HTTPS, f"Cookie: {session}; __Secure-notebook-proxy-out=1; __Secure-notebook-proxy-out={value}")
        answer = await (await proxy.sent(ask(target, *lines, host=host))).take_response()
        assert answer.status in (400, 401)
    browser.jar[".nb.test", "/ws", "__Secure-notebook-proxy-out"] = "7"
    await browser.do(f"{target}?token={GOOD}", *PAGE, host=host)
    assert await browser.status(target, host=host) == 200
