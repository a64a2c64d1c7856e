"""What each side may see of the other, byte for byte over real sockets."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.auth.door import Door
from proxy.auth.user import User
from proxy.backends.kernels import ask as ask_kernels
from proxy.backends.probe import probe
from proxy.workspace import Phase
from tests.gateway.conftest import DEMO, TOKEN
from tests.relay.origin import Answers, Origin, ask, ask_upgrade, switch

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch
    from tests.relay.origin import Message, Wire

PAYLOADS = (Path(__file__).parent.parent / "corpora" / "openredirects.txt").read_bytes().splitlines()
NO_BODY = b"Content-Length: 0\r\n\r\n"
REDIRECTS = [301, 302, 303, 307, 308]
STOPPED = [
    b"Service-Worker-Allowed: /", b'Clear-Site-Data: "*"', b'alt-svc: h2=":443"', b"NEL: {}",
    b"Public-Key-Pins: x", b"Public-Key-Pins-Report-Only: x", b"Report-To: {}", b"Set-Cookie2: a=b",
    b"Strict-Transport-Security: x",
    b"Set-Cookie: notebook-proxy=x; Path=/ws/demo/", b"Set-Cookie: __host-Notebook-Proxy=x",
]  # fmt: skip


# Towards the notebook -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_of", [ask, ask_upgrade])
async def test_who_the_client_says_it_is_and_what_lets_it_in_stay_here(launch: Launch, request_of: type) -> None:
    answers = Answers()
    proxy = await launch(answers)

    told = (
        "Authorization: Bearer eyJ", "Cookie: _xsrf=1; __Secure-notebook-proxy=eyJ; b=2", "cookie: notebook-proxy=eyJ",
        "X-Forwarded-User: root", "x_forwarded_user: root", "X-Auth-Request-Email: root", "Remote-User: root",
        "X-Amzn-Oidc-Accesstoken: eyJ", "Cf-Access-Jwt-Assertion: eyJ", "X-Goog-Iap-Jwt-Assertion: eyJ",
        "X-Forwarded-Access-Token: eyJ",
    )  # fmt: skip
    response = await (await proxy.sent(request_of("/ws/demo/api", *told))).take_response()

    assert response.status == 200
    (request,) = answers.requests
    assert b"eyJ" not in request.head
    assert b"root" not in request.head
    assert request.values(b"cookie") == [b"_xsrf=1; b=2"]
    assert TOKEN.encode() in request.lines


async def test_an_ingress_that_is_trusted_hands_nothing_of_the_users_on_either(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers, trusted=[ip_network("127.0.0.0/8")])

    told = ("X-Forwarded-Access-Token: eyJ", "X-Forwarded-Groups: admins", "X-Auth-Request-Access-Token: eyJ")
    await (await proxy.sent(ask("/ws/demo/api", *told))).take_response()

    assert b"eyJ" not in answers.requests[0].head
    assert b"admins" not in answers.requests[0].head


# Towards the browser --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 2\r\n\r\nok", b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"]
)
@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found"])
async def test_a_notebook_speaks_for_its_workspace_alone(launch: Launch, framing: bytes, status: bytes) -> None:
    mine = [b"X-Mine: 1", b"Set-Cookie: a=b; Domain=localhost; Path=/", b"Content-Security-Policy: x"]
    head = b"\r\n".join([b"HTTP/1.1 " + status, *STOPPED, *mine, b""])
    proxy = await launch(Answers(head + framing))

    response = await (await proxy.sent(ask())).take_response()

    assert response.lines[:-1] == [b"X-Mine: 1", b"Set-Cookie: a=b; Path=/ws/demo/", b"Content-Security-Policy: x"]
    assert response.body == b"ok"


async def test_a_handshake_and_an_interim_response_are_held_to_the_same(launch: Launch) -> None:
    async def script(wire: Wire) -> None:
        accepted = switch(await wire.take_request()).removesuffix(b"\r\n")
        wire.send(b"\r\n".join([b"HTTP/1.1 103 Early Hints", *STOPPED, b"Set-Cookie: a=b; Path=/", b"", b""]))
        wire.send(accepted, b"\r\n".join([*STOPPED, b"Location: //x.example", b"Set-Cookie: c=d", b"", b""]))

    proxy = await launch(script)
    client = await proxy.sent(ask_upgrade())

    hints, switched = await client.take_response("HEAD"), await client.take_response("HEAD")

    assert hints.lines == [b"Set-Cookie: a=b; Path=/ws/demo/"]
    assert switched.status == 101
    assert switched.values(b"set-cookie") == [b"c=d; Path=/ws/demo/"]
    assert len(switched.lines) == 4


def redirecting(request: Message) -> bytes:
    """Answer /ws/demo/<status>/<number of the payload> with it."""
    status, number = request.target.split(b"/")[3:]
    return b"HTTP/1.1 %b Moved\r\nLocation: %b\r\n%b" % (status, PAYLOADS[int(number)], NO_BODY)


@pytest.mark.uvloop
async def test_no_payload_of_the_published_list_redirects_elsewhere(launch: Launch) -> None:
    proxy = await launch(Answers(redirecting))
    passed = []

    for number, payload in enumerate(PAYLOADS):
        client = await proxy.sent(ask(f"/ws/demo/{REDIRECTS[number % 5]}/{number}", "Accept: application/json"))
        response = await client.take_response()
        if response.status == 502:
            assert response.values(b"location") == []
            assert b"upstream-invalid" in response.body
            assert payload not in response.head
            continue
        assert response.values(b"location") == [payload.strip()]
        passed.append(payload)

    assert not [payload for payload in passed if payload.startswith((b"//", b"\\", b"http", b"data:"))]
    assert proxy.supervisor.phases()[DEMO] is Phase.RUNNING
    assert proxy.backend.starts["demo"] == 1


@pytest.mark.parametrize("status", REDIRECTS)
async def test_a_redirect_to_the_notebook_servers_own_address_stays_on_this_host(launch: Launch, status: int) -> None:
    proxy = await launch()
    here = f"http://127.0.0.1:{proxy.origin.port}/ws/demo/lab?a=b".encode()

    client = await proxy.sent(ask("/ws/demo/"))
    upstream, _ = await proxy.origin.asked()
    upstream.send(b"HTTP/1.1 %d Moved\r\nLocation: %b\r\n%b" % (status, here, NO_BODY))

    response = await client.take_response()
    assert response.status == status
    assert response.values(b"location") == [b"/ws/demo/lab?a=b"]


@pytest.mark.parametrize(
    ("host", "lines", "location"),
    [
        ("localhost:8000", (), b"http://localhost:8000/ws/demo/lab"),
        ("localhost", (), b"https://localhost/x"),
        ("localhost", ("X-Forwarded-Host: hub.example",), b"https://hub.example/ws/demo/lab"),
    ],
)
async def test_a_redirect_to_the_host_that_the_client_knows_passes(
    launch: Launch, host: str, lines: tuple[str, ...], location: bytes
) -> None:
    proxy = await launch(
        Answers(b"HTTP/1.1 302 Found\r\nLocation: " + location + b"\r\n" + NO_BODY), trusted=[ip_network("127.0.0.0/8")]
    )

    response = await (await proxy.sent(ask("/ws/demo/", *lines, host=host))).take_response()

    assert response.values(b"location") == [location]


async def test_a_strangers_word_makes_no_host_ours(launch: Launch) -> None:
    proxy = await launch(Answers(b"HTTP/1.1 302 Found\r\nLocation: http://hub.example/\r\n" + NO_BODY))

    response = await (await proxy.sent(ask("/ws/demo/", "X-Forwarded-Host: hub.example"))).take_response()

    assert response.status == 502


async def test_two_locations_are_one_too_many(launch: Launch) -> None:
    proxy = await launch(Answers(b"HTTP/1.1 302 Found\r\nLocation: /a\r\nlocation: /b\r\n" + NO_BODY))

    assert (await (await proxy.sent(ask())).take_response()).status == 502


async def test_a_location_that_nobody_follows_is_left_out_where_it_leads_elsewhere(launch: Launch) -> None:
    proxy = await launch(Answers(b"HTTP/1.1 201 Created\r\nLocation: http://x.example/\r\n" + NO_BODY))

    response = await (await proxy.sent(ask(method="POST", body=b"x"))).take_response()

    assert (response.status, response.values(b"location")) == (201, [])


async def test_a_redirect_is_relayed_and_never_followed(launch: Launch) -> None:
    proxy = await launch(Answers(b"HTTP/1.1 302 Found\r\nLocation: /ws/demo/metadata\r\n" + NO_BODY))

    response = await (await proxy.sent(ask())).take_response()

    assert response.status == 302
    assert len(proxy.origin.connections) == 1


# Who asks, and from where ---------------------------------------------------------------------------------------------

EVERYWHERE = User("al\u00efce@example.org", ("*",))


class Known:
    """A reader that knows everybody, by one name."""

    def known(self, request: object, target: object) -> User | None:
        return EVERYWHERE

    async def identify(self, request: object, target: object) -> User:
        return EVERYWHERE


@pytest.mark.parametrize("request_of", [ask, ask_upgrade])
@pytest.mark.parametrize("trusted", [(), (ip_network("127.0.0.0/8"),)])
async def test_the_notebook_is_told_who_asks_by_us_alone(launch: Launch, request_of: type, trusted: tuple[()]) -> None:
    answers = Answers()
    proxy = await launch(answers, door=Door(Known()), trusted=trusted)

    told = ("Connection: X-Forwarded-User", "X-Forwarded-User: root", "X_Forwarded_User: root", "Remote-User: root")
    await (await proxy.sent(request_of("/ws/demo/api", *told, "Origin: http://localhost"))).take_response()

    (request,) = answers.requests
    assert request.values(b"x-forwarded-user") == [b"al%C3%AFce@example.org"]
    assert b"root" not in request.head


async def test_nobody_is_named_where_nobody_is_asked(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)

    await (await proxy.sent(ask("/ws/demo/api", "X-Forwarded-User: root"))).take_response()

    assert b"x-forwarded-user" not in answers.requests[0].head.lower()


async def test_an_identity_header_of_the_operators_own_does_not_reach_the_notebook(launch: Launch) -> None:
    answers = Answers()
    trusted = [ip_network("127.0.0.0/8")]
    auth = {"auth": "forward", "identity_header": "X-Corp-Login"}
    proxy = await launch(answers, door=Door(Known()), auth=auth, trusted=trusted)

    await (await proxy.sent(ask("/ws/demo/api", "X-Corp-Login: alice", "x_corp.login: root"))).take_response()

    assert b"corp" not in answers.requests[0].head.lower()


async def test_what_signs_people_in_at_a_proxy_in_front_does_not_reach_the_notebook(launch: Launch) -> None:
    """Whoever had it would be that user at every workspace. The second request goes the express way."""
    answers = Answers()
    auth = {"auth": "forward", "workspace_template": "{user_slug}", "identity_cookies": "sso, Corp-Login"}
    proxy = await launch(answers, auth=auth, trusted=[ip_network("127.0.0.0/8")])
    cookies = "Cookie: a=1; _oauth2_proxy_0=stolen; SSO=stolen; __Host-corp-login-2=stolen; _xsrf=2"
    client = await proxy.sent(ask("/ws/alice/api", "X-Forwarded-User: alice", cookies))
    assert (await client.take_response()).status == 200

    client.send(ask("/ws/alice/api/kernels", "X-Forwarded-User: alice", cookies))

    assert (await client.take_response()).status == 200
    heads = [request.head for request in answers.requests]
    assert [b"a=1; _xsrf=2" in head for head in heads] == [True, True]
    assert not [head for head in heads if b"stolen" in head]


ACTS = [
    ask("/ws/demo/api/kernels", method="POST", body=b"{}"),
    ask("/ws/demo/api/contents/x", method="DELETE"),
    ask("/ws/demo/_proxy/stop", method="POST", body=b""),
    ask("/api/workspaces/demo/start", method="POST", body=b""),
    ask("/api/workspaces/demo", method="DELETE"),
    ask_upgrade("/ws/demo/api/kernels/1/channels"),
]


@pytest.mark.parametrize("request_bytes", ACTS)
@pytest.mark.parametrize(
    ("line", "passes"),
    [
        ("X-None: 1", False), ("Cookie: a=b", False), ("Authorization: token x", False), ("Origin: null", False),
        ("Origin: http://localhost:1", False), ("Origin: http://localhost", True),
        ("Origin: http://evil.example", False),
        ("Sec-Fetch-Site: same-site", False), ("Sec-Fetch-Site: same-origin", True), ("Authorization: Bearer x", True),
        ("Origin: https://ide.example", True),
    ],
)  # fmt: skip
async def test_where_a_credential_is_needed_an_act_shows_whose_it_is_before_anything_is_started(
    launch: Launch, request_bytes: bytes, line: str, *, passes: bool
) -> None:
    auth = {"auth": "forward", "allowed_origins": "https://ide.example"}
    proxy = await launch(Answers(), door=Door(Known()), auth=auth, trusted=[ip_network("127.0.0.0/8")])

    client = await proxy.sent(request_bytes.replace(b"\r\n\r\n", f"\r\n{line}\r\n\r\n".encode(), 1))
    response = await client.take_response()

    assert (response.status == 403) != passes
    if not passes:
        assert b"cross-origin" in response.body
        assert not proxy.backend.starts
        assert not proxy.backend.stops
        assert not proxy.origin.connections


@pytest.mark.parametrize("request_bytes", ACTS)
async def test_where_nobody_needs_a_credential_programs_act_as_they_are(launch: Launch, request_bytes: bytes) -> None:
    proxy = await launch(Answers())

    assert (await (await proxy.sent(request_bytes)).take_response()).status != 403


async def test_a_page_on_plain_http_may_not_act_where_an_ingress_speaks_https(launch: Launch) -> None:
    proxy = await launch(Answers(), trusted=[ip_network("127.0.0.0/8")])
    plain = ("X-Forwarded-Proto: https", "Origin: http://localhost")

    response = await (await proxy.sent(ask_upgrade("/ws/demo/x", *plain))).take_response()

    assert response.status == 403
    assert not proxy.backend.starts


# What we say ourselves ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/", "/nowhere", "/ws/demo/_proxy/", "/ws/UPPER/", "/api/workspaces", "/ws/demo"])
@pytest.mark.parametrize(
    ("configured", "allowed"), [("", "'none'"), ("self, https://portal.example", "'self' https://portal.example")]
)
async def test_every_answer_of_our_own_says_who_may_frame_it(
    launch: Launch, target: str, configured: str, allowed: str
) -> None:
    proxy = await launch(auth={"frame_ancestors": configured})

    response = await (await proxy.sent(ask(target, "Accept: text/html"))).take_response()

    (policy,) = response.values(b"content-security-policy")
    assert b"default-src 'none'" in policy
    assert policy.count(b"frame-ancestors") == 1
    assert f"frame-ancestors {allowed}".encode() in policy.split(b"; ")
    assert response.values(b"x-content-type-options") == [b"nosniff"]
    assert response.values(b"referrer-policy") in ([b"same-origin"], [b"no-referrer"])


FORGED = (
    "X-Forwarded-User: alice", "X-Forwarded-For: 10.0.0.1", "X-Real-IP: 10.0.0.1", "Forwarded: for=10.0.0.1",
    "X-Forwarded-Proto: https", "X-Auth-Request-User: alice", "Remote-User: alice", TOKEN, "Origin: http://localhost",
)  # fmt: skip


@pytest.mark.parametrize(
    "request_bytes", [ask("/ws/demo/api", *FORGED), ask("/", *FORGED), ask_upgrade("/ws/demo/x", *FORGED)]
)
@pytest.mark.parametrize(
    "auth",
    [
        {"auth": "forward"},
        {"auth": "forward", "identity_header": "Remote-User"},
        {"auth": "jwt", "jwt_secret": "s" * 32},
    ],
)
async def test_a_pod_that_forges_headers_and_knows_its_own_token_is_a_stranger(
    launch: Launch, request_bytes: bytes, auth: dict[str, str]
) -> None:
    proxy = await launch(auth=auth, trusted=[ip_network("10.0.0.0/8")])

    response = await (await proxy.sent(request_bytes)).take_response()

    assert response.status == 401
    assert not proxy.backend.starts
    assert not proxy.origin.connections


async def test_no_proxy_of_the_environments_stands_between_us_and_a_notebook(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = Origin()
    await elsewhere.listen()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{elsewhere.port}")
    proxy = await launch(Answers())

    assert (await (await proxy.sent(ask())).take_response()).status == 200
    handle = await proxy.supervisor.ensure_running(DEMO)
    assert await probe(handle, "/ws/demo/api") == 200
    await ask_kernels(DEMO, handle)

    assert not elsewhere.connections
    await elsewhere.__aexit__()


async def test_no_question_of_our_own_follows_a_redirect(launch: Launch) -> None:
    elsewhere = Origin()
    await elsewhere.listen()
    there = f"http://127.0.0.1:{elsewhere.port}/".encode()
    answers = Answers(b"HTTP/1.1 302 Found\r\nLocation: " + there + b"\r\n" + NO_BODY)
    proxy = await launch(answers)
    handle = await proxy.supervisor.ensure_running(DEMO)

    assert await probe(handle, "/ws/demo/api") == 302
    await ask_kernels(DEMO, handle)

    assert len(answers.requests) == 3
    assert not elsewhere.connections
    await elsewhere.__aexit__()
