"""Clients that take their time, or too much room: what they are told, and that nobody else is hurt."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.app import App
from proxy.config import Config
from proxy.relay.server import Limits
from tests.gateway.conftest import MovingBackend
from tests.gateway.test_errors import problem_code
from tests.relay.origin import PLAIN, Answers, Origin, ask, ask_upgrade, chunk, connect, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch

SHORT = 0.1
HURRY = Limits(header_timeout=SHORT, body_idle_timeout=SHORT, max_header_bytes=8192)
MIB = 1 << 20


@pytest.mark.parametrize("sent", [b"", b"half"])
@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_upload_that_stands_still_is_answered_408_and_ends_upstream(
    launch: Launch, framing: str, sent: bytes
) -> None:
    proxy = await launch(limits=HURRY)

    client = await proxy.sent(ask("/ws/demo/x", framing, method="PUT"), chunk(sent) if sent else b"")
    wire = await proxy.origin.accepted()
    response = await client.take_response()

    assert (response.status, problem_code(response)) == (408, "request-timeout")
    assert response.values(b"connection") == [b"close"]
    assert await client.ending() == "closed"
    assert await wire.ending() in ("closed", "reset")
    assert not wire.taken.endswith(b"0\r\n\r\n")


async def test_upload_that_stands_still_behind_the_beginning_of_its_answer_is_cut_off(launch: Launch) -> None:
    proxy = await launch(limits=HURRY)

    client = await proxy.sent(ask("/ws/demo/x", "Content-Length: 1000", method="PUT"), b"half")
    wire = await proxy.origin.accepted()
    await wire.take_until(b"half")
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await client.take_until(b"half")

    assert await client.ending() == "reset"
    assert await wire.ending() in ("closed", "reset")


async def test_upload_that_its_notebook_does_not_take_is_not_late(launch: Launch) -> None:
    proxy = await launch(limits=HURRY, receive_buffer=16_384)
    size = 32 * MIB

    client = await proxy.sent(ask("/ws/demo/x", f"Content-Length: {size}", method="PUT"), b"x" * size)
    wire = await proxy.origin.accepted()
    await wire.take_until(b"\r\n\r\n")
    for _ in range(3):
        assert await (await proxy.connect()).ending() == "closed"  # a whole timeout
    wire.widen()
    await wire.take(size)
    wire.send(PLAIN)

    assert (await client.take_response()).status == 200


async def test_upload_that_waits_for_a_100_is_late_only_after_it(launch: Launch) -> None:
    proxy = await launch(limits=HURRY)

    client = await proxy.sent(ask("/ws/demo/x", "Content-Length: 4", "Expect: 100-continue", method="PUT"))
    wire = await proxy.origin.accepted()
    for _ in range(3):
        assert await (await proxy.connect()).ending() == "closed"  # a whole timeout
    assert client.taken == b""
    wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.take_until(b"100 Continue\r\n\r\n")
    response = await client.take_response()

    assert (response.status, problem_code(response)) == (408, "request-timeout")


async def test_long_answer_and_websocket_outlast_every_timeout_of_requests(launch: Launch) -> None:
    proxy = await launch(limits=HURRY)
    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    await client.take_until(b"\r\n\r\n")
    handshaking = await proxy.sent(ask_upgrade())
    asked, _ = await proxy.origin.asked()

    for _ in range(3):
        assert await (await proxy.connect()).ending() == "closed"  # a whole timeout
    wire.send(b"ok")
    asked.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    assert await client.take(2) == b"ok"
    assert (await handshaking.take_response()).status == 403


async def test_two_hundred_headers_and_long_lines_pass_untouched(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers, limits=Limits(max_header_bytes=32_768))
    lines = [*(f"X-{number}: {number}" for number in range(200)), "X-Long: " + "x" * 8200, "Cookie: a=" + "b" * 16_000]

    response = await (await proxy.sent(ask("/ws/demo/" + "y" * 4000, *lines))).take_response()

    assert response.status == 200
    assert answers.requests[0].lines[1 : len(lines) + 1] == [line.encode() for line in lines]


async def test_headers_over_the_limit_reach_nobody(launch: Launch) -> None:
    proxy = await launch(limits=HURRY)

    client = await proxy.sent(ask("/ws/demo/", "X-Long: " + "x" * 8200))
    response = await client.take_response()

    assert (response.status, problem_code(response)) == (431, "headers-too-large")
    assert await client.ending() == "closed"
    assert not proxy.backend.starts


async def test_connection_beyond_the_limit_is_told_and_reaches_nobody(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers, limits=Limits(max_connections=2))
    kept = [await proxy.sent(ask()) for _ in range(2)]
    for client in kept:
        await client.take_response()

    program = await (await proxy.sent(ask("/ws/other/api"))).take_response()
    person = await (await proxy.sent(ask("/ws/other/lab", "Sec-Fetch-Mode: navigate"))).take_response()
    upgrade = await (await proxy.sent(ask_upgrade("/ws/other/x"))).take_response()

    assert {response.status for response in (program, person, upgrade)} == {503}
    assert problem_code(program) == "too-many-connections"
    assert [response.values(b"retry-after") for response in (program, person)] == [[b"5"], [b"5"]]
    assert b'http-equiv="refresh" content="5"' in person.body
    assert proxy.backend.starts == {"demo": 1}
    assert len(answers.requests) == 2


async def test_client_that_does_not_read_its_answer_is_given_up_and_so_is_the_answer() -> None:
    async with Origin() as origin:
        config = Config(listen="127.0.0.1:0", client_stall_timeout=timedelta(seconds=0.5))
        async with App(config, MovingBackend(origin.port)) as app:
            port = int(app.url.rpartition(":")[2])
            client = await connect(port, receive_buffer=16_384)
            client.send(ask())
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            wire, _ = await origin.asked()
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 * MIB), b"x" * 32 * MIB)

            assert await wire.ending() in ("closed", "reset")
            await until(lambda: not app.gateway.in_flight)

            other = await connect(port)
            other.send(ask())
            wire, _ = await origin.asked()
            wire.send(PLAIN)
            assert (await other.take_response()).status == 200
            await asyncio.gather(client.closed(), other.closed())
