"""The parts of aiohttp's server that the relay stands on: a new release must keep them, or fail here."""

from __future__ import annotations

import asyncio
import gzip
import logging
from typing import Any

import pytest
from aiohttp import web

from proxy.relay.downstream import RELAYED_CLOSE, RELAYED_KEEP, cut_off, take_over
from proxy.relay.server import KEEP_ALIVE
from tests.relay.origin import PLAIN, ask, ask_upgrade, chunk, until
from tests.relay.service import serving, write


async def test_handler_owns_the_response_that_it_has_written() -> None:
    async def relay(request: web.BaseRequest) -> web.StreamResponse:
        write(request, PLAIN)
        return RELAYED_KEEP

    async with serving(relay) as service:
        client = await service.sent(ask(), ask())
        heads = [(await client.take_response()).head for _ in range(2)]

        assert heads == [PLAIN[:-2]] * 2


async def test_handler_can_end_the_connection_behind_its_response() -> None:
    async def relay(request: web.BaseRequest) -> web.StreamResponse:
        write(request, PLAIN)
        return RELAYED_CLOSE

    async with serving(relay) as service:
        client = await service.sent(ask(), ask())

        assert await client.take_rest() == PLAIN


async def test_large_write_is_flushed_before_the_connection_ends() -> None:
    async def relay(request: web.BaseRequest) -> web.StreamResponse:
        write(request, b"x" * 8_000_000)
        return RELAYED_CLOSE

    async with serving(relay) as service:
        client = await service.sent(ask())

        assert len(await client.take_rest()) == 8_000_000


async def test_full_write_buffer_is_seen_and_waited_for() -> None:
    seen: list[bool] = []

    async def relay(request: web.BaseRequest) -> web.StreamResponse:
        write(request, b"x" * 8_000_000)
        seen.append(request.protocol.writing_paused)
        await request.writer.drain()
        seen.append(request.protocol.writing_paused)
        return RELAYED_CLOSE

    async with serving(relay) as service:
        client = await service.sent(ask())
        await client.take(8_000_000)
        await client.ending()

        assert seen == [True, False]


class Collector:
    """Keeps what comes after an upgrade."""

    def __init__(self) -> None:
        self.data = b""
        self.is_over = asyncio.Event()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.data += data
        return False, b""

    def feed_eof(self) -> None:
        self.is_over.set()


async def test_parser_takes_what_was_buffered_first_then_the_rest_then_the_end() -> None:
    gate, collector = asyncio.Event(), Collector()

    async def upgrade(request: web.BaseRequest) -> web.StreamResponse:
        await gate.wait()
        take_over(request, collector)
        write(request, b"taken")
        await collector.is_over.wait()
        return RELAYED_CLOSE

    async with serving(upgrade) as service:
        client = await service.sent(ask_upgrade(), b"first GET / HTTP/1.1\r\n\r\n")
        await until(lambda: service.server.connections)
        client.send(b"second")
        gate.set()
        await client.take_until(b"taken")
        client.send(b"third")
        await until(lambda: collector.data.endswith(b"third"))
        client.close()
        await collector.is_over.wait()

    assert collector.data == b"first GET / HTTP/1.1\r\n\r\nsecondthird"


async def test_parser_may_pause_the_client_and_let_it_go_on() -> None:
    collector = Collector()
    requests: list[web.BaseRequest] = []

    async def upgrade(request: web.BaseRequest) -> web.StreamResponse:
        requests.append(request)
        take_over(request, collector)
        request.protocol.pause_reading()
        write(request, b"taken")
        await collector.is_over.wait()
        return RELAYED_CLOSE

    async with serving(upgrade) as service:
        client = await service.sent(ask_upgrade())
        await client.take_until(b"taken")
        client.send(b"x" * 32_000_000)
        await until(lambda: client.unsent)
        held = collector.data
        requests[0].protocol.resume_reading()
        await until(lambda: len(collector.data) == 32_000_000)

        assert held == b""


