"""Hostile and broken notebook servers: a clean 502 or a broken connection, and nobody else notices anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy import express
from tests.gateway.express import warmed, watched
from tests.gateway.test_errors import problem_code
from tests.relay.origin import PLAIN, ask, ask_upgrade, chunk, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Message, Wire

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"Content-Length: 2\r\n\r\nok"
MIB = 1 << 20


class Neighbours:
    """Requests to the same workspace beside the one that is tried: one in flight, and a later one."""

    def __init__(self, proxy: Proxy, *, is_express: bool) -> None:
        self.proxy = proxy
        self.is_express = is_express

    async def begin(self) -> None:
        self._client = await self.proxy.sent(ask("/ws/demo/neighbour"))
        self._wire, _ = await self.proxy.origin.asked()
        self._wire.send(CHUNKED, chunk(b"half"))
        await self._client.take_until(b"half\r\n")

    async def are_well(self) -> None:
        self._wire.send(chunk(b"whole"), b"0\r\n\r\n")
        assert (await self._client.take_until(b"0\r\n\r\n")).endswith(b"whole\r\n0\r\n\r\n")
        later = await self.proxy.sent(ask("/ws/demo/later"))
        assert (await self._wire.take_request()).target == b"/ws/demo/later"  # on the one connection that is left
        self._wire.send(PLAIN)
        assert (await later.take_response()).body == b"ok"


@pytest.fixture(params=["ordinary", "express", "gathered"])
async def neighbours(
    request: pytest.FixtureRequest,
    launch: Launch,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Neighbours]:
    """At the end the neighbours are well, and what happened is in the log at most once."""
    if request.param == "gathered":
        monkeypatch.setattr(express, "BUSY", 0)
    found = Neighbours(await launch(), is_express=request.param != "ordinary")
    await found.begin()
    yield found
    await found.are_well()
    assert len(caplog.records) <= 1


async def hear(
    to: Proxy | Neighbours, *answer: bytes, request: bytes = ask("/ws/demo/x"), is_ended: bool = False
) -> Wire:
    """Return a client whose request has been answered so."""
    proxy = to.proxy if isinstance(to, Neighbours) else to
    is_express = isinstance(to, Neighbours) and to.is_express and request == ask("/ws/demo/x")
    with watched() as taken:
        client = await (warmed(proxy, request) if is_express else proxy.connect())
        client.send(request)
        await until(lambda: not is_express or taken == ["/ws/demo/x"])
    wire = await proxy.origin.accepted()
    await wire.take_until(b"\r\n\r\n")
    wire.send(*answer)
    if is_ended:
        wire.close()
    return client


async def given_up(proxy: Proxy) -> None:
    """Wait until the notebook server's connection has been ended."""
    assert await proxy.origin.connections[-1].ending() in ("closed", "reset")


