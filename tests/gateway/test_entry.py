"""How a browser comes in with a token: the address is cleaned, a cookie is set, and the token goes nowhere else."""

from __future__ import annotations

import logging
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from tests.auth.tokens import OTHER_SECRET, SECRET, token
from tests.relay.origin import Answers, ask, ask_upgrade, switch

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Message

JWT = {"auth": "jwt", "jwt_secret": SECRET}
GOOD = token("alice", "demo")
PAGE = ("Sec-Fetch-Mode: navigate", "Accept: text/html")
LOCAL = (ip_network("127.0.0.0/8"),)


async def told(proxy: Proxy, target: str, *lines: str, method: str = "GET") -> Message:
    """Return the answer to one request on a connection of its own."""
    ours = () if method == "GET" else ("Origin: http://localhost",)  # who acts must show where they come from
    return await (await proxy.sent(ask(target, *lines, *ours, method=method))).take_response()


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/ws/demo/lab?token={}", "/ws/demo/lab"),
        ("/ws/demo/lab/tree/a%20b.ipynb?x=%2F&token={}&y", "/ws/demo/lab/tree/a%20b.ipynb?x=%2F&y"),
        ("/ws/demo/_proxy/?token={}", "/ws/demo/_proxy/"),
        ("/ws/demo?token={}", "/ws/demo"),
        ("/?token={}", "/"),
        ("/?workspace=demo&token={}", "/?workspace=demo"),
    ],
)
async def test_a_navigation_with_a_token_is_sent_to_the_same_address_without_it(
    launch: Launch, target: str, location: str
) -> None:
    proxy = await launch(auth=JWT)

    answer = await told(proxy, target.format(GOOD), *PAGE)

    assert (answer.status, answer.values(b"location")) == (303, [location.encode()])
    assert answer.values(b"referrer-policy") == [b"no-referrer"]
    assert answer.values(b"cache-control") == [b"no-store"]
    cookies = [value.decode() for value in answer.values(b"set-cookie")]
    paths = ["/", "/ws/demo/"] if target.startswith("/ws/") else ["/"]
    names = {"/": "notebook-proxy-site", "/ws/demo/": "notebook-proxy"}
    assert [value.split("; ")[:2] for value in cookies] == [[f"{names[path]}={GOOD}", f"Path={path}"] for path in paths]
    assert not proxy.backend.starts


async def test_behind_https_the_cookies_have_a_prefix(launch: Launch) -> None:
    proxy = await launch(auth=JWT, trusted=LOCAL)

    answer = await told(proxy, f"/ws/demo/lab?token={GOOD}", *PAGE, "X-Forwarded-Proto: https")

    site, workspace = (value.decode() for value in answer.values(b"set-cookie"))
    assert site.startswith(f"__Host-notebook-proxy-site={GOOD}; Path=/; ")
    assert workspace.startswith(f"__Secure-notebook-proxy={GOOD}; Path=/ws/demo/; ")
    assert site.endswith("; Secure")
    assert workspace.endswith("; Secure")
    secure, plain = f"Cookie: __Secure-notebook-proxy={GOOD}", f"Cookie: notebook-proxy={GOOD}"
    asked = "/ws/demo/_proxy/status"
    assert (await told(proxy, asked, secure, "X-Forwarded-Proto: https")).status == 200
    assert (await told(proxy, asked, plain, "X-Forwarded-Proto: https")).status == 401
    assert (await told(proxy, asked, secure)).status == 401


async def test_nobody_but_a_trusted_proxy_says_https(launch: Launch) -> None:
    """An ingress that was forgotten in `trusted_proxies` still has no cookie sent over plain http."""
    proxy = await launch(auth=JWT)

    answer = await told(proxy, f"/ws/demo/lab?token={GOOD}", *PAGE, "X-Forwarded-Proto: https")
    plain = await told(proxy, f"/ws/demo/lab?token={GOOD}", *PAGE, "X-Forwarded-Proto: http")

    assert not [value for value in answer.values(b"set-cookie") if value.startswith(b"__")]
    assert all(value.endswith(b"; Secure") for value in answer.values(b"set-cookie"))
    assert not [value for value in plain.values(b"set-cookie") if b"Secure" in value]


