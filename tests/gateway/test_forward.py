"""Identity headers: believed from trusted proxies alone, and there only as exactly one name."""

from __future__ import annotations

from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from tests.relay.origin import ask

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy

LOCAL = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
FORWARD = {"auth": "forward"}


async def status(proxy: Proxy, *lines: str) -> int:
    return (await (await proxy.sent(ask("/api/workspaces", *lines))).take_response()).status


async def test_a_trusted_proxy_says_who_asks(launch: Launch) -> None:
    proxy = await launch(auth=FORWARD, trusted=LOCAL)

    for name in ("alice", "alice@example.org", "Zoë", "a b"):
        assert await status(proxy, f"x-forwarded-user: {name.encode().decode('latin-1')}") == 200
    assert await status(proxy) == 401


async def test_nobody_else_does(launch: Launch) -> None:
    proxy = await launch(auth=FORWARD, trusted=(ip_network("10.0.0.0/8"),))

    assert await status(proxy, "X-Forwarded-User: alice") == 401
    assert await status(proxy, "X-Forwarded-User: alice", "X-Forwarded-For: 10.0.0.1", "X-Real-IP: 10.0.0.1") == 401


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Forwarded-User: alice", "X-Forwarded-User: bob"),
        ("X-Forwarded-User: alice", "x-forwarded-user: alice"),
        ("X-Forwarded-User: alice", "X_Forwarded_User: bob"),
        ("X-Forwarded-User: alice", "X-Forwarded_User: bob"),
        ("X_Forwarded_User: alice",),
        ("X-Forwarded-User: alice, bob",),
        ("X-Forwarded-User: ",),
        ("X-Forwarded-User:",),
        ("X-Forwarded-User: \xff",),
        ("X-Forwarded-User: a\tb",),
        (f"X-Forwarded-User: {'x' * 300}",),
        ("X-Auth-User: alice",),
    ],
)
async def test_it_must_be_exactly_one_name(launch: Launch, lines: tuple[str, ...]) -> None:
    proxy = await launch(auth=FORWARD, trusted=LOCAL)

    assert await status(proxy, *lines) == 401


async def test_the_header_can_have_another_name(launch: Launch) -> None:
    proxy = await launch(auth={**FORWARD, "identity_header": "X-Auth-Request-Email"}, trusted=LOCAL)

    assert await status(proxy, "X-Auth-Request-Email: alice") == 200
    assert await status(proxy, "X-Forwarded-User: alice") == 401


async def test_no_token_is_taken_there(launch: Launch) -> None:
    proxy = await launch(auth=FORWARD, trusted=LOCAL)

    assert await status(proxy, "Authorization: Bearer a.b.c") == 401


async def test_who_is_sent_to_sign_in_comes_back_as_they_came(launch: Launch) -> None:
    """By https: a way back by http would show what they come back with to whoever listens."""
    login = {"login_url": "https://login.example.org/?to={url}"}
    proxy = await launch(auth={**FORWARD, **login}, trusted=LOCAL)

    answers = [
        await (await proxy.sent(ask("/ws/demo/lab", "Accept: text/html", *lines))).take_response()
        for lines in (("X-Forwarded-Proto: https",), ())
    ]

    assert [answer.values(b"location") for answer in answers] == [
        [f"https://login.example.org/?to={scheme}%3A%2F%2Flocalhost%2Fws%2Fdemo%2Flab".encode()]
        for scheme in ("https", "http")
    ]
