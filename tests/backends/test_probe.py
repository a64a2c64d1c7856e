from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from yarl import URL

from proxy.backends.probe import probe, until_answering
from proxy.workspace import Handle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """A server that answers each connection with the next of its answers, the last for ever."""

    def __init__(self, *answers: bytes, closes: bool = True) -> None:
        self.answers = list(answers)
        self.closes = closes
        self.requests: list[bytes] = []
        self.left = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
            if not self.closes:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.left.set()
            writer.transport.abort()


@asynccontextmanager
async def served(
    peer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[Handle]:
    server = await asyncio.start_server(peer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Handle(URL(f"http://127.0.0.1:{port}"), {"Authorization": "token t"})
    finally:
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("status", [200, 302, 404, 503])
async def test_probe_returns_the_status_of_the_answer(status: int) -> None:
    async with served(Peer(b"HTTP/1.1 %d Whatever\r\nContent-Length: 2\r\n\r\nok" % status)) as handle:
        assert await probe(handle, "/ws/a/api") == status


async def test_probe_sends_one_request_with_the_headers_of_the_handle() -> None:
    peer = Peer(b"HTTP/1.0 200\r\n\r\n")

    async with served(peer) as handle:
        assert await probe(handle, "/ws/a/api") == 200

    head = peer.requests[0].decode().split("\r\n")
    assert head[0] == "GET /ws/a/api HTTP/1.1"
    assert f"Host: 127.0.0.1:{handle.address[1]}" in head
    assert "Connection: close" in head
    assert "Authorization: token t" in head


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200", b"200 OK\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"HTTP/1.1 000 No\r\n\r\n", b"x" * 300_000],
)
async def test_what_is_no_status_line_is_no_answer(answer: bytes) -> None:
    async with served(Peer(answer)) as handle:
        assert await probe(handle, "/") is None


async def test_a_refused_connection_is_no_answer() -> None:
    async with served(Peer(b"")) as handle:
        pass

    assert await probe(handle, "/") is None


async def test_a_silent_server_is_no_answer_after_the_deadline() -> None:
    peer = Peer(b"", closes=False)

    async with served(peer) as handle:
        assert await probe(handle, "/", deadline_seconds=0.05) is None
        await asyncio.wait_for(peer.left.wait(), 10)


async def test_a_server_that_keeps_the_connection_open_has_answered_all_the_same() -> None:
    peer = Peer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", closes=False)

    async with served(peer) as handle:
        assert await probe(handle, "/", deadline_seconds=30) == 200
        await asyncio.wait_for(peer.left.wait(), 10)


async def test_an_endless_answer_is_read_only_so_far() -> None:
    async def gush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
        except ConnectionError:
            writer.transport.abort()

    async with served(gush) as handle:
        assert await probe(handle, "/", deadline_seconds=30) == 200


async def test_until_answering_probes_by_fresh_connections_until_the_answer_is_200() -> None:
    peer = Peer(b"HTTP/1.1 503 Later\r\n\r\n", b"junk\r\n", b"HTTP/1.1 200 OK\r\n\r\n")
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    async with served(peer) as handle:
        await until_answering(handle, "/api", interval_seconds=7, sleep=sleep)

    assert len(peer.requests) == 3
    assert slept == [7, 7]


async def test_cancelling_a_probe_closes_its_connection() -> None:
    peer = Peer(b"", closes=False)

    async with served(peer) as handle:
        waiting = asyncio.create_task(until_answering(handle, "/", deadline_seconds=60))
        while not peer.requests:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await asyncio.wait_for(peer.left.wait(), 10)