@pytest.mark.parametrize("lines", [("Accept: */*",), ("Sec-Fetch-Mode: cors", "Accept: text/html")])
async def test_what_is_no_navigation_is_answered_without_a_cookie(launch: Launch, lines: tuple[str, ...]) -> None:
    proxy = await launch(auth=JWT)

    answer = await told(proxy, f"/ws/demo/_proxy/status?token={GOOD}", *lines)

    assert (answer.status, answer.values(b"set-cookie")) == (200, [])


@pytest.mark.parametrize("purpose", ["prefetch", "prefetch;prerender"])
@pytest.mark.parametrize("target", ["/ws/demo/lab?token={}", "/ws/demo/_proxy/?token={}", "/?token={}"])
async def test_no_page_is_loaded_ahead_from_an_address_with_a_token(launch: Launch, target: str, purpose: str) -> None:
    """It would be shown at that address, and a notebook's page would read its user's token there."""
    answers = Answers()
    proxy = await launch(answers, auth=JWT)
    assert (await told(proxy, "/ws/demo/lab", f"Authorization: Bearer {GOOD}")).status == 200

    answer = await told(proxy, target.format(GOOD), *PAGE, f"Sec-Purpose: {purpose}")

    assert (answer.status, answer.values(b"set-cookie"), answer.values(b"location")) == (400, [], [])
    assert b"token-in-advance" in answer.body
    assert len(answers.requests) == 1


@pytest.mark.parametrize("wrong", [token("alice", "demo", secret=OTHER_SECRET), token("alice", "demo", exp=5)])
async def test_a_bad_token_sets_no_cookie(launch: Launch, wrong: str) -> None:
    proxy = await launch(auth=JWT)

    answer = await told(proxy, f"/ws/demo/lab?token={wrong}", *PAGE, f"Cookie: notebook-proxy={GOOD}")

    assert (answer.status, answer.values(b"set-cookie")) == (401, [])


async def test_a_token_for_another_workspace_sets_no_cookie(launch: Launch) -> None:
    proxy = await launch(auth=JWT)

    answer = await told(proxy, f"/ws/other/lab?token={GOOD}", *PAGE)

    assert (answer.status, answer.values(b"set-cookie")) == (403, [])


async def test_no_token_makes_a_way_to_another_host(launch: Launch) -> None:
    proxy = await launch(auth=JWT)

    for target in (f"//evil.example/?token={GOOD}", f"//evil.example/ws/demo/?token={GOOD}"):
        answer = await told(proxy, target, *PAGE)
        assert (answer.status, answer.values(b"location")) == (404, [])


async def test_a_token_that_no_cookie_can_hold_is_refused_with_the_reason(launch: Launch) -> None:
    proxy = await launch(auth=JWT)

    answer = await told(proxy, f"/ws/demo/lab?token={token('alice', 'demo', x='x' * 4000)}", *PAGE)

    assert (answer.status, answer.values(b"set-cookie")) == (400, [])
    assert b"too long for a cookie" in answer.body


# Without a credential -------------------------------------------------------------------------------------------------


async def test_a_browser_with_the_sites_cookie_gets_that_of_a_workspace_at_auth(launch: Launch) -> None:
    proxy = await launch(Answers(), auth=JWT)
    site = f"Cookie: notebook-proxy-site={GOOD}"

    first = await told(proxy, "/ws/demo/lab?x=1", *PAGE, site)
    assert (first.status, first.values(b"location")) == (303, [b"/auth?to=/ws/demo/lab%3Fx%3D1"])
    second = await told(proxy, first.values(b"location")[0].decode(), *PAGE, site)
    assert (second.status, second.values(b"location")) == (303, [b"/ws/demo/lab?x=1"])
    (cookie,) = second.values(b"set-cookie")
    assert cookie.startswith(f"notebook-proxy={GOOD}; Path=/ws/demo/; ".encode())
    third = await told(proxy, "/ws/demo/lab?x=1", *PAGE, f"{site}; {cookie.decode().partition(';')[0]}")
    assert (third.status, third.body) == (200, b"ok")