async def told(client: Wire) -> tuple[int, str]:
    response: Message = await client.take_response()
    assert response.values(b"content-length") == [b"%d" % len(response.body)]
    return response.status, problem_code(response)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 000 Nothing\r\n" + END,
        b"HTTP/1.1 099 Nothing\r\n" + END,
        b"HTTP/1.1 600 Much\r\n" + END,
        b"HTTP/1.1 999 Much\r\n" + END,
        b"HTTP/1.1 20 OK\r\n" + END,
        b"HTTP/1.1 2000 OK\r\n" + END,
        b"HTTP/1.1 abc OK\r\n" + END,
        b"HTTP/1.1 -200 OK\r\n" + END,
        b"HTTP/1.1200 OK\r\n" + END,
        b"HTTP/2.0 200 OK\r\n" + END,
        b"HTTP/0.9 200 OK\r\n" + END,
        b"RTSP/1.0 200 OK\r\n" + END,
        b"\r\nHTTP/1.1 200 OK\r\n" + END,
        b"HTTP/1.1 200 O\x00K\r\n" + END,
        b"HTTP/1.1 200 O\rK\r\n" + END,
        OK + b"X: a\x00b\r\n" + END,
        OK + b"X: a\x01b\r\n" + END,
        OK + b"X: a\x0bb\r\n" + END,
        OK + b"X: a\x7fb\r\n" + END,
        OK + b"X: a\rb\r\n" + END,
        OK + b"X: a\r\n b\r\n" + END,
        OK + b"X\x00: a\r\n" + END,
        OK + b"X : a\r\n" + END,
        OK + b"X Y: a\r\n" + END,
        OK + b": a\r\n" + END,
        OK + b"Content-Length: 2\r\n" + END,
        OK + b"Content-Length: 3\r\n" + END,
        OK + b"Content-Length: 2, 2\r\n\r\nok",
        OK + b"Content-Length: -2\r\n\r\nok",
        OK + b"Content-Length: 0x2\r\n\r\nok",
        OK + b"Content-Length: 99999999999999999999\r\n\r\nok",
        OK + b"Transfer-Encoding: chunked\r\n" + END,
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"X: " + b"x" * MIB,
        OK + b"X: 1\r\n" * (MIB // 6),
        b"HTTP/1.1 100 Continue\r\n\r\n" * 100_000,
        b"HTTP/1.1 102 Processing\r\nX: 1\r\n\r\n" * 100,
        b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nok" + OK + END,
        b"HTTP/1.1 100 Continue\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + OK + END,
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"<html>ok</html>",
        b"\x00" * 100,
        b"\x16\x03\x01\x02\x00\x01\x00",
        bytes(range(256)),
    ],
    ids=lambda answer: repr(answer[:40])[2:-1],
)
async def test_answer_that_is_none_is_a_502_and_costs_its_connection(neighbours: Neighbours, answer: bytes) -> None:
    client = await hear(neighbours, answer)

    if b"102" in answer:  # those that pass come first
        for _ in range(8):
            assert (await client.take_response()).status == 102
    assert await told(client) == (502, "upstream-invalid")
    await given_up(neighbours.proxy)


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS"])
async def test_unsolicited_switch_is_a_502_whatever_the_method(neighbours: Neighbours, method: str) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
    client = await hear(neighbours, switch, request=ask("/ws/demo/x", method=method))

    assert (await client.take_response(method)).status == 502
    await given_up(neighbours.proxy)


@pytest.mark.parametrize(
    "answer", [b"H", b"HTTP/1.1 200", OK, OK + b"Content-Length: 2", b"HTTP/1.1 100 Continue\r\n\r\n"]
)
async def test_end_within_a_head_is_a_502(neighbours: Neighbours, answer: bytes) -> None:
    client = await hear(neighbours, answer, is_ended=True)

    assert await told(client) == (502, "upstream-closed")


@pytest.mark.parametrize(
    ("answer", "is_ended"),
    [
        (OK + b"Content-Length: 100\r\n\r\n", True),
        (OK + b"Content-Length: 100\r\n\r\nhalf", True),
        (CHUNKED, True),
        (CHUNKED + b"5\r\nhe", True),
        (CHUNKED + chunk(b"half"), True),
        (CHUNKED + chunk(b"half") + b"0\r\n", True),
        (CHUNKED + chunk(b"half") + b"zz\r\n", False),
        (CHUNKED + chunk(b"half") + b"-1\r\n", False),
        (CHUNKED + chunk(b"half") + b"fffffffffffffffff\r\n", False),
        (CHUNKED + b"4\r\nhalfX\r\n", False),
        (CHUNKED + chunk(b"half") + b"1;" + b"x" * MIB, False),
        (CHUNKED + chunk(b"half") + b"0\r\n" + b"X: 1\r\n" * (MIB // 6), False),
        (CHUNKED + chunk(b"half") + b"0\r\nX\x00: 1\r\n\r\n", False),
    ],
    ids=lambda value: repr(value[-30:])[2:-1] if isinstance(value, bytes) else "",
)
async def test_body_that_does_not_end_as_it_should_is_broken_off(
    neighbours: Neighbours, answer: bytes, is_ended: bool
) -> None:
    client = await hear(neighbours, answer, is_ended=is_ended)

    assert await client.ending() == "reset"
    await given_up(neighbours.proxy)


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        ("GET", OK + END + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"ok"),
        ("GET", OK + END + b"x", b"ok"),
        ("GET", CHUNKED + chunk(b"ok") + b"0\r\n\r\n" + b"x", b"ok"),
        ("HEAD", OK + END, b""),
        ("HEAD", CHUNKED + chunk(b"ok") + b"0\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\nok", b""),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok", b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok", b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", b""),
        ("GET", OK + b"Connection: close\r\n" + END, b"ok"),
        ("GET", b"HTTP/1.0 200 OK\r\n" + END, b"ok"),
    ],
)
async def test_answer_with_more_behind_it_is_whole_and_costs_its_connection(
    neighbours: Neighbours, method: str, answer: bytes, body: bytes
) -> None:
    client = await hear(neighbours, answer, request=ask("/ws/demo/x", method=method))

    response = await client.take_response(method)
    await given_up(neighbours.proxy)

    assert response.body == body
    assert b"evil" not in client.taken