async def test_request_behind_an_upgrade_that_was_declined_is_read() -> None:
    targets: list[str] = []

    async def decline(request: web.BaseRequest) -> web.StreamResponse:
        targets.append(request.path)
        write(request, PLAIN)
        return RELAYED_KEEP

    async with serving(decline) as service:
        client = await service.sent(ask_upgrade("/first"), ask("/second"))
        for _ in range(2):
            await client.take_response()

    assert targets == ["/first", "/second"]


async def test_cut_off_resets_the_connection() -> None:
    async def relay(request: web.BaseRequest) -> web.StreamResponse:
        write(request, b"half")
        await request.writer.drain()
        cut_off(request)
        return RELAYED_CLOSE

    async with serving(relay) as service:
        client = await service.sent(ask())

        assert await client.ending() == "reset"


async def test_cut_off_of_a_client_that_is_gone_does_nothing() -> None:
    ended = asyncio.Event()

    async def relay(request: web.BaseRequest) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            cut_off(request)
            cut_off(request)
            ended.set()
        return RELAYED_CLOSE

    async with serving(relay) as service:
        client = await service.sent(ask())
        await until(lambda: service.server.requests_count)
        client.close()

        await asyncio.wait_for(ended.wait(), 10)


async def test_handler_is_cancelled_when_its_client_leaves() -> None:
    outcomes: list[str] = []

    async def wait(request: web.BaseRequest) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            outcomes.append("cancelled")
            raise
        return RELAYED_CLOSE

    async with serving(wait) as service:
        client = await service.sent(ask())
        await until(lambda: service.server.requests_count)
        client.close()

        await until(lambda: outcomes == ["cancelled"])


async def test_compressed_body_is_not_inflated() -> None:
    bodies: list[bytes] = []

    async def keep(request: web.BaseRequest) -> web.StreamResponse:
        bodies.append(await request.content.read())
        return web.Response()

    packed = gzip.compress(b"hello" * 100)
    async with serving(keep) as service:
        client = await service.sent(ask("/", "Content-Encoding: gzip", method="POST", body=packed))
        await client.take_response()

    assert bodies == [packed]


async def test_body_that_turns_out_malformed_fails_its_reader() -> None:
    errors: list[Exception] = []

    async def read(request: web.BaseRequest) -> web.StreamResponse:
        try:
            await request.content.readany()
            write(request, b"go on")
            await request.content.read()
        except Exception as error:
            errors.append(error)
        return RELAYED_CLOSE

    async with serving(read) as service:
        client = await service.sent(ask("/", "Transfer-Encoding: chunked", method="POST"), chunk(b"good"))
        await client.take_until(b"go on")
        client.send(b"zz\r\n")
        await client.ending()

    assert [type(error) for error in errors] == [web.RequestPayloadError]


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nbad header\r\n\r\n", b"G\xffT / HTTP/1.1\r\n"]
)
async def test_what_is_not_http_is_refused_and_not_logged_as_a_defect(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async def never(request: web.BaseRequest) -> web.StreamResponse:
        raise AssertionError

    with caplog.at_level(logging.INFO):
        async with serving(never) as service:
            client = await service.sent(garbage)
            response = await client.take_response()

            assert (response.status, response.values(b"content-type")) == (400, [b"application/problem+json"])
            assert await client.ending() == "closed"

    assert caplog.records == []


async def test_idle_connections_can_be_closed_and_busy_ones_are_left() -> None:
    gate = asyncio.Event()

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/busy":
            write(request, b"busy")
            await gate.wait()
        write(request, PLAIN)
        return RELAYED_KEEP

    async with serving(answer) as service:
        idle, busy = await service.sent(ask("/")), await service.sent(ask("/busy"))
        await idle.take_response()
        await busy.take_until(b"busy")
        protocols: list[Any] = service.server.connections
        await until(lambda: sum(protocol.is_idle for protocol in protocols) == 1)

        service.server.close_idle()

        assert await idle.ending() == "closed"
        gate.set()
        assert (await busy.take_response()).body == b"ok"


async def test_idle_clients_are_kept_as_long_as_is_said() -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async with serving(answer) as service:
        await (await service.sent(ask("/"))).take_response()

        (protocol,) = service.server.connections
        assert protocol.keepalive_timeout == KEEP_ALIVE
