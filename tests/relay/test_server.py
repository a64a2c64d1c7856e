"""What a client may take of the proxy: the time for a head and a body, their sizes, a connection at all."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from proxy.relay import server as server_module
from proxy.relay.downstream import RELAYED_CLOSE, RELAYED_KEEP, BodyStalled
from proxy.relay.server import Limits
from tests.relay.origin import PLAIN, ask, ask_upgrade, chunk, until
from tests.relay.service import Service, serving, write

if TYPE_CHECKING:
    from proxy.errors import ProxyError
    from tests.relay.origin import Message, Wire

SHORT = 0.1
SMALL = 4096
HURRY = Limits(header_timeout=SHORT, body_idle_timeout=SHORT, max_header_bytes=SMALL)
SIZES = Limits(max_header_bytes=SMALL)


async def never(request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    write(request, PLAIN)
    return RELAYED_KEEP


def code(response: Message) -> tuple[int, str]:
    assert response.values(b"content-type") == [b"application/problem+json"]
    assert response.start.startswith(b"HTTP/1.0") or response.values(b"connection") == [b"close"]
    return response.status, json.loads(response.body)["code"]


async def refused(wire: Wire) -> tuple[int, str]:
    """What a client is told, at the end of its connection."""
    told = code(await wire.take_response())
    assert await wire.ending() in ("closed", "reset")
    return told


async def longer_than(service: Service) -> None:
    """Return when a connection that begins now has lived for as long as `header_timeout` allows."""
    assert await (await service.sent()).ending() == "closed"


# Time for a head ------------------------------------------------------------------------------------------------------


async def test_connection_on_which_nothing_comes_is_closed_without_a_word() -> None:
    async with serving(never, HURRY) as service:
        client = await service.sent()

        assert await client.take_rest() == b""


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"\r\nGET /"])
async def test_head_that_does_not_go_on_is_answered_408(part: bytes) -> None:
    async with serving(never, HURRY) as service:
        assert await refused(await service.sent(part)) == (408, "request-timeout")


async def test_head_that_drips_is_answered_408_however_steadily_it_does() -> None:
    async with serving(never, HURRY) as service:
        client = await service.sent(b"GET / HTTP/1.1\r\nX: ")

        async def drip() -> None:
            while True:
                client.send(b"x")
                await asyncio.sleep(SHORT / 20)

        dripping = asyncio.create_task(drip())
        assert code(await client.take_response()) == (408, "request-timeout")
        dripping.cancel()
        await asyncio.wait((dripping,))


async def test_empty_lines_do_not_keep_a_connection() -> None:
    async with serving(never, HURRY) as service:
        client = await service.sent(b"\r\n", b"\r\n")

        assert await client.take_rest() == b""


async def test_kept_connection_may_be_idle_for_longer_than_a_head_may_take() -> None:
    async with serving(answer, HURRY) as service:
        client = await service.sent(ask())
        await client.take_response()

        await longer_than(service)
        client.send(ask())

        assert (await client.take_response()).status == 200


async def test_second_head_on_a_connection_has_its_time_too() -> None:
    async with serving(answer, HURRY) as service:
        client = await service.sent(ask())
        await client.take_response()
        client.send(b"GET /")

        assert await refused(client) == (408, "request-timeout")


async def test_answer_may_take_longer_than_a_head() -> None:
    gate = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        await gate.wait()
        return await answer(request)

    async with serving(slow, HURRY) as service:
        client = await service.sent(ask())
        await until(lambda: service.server.requests_count)
        await longer_than(service)
        gate.set()

        assert (await client.take_response()).status == 200


async def test_late_head_behind_a_request_in_flight_is_answered_in_its_turn() -> None:
    gate = asyncio.Event()

    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        write(request, PLAIN[:-2])
        await gate.wait()
        write(request, b"ok")
        return RELAYED_KEEP

    async with serving(slow, HURRY) as service:
        client = await service.sent(ask())
        await client.take_until(b"\r\n\r\n")
        client.send(b"GET /")
        await until(lambda: service.server.heads)
        await until(lambda: not service.server.heads)
        gate.set()

        assert await client.take(2) == b"ok"
        assert await refused(client) == (408, "request-timeout")


async def test_time_for_a_head_does_not_count_while_frames_pass() -> None:
    got: list[bytes] = []

    class Frames:
        def feed_data(self, data: bytes) -> tuple[bool, bytes]:
            got.append(data)
            return False, b""

        def feed_eof(self) -> None:
            over.set()

    over = asyncio.Event()

    async def upgrade(request: web.BaseRequest) -> web.StreamResponse:
        from proxy.relay.downstream import take_over

        take_over(request, Frames())
        write(request, b"taken")
        await over.wait()
        return RELAYED_CLOSE

    async with serving(upgrade, HURRY) as service:
        client = await service.sent(ask_upgrade())
        await client.take_until(b"taken")
        client.send(b"x")
        await until(lambda: got)
        await longer_than(service)
        client.send(b"y")
        await until(lambda: b"".join(got) == b"xy")
        client.close()
        await over.wait()


# Time for a body ------------------------------------------------------------------------------------------------------


class Reading:
    """A handler that reads the body, and remembers how that went."""

    def __init__(self) -> None:
        self.read = b""
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        await self.gate.wait()
        try:
            while data := await request.content.readany():
                self.read += data
        except Exception as error:
            self.error = error
            return RELAYED_CLOSE
        return await answer(request)


@pytest.mark.parametrize("part", [b"", b"half"])
@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_body_that_stands_still_fails_its_reader(framing: str, part: bytes) -> None:
    reading = Reading()
    async with serving(reading, HURRY) as service:
        client = await service.sent(ask("/", framing, method="POST"), chunk(part) if part else b"")

        assert await client.take_rest() == b""

    assert isinstance(reading.error, BodyStalled)
    assert reading.read == (b"4\r\nhalf\r\n" if part and "Length" in framing else part)


async def test_body_that_goes_on_may_take_for_ever() -> None:
    reading = Reading()
    async with serving(reading, HURRY) as service:
        client = await service.sent(ask("/", "Content-Length: 20", method="POST"))
        for number in range(20):
            client.send(b"x")
            await until(lambda number=number: len(reading.read) > number)  # type: ignore[misc]
            await asyncio.sleep(SHORT / 4)

        assert (await client.take_response()).status == 200


async def test_body_that_nobody_waits_for_is_not_late() -> None:
    reading = Reading()
    reading.gate.clear()
    async with serving(reading, HURRY) as service:
        client = await service.sent(ask("/", "Content-Length: 4", method="POST"))
        await until(lambda: service.server.requests_count)
        for _ in range(3):
            await longer_than(service)
        reading.gate.set()
        client.send(b"late")

        assert (await client.take_response()).status == 200


async def test_body_that_waits_for_a_100_is_late_only_after_it() -> None:
    from proxy.relay.downstream import expect_body

    told = asyncio.Event()
    errors: list[Exception] = []

    async def read(request: web.BaseRequest) -> web.StreamResponse:
        async def tell() -> None:
            await told.wait()
            expect_body(request)

        telling = asyncio.create_task(tell())
        try:
            await request.content.readany()
        except BodyStalled as error:
            errors.append(error)
        await telling
        return RELAYED_CLOSE

    async with serving(read, HURRY) as service:
        client = await service.sent(ask("/", "Content-Length: 4", "Expect: 100-continue", method="POST"))
        await until(lambda: service.server.requests_count)
        for _ in range(3):
            await longer_than(service)
        assert errors == []
        told.set()
        await client.ending()

    assert len(errors) == 1


# Sizes ----------------------------------------------------------------------------------------------------------------


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


LINE = "X-Long: " + "x" * SMALL
MANY = tuple(f"X-{number}: {'x' * 90}" for number in range(SMALL // 90))


@pytest.mark.parametrize(
    "head",
    [ask("/", LINE), ask("/", *MANY), ask("/" + "x" * SMALL), ask("/ok") + ask("/", *MANY)],
    ids=["line", "lines", "target", "second"],
)
@pytest.mark.parametrize("size", [7, 1000, 50_000])
async def test_head_over_the_limit_is_answered_431_however_it_comes(head: bytes, size: int) -> None:
    async with serving(answer, SIZES) as service:
        client = await service.sent()
        for piece in pieces(head + ask() * (size // 5), size):  # it goes on sending, and gets its answer all the same
            await client.push(piece)
            await asyncio.sleep(0)
        if head.startswith(b"GET /ok"):
            assert (await client.take_response()).status == 200

        assert await refused(client) == (431, "headers-too-large")
        assert service.server.requests_count == 1 + head.count(b"/ok")


@pytest.mark.parametrize("lines", [("X-Long: " + "x" * (SMALL - 200),), MANY[:-10], ("X: 1",) * 200])
async def test_head_below_the_limit_passes(lines: tuple[str, ...]) -> None:
    async with serving(answer, SIZES) as service:
        assert (await (await service.sent(ask("/", *lines))).take_response()).status == 200


async def test_head_that_never_ends_is_not_kept() -> None:
    async with serving(never, SIZES) as service:
        client = await service.sent(b"GET / HTTP/1.1\r\n")
        for number in range(SMALL // 10):
            client.send(b"X-%07d: 1\r\n" % number)

        assert await refused(client) == (431, "headers-too-large")


async def test_body_behind_an_upgrade_that_was_declined_is_not_taken_for_a_head() -> None:
    reading, gate = Reading(), asyncio.Event()

    async def decline(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST":
            return await reading(request)
        await gate.wait()
        return await answer(request)

    async with serving(decline, SIZES) as service:
        client = await service.sent(ask_upgrade("/"), ask("/", f"Content-Length: {SMALL * 10}", method="POST"))
        await until(lambda: service.server.requests_count)
        gate.set()
        await client.take_response()
        for _ in range(10):
            await client.push(b"x" * SMALL)
            await asyncio.sleep(0.001)

        assert (await client.take_response()).status == 200

    assert len(reading.read) == SMALL * 10


async def test_many_small_heads_are_not_taken_for_a_large_one() -> None:
    async with serving(answer, SIZES) as service:
        client = await service.sent(ask() * 500)

        assert [(await client.take_response()).status for _ in range(500)] == [200] * 500


async def test_large_body_is_not_taken_for_a_head() -> None:
    reading = Reading()
    async with serving(reading, SIZES) as service:
        body = b"x" * 2_000_000
        chunks = b"".join(chunk(body[at : at + 10]) for at in range(0, 50_000, 10)) + b"0\r\n\r\n"
        client = await service.sent(ask(method="POST", body=body))
        client.send(ask("/", "Transfer-Encoding: chunked", method="POST"), chunks, ask())

        assert [(await client.take_response()).status for _ in range(3)] == [200] * 3

    assert len(reading.read) == 2_050_000


@pytest.mark.parametrize("flood", [b"1;" + b"x" * SMALL * 20, b"0\r\n" + b"X: " + b"x" * SMALL * 20])
async def test_framing_that_holds_no_content_is_not_read_for_ever(flood: bytes) -> None:
    reading = Reading()
    async with serving(reading, SIZES) as service:
        client = await service.sent(ask("/", "Transfer-Encoding: chunked", method="POST"), chunk(b"good"))
        await until(lambda: reading.read)
        for piece in pieces(flood, 1000):
            client.send(piece)

        assert await client.ending() in ("closed", "reset")

    assert isinstance(reading.error, web.RequestPayloadError)
    assert reading.read == b"good"


# Connections ----------------------------------------------------------------------------------------------------------


async def full(request: web.BaseRequest) -> web.StreamResponse:
    response = web.Response(status=503)
    response.force_close()
    return response


async def test_connections_beyond_the_limit_are_shed_and_there_is_room_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(answer, Limits(max_connections=3), full) as service:
        kept = [await service.sent(ask()) for _ in range(3)]
        for client in kept:
            await client.take_response()

        for _ in range(5):
            shed = await service.sent(ask())
            assert (await shed.take_response()).status == 503
            assert await shed.ending() == "closed"
        kept[0].send(ask())
        assert (await kept[0].take_response()).status == 200
        await kept[1].closed()
        await until(lambda: not service.server.is_full)

        assert (await (await service.sent(ask())).take_response()).status == 200

    told = [record.getMessage().partition(":")[0] for record in caplog.records]
    assert told == ["shedding connections", "no longer shedding connections"]


async def test_connection_beyond_the_limit_has_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "SHED_TIMEOUT", SHORT)
    async with serving(answer, Limits(header_timeout=60, max_connections=1), full) as service:
        kept = await service.sent(ask())
        await kept.take_response()

        silent, half, body = [
            await service.sent(sent) for sent in (b"", b"GET /", ask("/", "Content-Length: 9", method="POST"))
        ]

        assert await silent.take_rest() == b""
        assert await refused(half) == (408, "request-timeout")
        assert (await body.take_response()).status == 503
        assert await body.ending() == "closed"


async def test_shed_connection_is_never_served_though_there_is_room_by_now() -> None:
    async with serving(answer, Limits(max_connections=1), full) as service:
        kept = await service.sent(ask())
        await kept.take_response()
        early = await service.sent()
        await until(lambda: service.server.open_connections == 2)
        await kept.closed()
        await until(lambda: service.server.open_connections == 1)
        early.send(ask())

        assert (await early.take_response()).status == 503


def test_refusals_are_errors_with_statuses_of_their_own() -> None:
    from proxy.errors import HeadersTooLarge, RequestTimeout, TooManyConnections

    errors: list[ProxyError] = [HeadersTooLarge("x"), RequestTimeout("x"), TooManyConnections()]
    assert [error.status for error in errors] == [431, 408, 503]