async def test_the_sites_cookie_alone_opens_no_workspace(launch: Launch) -> None:
    proxy = await launch(auth=JWT)

    for lines in ((), ("Sec-Fetch-Mode: cors",)):
        answer = await told(proxy, "/ws/demo/api", *lines, f"Cookie: notebook-proxy-site={GOOD}")
        assert answer.status == 401
    assert not proxy.backend.starts


@pytest.mark.parametrize(
    ("to", "status"),
    [
        ("/ws/other/lab", 403),
        ("/ws/demo", 400),
        ("/", 400),
        ("//evil.example/ws/demo/", 400),
        ("https://evil.example/ws/demo/", 400),
        ("/ws/demo/../../x", 400),
        ("/ws/demo/\\\\evil", 400),
        ("/ws/%64emo/", 400),
        ("", 400),
        ("/ws/demo/lab&to=/ws/demo/x", 400),
    ],
)
async def test_at_auth_nobody_is_sent_anywhere_but_to_their_own_workspace(launch: Launch, to: str, status: int) -> None:
    proxy = await launch(auth=JWT)

    answer = await told(proxy, f"/auth?to={quote(to, safe='/&=')}", *PAGE, f"Cookie: notebook-proxy-site={GOOD}")

    assert (answer.status, answer.values(b"set-cookie"), answer.values(b"location")) == (status, [], [])


@pytest.mark.parametrize("method", ["POST", "DELETE"])
async def test_at_auth_nothing_can_be_sent(launch: Launch, method: str) -> None:
    proxy = await launch(auth=JWT)

    answer = await told(proxy, "/auth?to=/ws/demo/lab", f"Cookie: notebook-proxy-site={GOOD}", method=method)

    assert (answer.status, answer.values(b"allow")) == (405, [b"GET, HEAD"])


async def test_a_browser_without_a_credential_is_sent_to_where_there_are_some(launch: Launch) -> None:
    proxy = await launch(auth={**JWT, "login_url": "https://login.example.org/in?to={url}&x=1"}, trusted=LOCAL)
    encoded = "%3A%2F%2Flocalhost%2Fws%2Fdemo%2Flab%3Fa%3D1"

    page = await told(proxy, "/ws/demo/lab?a=1", *PAGE)
    secure = await told(proxy, "/ws/demo/lab?a=1", *PAGE, "X-Forwarded-Proto: https")
    bad = await told(proxy, "/ws/demo/lab?a=1&token=a.b.c", *PAGE)
    program = await told(proxy, "/ws/demo/lab?a=1")
    form = await told(proxy, "/ws/demo/lab?a=1", *PAGE, method="POST")

    assert page.values(b"location") == [f"https://login.example.org/in?to=http{encoded}&x=1".encode()]
    assert secure.values(b"location") == [f"https://login.example.org/in?to=https{encoded}&x=1".encode()]
    assert bad.values(b"location") == page.values(b"location")
    assert [found.status for found in (page, secure, bad, program, form)] == [303, 303, 303, 401, 401]
    assert program.values(b"www-authenticate") == [b"Bearer"]


async def test_without_a_login_url_a_browser_is_told_in_a_page(launch: Launch) -> None:
    proxy = await launch(auth=JWT)

    answer = await told(proxy, "/ws/demo/lab", *PAGE)

    assert answer.status == 401
    assert answer.values(b"content-type") == [b"text/html; charset=utf-8"]


# Where a token must not go --------------------------------------------------------------------------------------------


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG)
    return caplog


def leaks(text: str, jwt: str) -> list[str]:
    """Return the parts of a token that are in a text."""
    return [part for part in jwt.split(".") if part in text]


