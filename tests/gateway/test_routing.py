"""Which requests go to which notebook server, and which go nowhere."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from proxy.workspace import Phase
from tests.gateway.conftest import DEMO, TOKEN
from tests.relay.origin import Answers, ask, ask_upgrade

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy


def reached_nobody(proxy: Proxy) -> bool:
    return not proxy.backend.starts and not proxy.origin.connections and not proxy.supervisor.phases()


# Redirects and what lies outside --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/ws/demo", "/ws/demo/"),
        ("/ws/demo?a=1&b", "/ws/demo/?a=1&b"),
        ("/ws/demo?", "/ws/demo/?"),
        ("/ws/demo?token=abc", "/ws/demo/"),
        ("/ws/demo?a=%2F&token=abc", "/ws/demo/?a=%2F"),
    ],
)
async def test_bare_workspace_is_redirected_to_its_base_url(launch: Launch, target: str, location: str) -> None:
    proxy = await launch()

    response = await (await proxy.sent(ask(target))).take_response()

    assert response.status == 307
    assert response.values(b"location") == [location.encode()]
    assert reached_nobody(proxy)


async def test_redirect_of_an_unsafe_request_keeps_its_method_and_reads_no_body(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask("/ws/demo", method="POST", body=b"hello"))
    response = await client.take_response()

    assert (response.status, response.values(b"connection")) == (307, [b"close"])
    assert await client.ending() == "closed"


async def test_base_url_is_not_redirected_but_relayed(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)

    response = await proxy.http.get("/ws/demo/")

    assert (response.status, await response.read()) == (200, b"ok")
    assert answers.requests[0].target == b"/ws/demo/"


async def test_index_lists_what_runs_and_starts_nothing(launch: Launch) -> None:
    proxy = await launch(Answers())
    await proxy.http.get("/ws/demo/api")

    response = await proxy.http.get("/")
    page = await response.text()

    assert response.status == 200
    assert 'href="/ws/demo/lab">demo</a>' in page
    assert proxy.backend.starts == {"demo": 1}


async def test_head_of_the_index_has_no_body(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask("/", method="HEAD"), ask("/", method="HEAD"))

    assert [(await client.take_response("HEAD")).status for _ in range(2)] == [200, 200]


async def test_index_sends_a_visitor_to_the_workspace_that_is_asked_for(launch: Launch) -> None:
    proxy = await launch()

    response = await proxy.http.get("/?workspace=%20Demo%20", allow_redirects=False)

    assert (response.status, response.headers["Location"]) == (303, "/ws/demo/lab")
    assert reached_nobody(proxy)


@pytest.mark.parametrize("target", ["/other", "/ws", "/wsx/demo/", "/favicon.ico", "//ws/demo/", "/?workspace=../x"])
async def test_nothing_else_is_served(launch: Launch, target: str) -> None:
    proxy = await launch()

    response = await (await proxy.sent(ask(target))).take_response()

    assert response.status == 404
    assert response.values(b"content-type") == [b"application/problem+json"]
    assert reached_nobody(proxy)


async def test_index_takes_no_unsafe_method(launch: Launch) -> None:
    proxy = await launch()

    response = await proxy.http.post("/", data=b"x")

    assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")


# Byte for byte --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/ws/demo/lab/tree/a%2Fb.ipynb",
        "/ws/demo/files/a%2fb",
        "/ws/demo/user%40host/a@b",
        "/ws/demo//double///slashes//",
        "/ws/demo/api?empty=&bare&x=1&x=2&=",
        "/ws/demo/api?",
        "/ws/demo/api?q=a?b/c%3F&&",
        "/ws/demo/%E2%82%AC/%zz/100%25",
        "/ws/demo/a;b=c/~d!$&'()*+,=:",
        '/ws/demo/[1]{2}|3^4`5"6<7>',
        "/ws/demo/...a/..b/.c/d.",
        "/ws/demo/?path=../../etc&next=//evil.example/",
        "/ws/demo/" + "x" * 7000,
    ],
)
async def test_path_and_query_pass_byte_for_byte(launch: Launch, target: str) -> None:
    answers = Answers()
    proxy = await launch(answers)

    response = await (await proxy.sent(ask(target))).take_response()

    assert response.status == 200
    assert answers.requests[0].start == f"GET {target} HTTP/1.1".encode()


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("?token=abc", ""),
        ("?token", ""),
        ("?a=1&token=abc&b=%20&", "?a=1&b=%20&"),
        ("?token=a&token=b&x=", "?x="),
        ("?%74oken=abc&x=1", "?x=1"),
        ("?xtoken=1&token_=2&Token=3&x=token=4", "?xtoken=1&token_=2&Token=3&x=token=4"),
    ],
)
async def test_token_is_the_one_parameter_that_is_removed(launch: Launch, query: str, kept: str) -> None:
    answers = Answers()
    proxy = await launch(answers)

    await (await proxy.sent(ask("/ws/demo/lab" + query))).take_response()

    assert answers.requests[0].target == b"/ws/demo/lab" + kept.encode()


async def test_websocket_target_passes_byte_for_byte_without_its_token(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask_upgrade("/ws/demo//api%2Fkernels?session_id=&token=abc&x=%40"))
    wire, request = await proxy.origin.asked()
    await client.closed()

    assert request.target == b"/ws/demo//api%2Fkernels?session_id=&x=%40"
    assert await wire.ending() == "closed"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "REPORT"])
async def test_every_other_method_passes(launch: Launch, method: str) -> None:
    answers = Answers()
    proxy = await launch(answers)

    response = await (await proxy.sent(ask(method=method))).take_response()

    assert response.status == 200
    assert answers.requests[0].start == f"{method} /ws/demo/api HTTP/1.1".encode()


@pytest.mark.parametrize("target", ["http://localhost/ws/demo/a%2Fb?x=", "HTTP://LOCALHOST/ws/demo/a%2Fb?x="])
async def test_absolute_form_passes_in_origin_form_if_it_names_the_host(launch: Launch, target: str) -> None:
    answers = Answers()
    proxy = await launch(answers)

    response = await (await proxy.sent(ask(target))).take_response()

    assert response.status == 200
    assert answers.requests[0].target == b"/ws/demo/a%2Fb?x="


async def test_workspaces_have_notebook_servers_of_their_own(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)

    for name in ("demo", "other", "demo"):
        await proxy.http.get(f"/ws/{name}/api")

    assert proxy.backend.starts == {"demo": 1, "other": 1}
    assert [request.target for request in answers.requests] == [b"/ws/demo/api", b"/ws/other/api", b"/ws/demo/api"]


# Refused before anything is started -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/ws/demo/../other/", 400),
        ("/ws/demo/./lab", 400),
        ("/ws/demo/..", 400),
        ("/ws/../etc/passwd", 400),
        ("/ws/demo/%2e%2e/other/", 400),
        ("/ws/demo/.%2E/other/", 400),
        ("/ws/demo/%252e%252e/other/", 400),
        ("/ws/demo/a%2F..%2Fb", 400),
        ("/ws/demo/a%5C..%5Cb", 400),
        ("/ws/demo/..;/b", 400),
        ("/ws/demo/a\\b", 400),
        ("/ws/demo/a%00b", 400),
        ("/ws/demo/lab#frag", 400),
        ("/ws/demo/caf\xe9", 400),
        ("*", 400),
        ("ws/demo/", 400),
        ("http://evil.example/ws/demo/", 400),
        ("http://localhost:81/ws/demo/", 400),
        ("http://user@localhost/ws/demo/", 400),
        ("ftp://localhost/ws/demo/", 400),
        ("/ws//lab", 404),
        ("/ws/Demo/lab", 404),
        ("/ws/demo_1/lab", 404),
        ("/ws/-demo/lab", 404),
        ("/ws/de%6Do/lab", 404),
        ("/ws/demo%2Flab", 404),
        ("/ws/" + "a" * 55 + "/lab", 404),
        ("/ws/demo.other/", 404),
        ("/ws/demo?x", 307),
    ],
)
async def test_ambiguous_targets_and_ids_reach_nobody(launch: Launch, target: str, status: int) -> None:
    proxy = await launch()

    response = await (await proxy.sent(ask(target))).take_response()

    assert response.status == status
    assert reached_nobody(proxy)


async def test_refused_id_is_quoted_with_the_rule(launch: Launch) -> None:
    proxy = await launch()

    response = await proxy.http.get("/ws/Demo/lab")
    problem = await response.json()

    assert problem["status"] == 404
    assert problem["code"] == "invalid-workspace-id"
    assert "'Demo'" in problem["detail"]
    assert "DNS-1123" in problem["detail"]


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "localhost@evil", "[::2]", "::1"]
)
async def test_foreign_host_reaches_nobody(launch: Launch, host: str) -> None:
    proxy = await launch()

    response = await (await proxy.sent(ask(host=host))).take_response()

    assert (response.status, b"bad-host" in response.body) == (400, True)
    assert reached_nobody(proxy)


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "a.localhost", "127.1.2.3:80", "[::1]:8000", "localhost."]
)
async def test_names_of_this_machine_pass_and_are_passed_on(launch: Launch, host: str) -> None:
    answers = Answers()
    proxy = await launch(answers)

    response = await (await proxy.sent(ask(host=host))).take_response()

    assert response.status == 200
    assert answers.requests[0].values(b"host") == [host.encode()]


@pytest.mark.parametrize("lines", [b"", b"Host: localhost\r\nHost: localhost\r\n"])
async def test_missing_or_doubled_host_reaches_nobody(launch: Launch, lines: bytes) -> None:
    proxy = await launch()

    response = await (await proxy.sent(b"GET /ws/demo/ HTTP/1.1\r\n", lines, b"\r\n")).take_response()

    assert response.status == 400
    assert reached_nobody(proxy)


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
async def test_refused_method_is_answered_with_those_that_are_allowed(launch: Launch, method: str) -> None:
    proxy = await launch()

    target = "localhost:80" if method == "CONNECT" else "/ws/demo/"
    response = await (await proxy.sent(ask(target, method=method))).take_response()

    assert response.status == 405
    assert b"POST" in response.values(b"allow")[0]
    assert reached_nobody(proxy)


@pytest.mark.parametrize(
    "head",
    [
        b"hello\r\n\r\n",
        b"GET /ws/demo/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET /ws/demo/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /ws/demo/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /ws/demo/ HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
        b"GET /ws/demo/ HTTP/1.1\nHost: localhost\n\n",
        b"GET /ws/demo/ HTTP/1.1\r\nHost: localhost\r\nX : a\r\n\r\n",
        b"GET /ws/demo/ HTTP/2.0\r\nHost: localhost\r\n\r\n",
        b"GET /ws/demo/ HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
async def test_what_two_servers_could_frame_differently_reaches_nobody(launch: Launch, head: bytes) -> None:
    proxy = await launch()

    client = await proxy.sent(head)
    response = await client.take_response()

    assert response.status == 400
    assert await client.ending() == "closed"
    assert reached_nobody(proxy)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://localhost:81", "http://localhost, http://x", ""]
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "PROPFIND"])
async def test_unsafe_request_of_another_site_reaches_nobody(launch: Launch, method: str, origin: str) -> None:
    proxy = await launch()

    response = await (await proxy.sent(ask("/ws/demo/api", f"Origin: {origin}", method=method))).take_response()

    assert (response.status, b"cross-origin" in response.body) == (403, True)
    assert reached_nobody(proxy)


async def test_two_origins_reach_nobody(launch: Launch) -> None:
    proxy = await launch()

    lines = ("Origin: http://localhost", "Origin: http://evil.example")
    response = await (await proxy.sent(ask("/ws/demo/api", *lines, method="POST"))).take_response()

    assert response.status == 403
    assert reached_nobody(proxy)


async def test_cross_origin_websocket_reaches_nobody(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask_upgrade("/ws/demo/api/events", "Origin: http://evil.example"))
    response = await client.take_response()

    assert (response.status, b"cross-origin" in response.body) == (403, True)
    assert reached_nobody(proxy)


@pytest.mark.parametrize(("method", "origin"), [("POST", "http://localhost"), ("GET", "http://evil.example")])
async def test_own_pages_and_reading_from_elsewhere_pass(launch: Launch, method: str, origin: str) -> None:
    proxy = await launch(Answers())

    response = await (await proxy.sent(ask("/ws/demo/api", f"Origin: {origin}", method=method))).take_response()

    assert response.status == 200


async def test_handshake_with_a_body_reaches_nobody(launch: Launch) -> None:
    proxy = await launch()

    response = await (await proxy.sent(ask_upgrade("/ws/demo/x", "Content-Length: 5"), b"hello")).take_response()

    assert (response.status, b"bad-handshake" in response.body) == (400, True)
    assert reached_nobody(proxy)


# Headers --------------------------------------------------------------------------------------------------------------


async def test_authorization_of_the_client_is_replaced_by_the_handles(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)

    await proxy.http.get("/ws/demo/api", headers={"Authorization": "token mine", "Cookie": "a=b"})

    assert answers.requests[0].values(b"authorization") == [b"token secret"]
    assert answers.requests[0].values(b"cookie") == [b"a=b"]


async def test_headers_of_one_connection_are_removed_before_ours_are_added(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)

    dropped = (
        "Connection: keep-alive, X-Mine, authorization, x-forwarded-for, Host", "Keep-Alive: timeout=5", "TE: trailers",
        "Trailer: X", "Proxy-Authorization: x", "Proxy-Connection: x", "X-Mine: 1", "X_Forwarded_For: 6.6.6.6",
        "X-Forwarded-Prefix: /evil", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6",
    )  # fmt: skip
    await (await proxy.sent(ask("/ws/demo/api", *dropped, "X-Kept: a, b", "x-kept: c"))).take_response()

    assert answers.requests[0].lines == [
        b"Host: localhost",
        b"X-Kept: a, b",
        b"x-kept: c",
        TOKEN.encode(),
        b"X-Forwarded-For: 127.0.0.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: localhost",
    ]


async def test_responses_lose_the_headers_of_their_connection_only(launch: Launch) -> None:
    answer = (
        b"HTTP/1.1 201 Very Created\r\nConnection: keep-alive, X-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\n"
        b"Set-Cookie: a=1; Path=/ws/demo/\r\nset-cookie: b=2; path=/ws/demo/x\r\n"
        b"Server: TornadoServer/6\r\nContent-Length: 2\r\n\r\nok"
    )
    proxy = await launch(Answers(answer))

    response = await (await proxy.sent(ask())).take_response()

    assert response.start == b"HTTP/1.1 201 Very Created"
    assert response.lines == [
        b"Set-Cookie: a=1; Path=/ws/demo/", b"set-cookie: b=2; path=/ws/demo/x", b"Server: TornadoServer/6",
        b"Content-Length: 2",
    ]  # fmt: skip


FORWARDED = ("X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https", "X-Forwarded-Host: hub.example")


async def test_forwarding_headers_of_a_stranger_are_replaced(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers, trusted=[ip_network("10.0.0.0/8")])

    await (await proxy.sent(ask("/ws/demo/api", *FORWARDED))).take_response()

    assert answers.requests[0].lines[-3:] == [
        b"X-Forwarded-For: 127.0.0.1", b"X-Forwarded-Proto: http", b"X-Forwarded-Host: localhost",
    ]  # fmt: skip


async def test_forwarding_headers_of_a_trusted_proxy_are_continued(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers, trusted=[ip_network("127.0.0.0/8")])

    await (await proxy.sent(ask("/ws/demo/api", *FORWARDED, "X-Forwarded-Prefix: /evil"))).take_response()

    assert answers.requests[0].lines[-3:] == [
        b"X-Forwarded-For: 1.2.3.4, 127.0.0.1", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: hub.example",
    ]  # fmt: skip
    assert answers.requests[0].values(b"x-forwarded-prefix") == []


# Upgrade, and activity ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        ask("/ws/demo/api", "Connection: Upgrade", "Upgrade: websocket", method="POST", body=b"hello"),
        ask("/ws/demo/api", "Connection: Upgrade", "Upgrade: websocket", method="DELETE"),
        ask("/ws/demo/api", "Upgrade: websocket"),
    ],
)
async def test_websocket_that_nobody_may_ask_for_like_this_is_an_ordinary_request(
    launch: Launch, request_bytes: bytes
) -> None:
    answers = Answers()
    proxy = await launch(answers)

    client = await proxy.sent(request_bytes, ask("/ws/demo/next"))
    responses = [await client.take_response() for _ in range(2)]

    first, second = answers.requests
    assert [response.status for response in responses] == [200, 200]
    assert (first.values(b"upgrade"), first.values(b"connection")) == ([], [])
    assert first.body == request_bytes.partition(b"\r\n\r\n")[2]
    assert second.target == b"/ws/demo/next"


@pytest.mark.parametrize("target", ["/ws/demo/api", "/", "/ws/demo", "/nothing"])
@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.2", "websocket, h2c"])
async def test_other_upgrade_is_ignored_and_its_connection_ends_with_the_answer(
    launch: Launch, target: str, upgrade: str
) -> None:
    answers = Answers()
    proxy = await launch(answers)

    lines = ("Connection: Upgrade, HTTP2-Settings", f"Upgrade: {upgrade}", "HTTP2-Settings: AAMAAABk")
    client = await proxy.sent(ask(target, *lines, method="GET"), ask("/ws/demo/next"))
    response = await client.take_response()

    assert response.status in (200, 307, 404)
    assert response.values(b"connection") == [b"close"]
    assert await client.ending() == "closed"
    assert all(request.values(b"upgrade") == [] for request in answers.requests)
    assert b"/ws/demo/next" not in [request.target for request in answers.requests]


async def test_each_request_touches_its_workspace(launch: Launch) -> None:
    proxy = await launch(Answers())
    await proxy.http.get("/ws/demo/api")

    proxy.clock.advance(100)
    idle = proxy.idle_seconds
    await proxy.http.get("/ws/demo/api")

    assert (idle, proxy.idle_seconds) == (100, 0)
    assert proxy.supervisor.phases().get(DEMO) is Phase.RUNNING


async def test_each_piece_of_a_long_answer_touches_its_workspace(launch: Launch) -> None:
    proxy = await launch()
    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
    await client.take_until(b"\r\n\r\n")

    for letter in (b"a", b"b", b"c"):
        proxy.clock.advance(100)
        wire.send(letter)
        await client.take(1)
        assert proxy.idle_seconds == 0


async def test_each_piece_of_a_long_upload_touches_its_workspace(launch: Launch) -> None:
    proxy = await launch()
    client = await proxy.sent(ask("/ws/demo/x", "Content-Length: 3", method="PUT"))
    wire = await proxy.origin.accepted()
    await wire.take_until(b"\r\n\r\n")

    for letter in (b"a", b"b", b"c"):
        proxy.clock.advance(100)
        client.send(letter)
        await wire.take(1)
        assert proxy.idle_seconds == 0
    wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert (await client.take_response()).status == 204