@pytest.mark.parametrize(
    ("method", "answer", "lines"),
    [
        ("HEAD", CHUNKED, []),
        ("HEAD", OK + b"Content-Length: 5000000000\r\n\r\n", [b"Content-Length: 5000000000"]),
        (
            "GET",
            b'HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\nETag: "a"\r\n\r\n',
            [b"Content-Length: 70", b'ETag: "a"'],
        ),
        ("GET", b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", []),
        ("GET", b"HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n", [b"Content-Length: 0"]),
        ("OPTIONS", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", [b"Content-Length: 0"]),
        ("GET", b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n", [b"Content-Length: 0"]),
    ],
)
async def test_answer_without_a_body_ends_with_its_head(
    launch: Launch, method: str, answer: bytes, lines: list[bytes]
) -> None:
    proxy = await launch()
    client = await hear(proxy, answer, request=ask("/ws/demo/x", method=method))
    response = await client.take_response("HEAD")

    client.send(ask("/ws/demo/next"))
    assert (await proxy.origin.connections[0].take_request()).target == b"/ws/demo/next"
    proxy.origin.connections[0].send(PLAIN)

    assert (await client.take_response()).body == b"ok"
    assert [line for line in response.lines if not line.startswith(b"Transfer")] == lines


async def test_refusal_that_closes_a_kept_connection_reaches_its_client_which_goes_on(launch: Launch) -> None:
    proxy = await launch()
    client = await hear(proxy, PLAIN)
    await client.take_response()
    (kept,) = proxy.origin.connections

    client.send(ask("/ws/demo/x", method="POST", body=b"x"))
    await kept.take_request()
    kept.send(b"HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
    kept.close()
    response = await client.take_response()
    client.send(ask("/ws/demo/y"))
    fresh, request = await proxy.origin.asked()
    fresh.send(PLAIN)

    assert (response.status, response.body, response.values(b"connection")) == (401, b"no", [])
    assert request.target == b"/ws/demo/y"
    assert (await client.take_response()).status == 200


async def test_interim_answers_of_every_kind_pass_in_their_order(launch: Launch) -> None:
    proxy = await launch()
    request = ask("/ws/demo/x", "Content-Length: 2", "Expect: 100-continue", method="PUT")
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    client = await hear(
        proxy, b"HTTP/1.1 102 Processing\r\n\r\n", hints, b"HTTP/1.1 100 Continue\r\n\r\n", request=request
    )
    interim = [(await client.take_response()).status for _ in range(3)]
    client.send(b"hi")
    (wire,) = proxy.origin.connections
    await wire.take(2)
    wire.send(hints, OK, END)

    assert interim == [102, 103, 100]
    assert [(await client.take_response()).status for _ in range(2)] == [103, 200]


async def test_handshake_that_is_answered_with_garbage_is_a_502(neighbours: Neighbours) -> None:
    client = await hear(neighbours, b"\x81\x05hello", request=ask_upgrade("/ws/demo/x"))

    assert await told(client) == (502, "upstream-invalid")
    await given_up(neighbours.proxy)