async def test_a_token_reaches_neither_the_notebook_server_nor_a_log(
    launch: Launch, everything_logged: pytest.LogCaptureFixture
) -> None:
    answers = Answers()
    proxy = await launch(answers, auth=JWT)

    for target, lines in (
        ("/ws/demo/api", (f"Authorization: Bearer {GOOD}",)),
        ("/ws/demo/api", (f"authorization: bearer {GOOD}",)),
        (f"/ws/demo/api?token={GOOD}", ()),
        (f"/ws/demo/api?a=1&%74oken={GOOD}", ()),
        ("/ws/demo/api", (f"Cookie: _xsrf=1; notebook-proxy={GOOD}; x=2",)),
        ("/ws/demo/api", (f"Cookie: notebook-proxy={GOOD}; notebook-proxy-site={GOOD}",)),
    ):
        assert (await told(proxy, target, *lines)).status == 200

    upstream = b"".join(request.head for request in answers.requests).decode()
    assert len(answers.requests) == 6
    assert not leaks(upstream, GOOD)
    assert not leaks(everything_logged.text, GOOD)


@pytest.mark.parametrize(
    "wrong", [token("alice", "demo", secret=OTHER_SECRET), token("alice", "demo", exp=5), token("x\ny")]
)
@pytest.mark.parametrize("target", ["/ws/demo/lab", "/", "/api/workspaces/demo", "/auth?to=/ws/demo/lab"])
async def test_a_bad_token_is_in_no_answer_and_in_no_log(
    launch: Launch, everything_logged: pytest.LogCaptureFixture, wrong: str, target: str
) -> None:
    proxy = await launch(auth={**JWT, "login_url": "https://login.example.org/?to={url}"})
    mark = "&" if "?" in target else "?"

    for asked, lines in (
        (target, (f"Authorization: Bearer {wrong}",)),
        (f"{target}{mark}token={wrong}", ()),
        (f"{target}{mark}token={wrong}", PAGE),
        (f"{target}{mark}token={wrong}&token={wrong}", PAGE),
        (target, (f"Cookie: notebook-proxy={wrong}; notebook-proxy-site={wrong}",)),
        (target, (*PAGE, f"Cookie: notebook-proxy={wrong}; notebook-proxy-site={wrong}")),
    ):
        answer = await told(proxy, asked, *lines)
        assert answer.status in (303, 401)
        assert answer.status == 303 or answer.values(b"referrer-policy") == [b"no-referrer"]
        assert not leaks((answer.head + answer.body).decode(), wrong)

    assert not leaks(everything_logged.text, wrong)


async def test_a_page_about_a_good_token_does_not_show_it(launch: Launch) -> None:
    proxy = await launch(auth=JWT)

    for target in ("/", "/ws/demo/_proxy/", "/ws/demo/_proxy/status", "/ws/other/lab", "/nothing", "/api/workspaces"):
        answer = await told(proxy, f"{target}?token={GOOD}")
        assert not leaks((answer.head + answer.body).decode(), GOOD), target


async def test_a_websocket_takes_a_token_from_each_place(launch: Launch) -> None:
    seen: list[bytes] = []

    async def accept(wire: Any) -> None:
        request = await wire.take_request(patience=None)
        seen.append(request.head)
        wire.send(switch(request))

    proxy = await launch(accept, auth=JWT)
    target = "/ws/demo/api/kernels/1/channels"
    for asked, lines in (
        (f"{target}?token={GOOD}", ()),
        (target, (f"Cookie: notebook-proxy={GOOD}",)),
        (target, (f"Authorization: Bearer {GOOD}",)),
    ):
        client = await proxy.sent(ask_upgrade(asked, *lines, "Origin: http://localhost"))
        assert (await client.take_response()).status == 101
    refused = await proxy.sent(ask_upgrade(target, "Origin: http://localhost"))

    assert (await refused.take_response()).status == 401
    assert not leaks(b"".join(seen[0:1] + seen[2:3]).decode(), GOOD)
