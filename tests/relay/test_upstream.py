"""Connections to notebook servers: kept, shared, given up, and never trusted."""

from __future__ import annotations

import asyncio
import errno
import os
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from proxy.errors import UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from proxy.relay import upstream
from proxy.relay.connection import Connection
from proxy.relay.upstream import Pool
from proxy.workspace import Handle
from tests.relay.origin import Origin, Wire, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MIB = 1 << 20


class Taker:
    """Keeps what a connection says."""

    def __init__(self, connection: Connection) -> None:
        self.heard = b""
        self.writable = 0
        self.ends: list[Exception | None] = []
        connection.taker = self

    def on_readable(self, data: bytes) -> None:
        assert not self.ends
        self.heard += data

    def on_writable(self) -> None:
        self.writable += 1

    def on_closed(self, error: Exception | None) -> None:
        self.ends.append(error)


class Waiter:
    """Waits for a head."""

    def __init__(self) -> None:
        self.errors: list[Exception] = []

    def fail(self, error: Exception) -> None:
        self.errors.append(error)


def handle_of(origin: Origin, token: str = "secret") -> Handle:
    return Handle(URL(f"http://127.0.0.1:{origin.port}/ws/demo/"), {"Authorization": f"token {token}"})


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with Origin() as running:
        yield running


@pytest.fixture
async def pool() -> AsyncIterator[Pool]:
    running = Pool(None)
    yield running
    running.close()


async def made(pool: Pool, origin: Origin, token: str = "secret") -> tuple[Connection, Wire]:
    """Return both ends of a new connection."""
    connection = await pool.acquire(handle_of(origin, token), fresh=True)
    return connection, await origin.accepted()


@pytest.mark.parametrize("end", ["close", "end_writing"])
async def test_what_is_held_back_is_sent_before_anything_else(pool: Pool, origin: Origin, end: str) -> None:
    connection, wire = await made(pool, origin)
    Taker(connection)
    connection.hold(b"1", pool.outbox)
    connection.write(b"2")
    connection.hold(b"3", pool.outbox)

    getattr(connection, end)()

    assert await wire.take_until(b"3") == b"123"
    assert pool.counts.to_notebook == 3


async def test_what_is_held_back_is_sent_before_an_early_answer_is_taken(pool: Pool, origin: Origin) -> None:
    connection, _ = await made(pool, origin)
    taker = Taker(connection)
    connection.hold(b"1", pool.outbox)

    connection.data_received(b"early")

    assert (pool.counts.to_notebook, taker.heard) == (1, b"early")


async def test_what_is_held_back_is_dropped_with_its_connection(pool: Pool, origin: Origin) -> None:
    connection, wire = await made(pool, origin)
    taker = Taker(connection)
    connection.hold(b"1", pool.outbox)

    connection.abort()

    assert await wire.take_rest() == b""
    await until(lambda: taker.ends == [None])
    assert pool.counts.to_notebook == 0


async def kept(pool: Pool, origin: Origin, token: str = "secret") -> tuple[Connection, Wire]:
    connection, wire = await made(pool, origin, token)
    pool.release(connection)
    return connection, wire


# Keeping --------------------------------------------------------------------------------------------------------------


async def test_released_connection_is_given_out_again(pool: Pool, origin: Origin) -> None:
    connection, _ = await kept(pool, origin)
    was_reused = connection.is_reused

    again = await pool.acquire(handle_of(origin))

    assert again is connection
    assert (was_reused, again.is_reused) == (False, True)
    again.abort()


async def test_last_released_is_given_out_first(pool: Pool, origin: Origin) -> None:
    first, second = [(await made(pool, origin))[0] for _ in range(2)]

    pool.release(first)
    pool.release(second)

    assert [await pool.acquire(handle_of(origin)) for _ in range(2)] == [second, first]
    first.abort()
    second.abort()


async def test_fresh_connection_leaves_the_kept_ones_alone(pool: Pool, origin: Origin) -> None:
    connection, _ = await kept(pool, origin)

    fresh, _ = await made(pool, origin)

    assert fresh is not connection
    assert not fresh.is_reused
    fresh.abort()


async def test_connections_are_not_shared_between_handles_of_one_address(pool: Pool, origin: Origin) -> None:
    connection, _ = await kept(pool, origin, "old")

    other = await pool.acquire(handle_of(origin, "new"))

    assert other is not connection
    other.abort()


async def test_no_more_than_so_many_are_kept(pool: Pool, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "MAX_IDLE", 2)
    pairs = [await made(pool, origin) for _ in range(3)]

    for connection, _ in pairs:
        pool.release(connection)

    assert await pairs[2][1].ending() == "closed"
    assert [connection.is_open for connection, _ in pairs] == [True, True, False]


async def test_connection_without_a_request_for_long_is_closed(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_TICK", 0.01)
    monkeypatch.setattr(upstream, "IDLE_TIMEOUT", 0.02)
    pool = Pool(None)

    _, wire = await kept(pool, origin)

    assert await wire.ending() == "closed"
    assert not pool._idle
    pool.close()


async def test_connection_that_is_paused_when_it_is_released_reads_again(pool: Pool, origin: Origin) -> None:
    connection, wire = await made(pool, origin)
    Taker(connection)
    connection.pause_reading()

    pool.release(connection)
    wire.close()

    await until(lambda: not pool._idle)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_kept_connection_that_the_server_ends_is_forgotten(pool: Pool, origin: Origin, how: str) -> None:
    _, wire = await kept(pool, origin)

    getattr(wire, how)()

    await until(lambda: not pool._idle)


async def test_bytes_that_nobody_asked_for_cost_the_connection(pool: Pool, origin: Origin) -> None:
    connection, wire = await kept(pool, origin)

    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")

    await until(lambda: not pool._idle)
    assert not connection.is_open
    assert await wire.ending() in ("closed", "reset")


async def test_connection_that_ended_before_its_release_is_not_kept(pool: Pool, origin: Origin) -> None:
    connection, wire = await made(pool, origin)
    taker = Taker(connection)
    wire.close()
    await until(lambda: taker.ends)

    pool.release(connection)

    assert not pool._idle


async def test_forgetting_a_handle_closes_its_connections_alone(pool: Pool, origin: Origin) -> None:
    _, old = await kept(pool, origin, "old")
    new, _ = await kept(pool, origin, "new")

    pool.forget(handle_of(origin, "old"))

    assert await old.ending() == "closed"
    assert await pool.acquire(handle_of(origin, "new")) is new
    new.abort()


async def test_closed_pool_keeps_nothing(origin: Origin) -> None:
    pool = Pool(None)
    _, idle = await kept(pool, origin)
    busy, wire = await made(pool, origin)

    pool.close()
    pool.release(busy)

    assert [await idle.ending(), await wire.ending()] == ["closed", "closed"]
    assert not pool._idle


# Connecting -----------------------------------------------------------------------------------------------------------


async def test_server_that_is_not_there_is_told_from_a_proxy_that_cannot_connect(pool: Pool, origin: Origin) -> None:
    origin.refuse()

    with pytest.raises(UpstreamRefused, match=r"\(Connection refused\)"):
        await pool.acquire(handle_of(origin))


class _BrokenLoop:
    """Fails every connection."""

    def __init__(self, error: OSError) -> None:
        self._error = error

    async def create_connection(self, *_: Any) -> None:
        raise self._error


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS])
async def test_proxy_that_cannot_connect_says_nothing_about_the_server(
    pool: Pool, origin: Origin, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_loop", _BrokenLoop(OSError(number, "at 10.0.0.1")))

    with pytest.raises(UpstreamUnreachable, match=re.escape(f"({os.strerror(number)})")):
        await pool.acquire(handle_of(origin))


class _CrampedLoop:
    """An event loop that has no file descriptor left until a connection has been closed."""

    def __init__(self, loop: asyncio.AbstractEventLoop, kept: Connection) -> None:
        self._loop = loop
        self._kept = kept
        self.attempts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(self, *args: Any) -> Any:
        self.attempts += 1
        if self._kept.transport is not None:
            raise OSError(errno.EMFILE, "none left")
        return await self._loop.create_connection(*args)


async def test_kept_connections_make_room_for_one_that_is_wanted(
    pool: Pool, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = await pool.acquire(handle_of(origin))
    pool.release(kept)
    loop = _CrampedLoop(asyncio.get_running_loop(), kept)
    monkeypatch.setattr(pool, "_loop", loop)

    connection = await pool.acquire(handle_of(origin), fresh=True)

    assert connection.is_open
    assert loop.attempts == 2
    assert not pool._idle
    connection.abort()


async def test_server_that_does_not_answer_may_only_be_busy(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "CONNECT_TIMEOUT", 0.05)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent:
        address = silent.getsockname()
        queued = [socket.socket() for _ in range(3)]
        for sock in queued:  # the queue is full: what comes now is dropped
            sock.setblocking(False)
            sock.connect_ex(address)

        with pytest.raises(UpstreamUnreachable, match="no answer"):
            await pool.acquire(Handle(URL(f"http://127.0.0.1:{address[1]}/")))

        for sock in queued:
            sock.close()


async def test_cancelled_connecting_leaves_nothing_open(pool: Pool, origin: Origin) -> None:
    for rounds in range(6):
        task = asyncio.create_task(pool.acquire(handle_of(origin)))
        for _ in range(rounds):
            await asyncio.sleep(0)
        task.cancel()
        outcome = (await asyncio.gather(task, return_exceptions=True))[0]
        if isinstance(outcome, Connection):
            outcome.abort()

    await origin.abandoned()


async def test_half_open_servers_are_found(pool: Pool, origin: Origin) -> None:
    wanted = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000, "TCP_NODELAY": 1}

    connection, _ = await made(pool, origin)

    assert connection.transport is not None
    sock = connection.transport.get_extra_info("socket")
    assert {name: sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in wanted} == wanted
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    connection.abort()


# One connection -------------------------------------------------------------------------------------------------------


async def test_taker_hears_everything_and_then_the_end_once(pool: Pool, origin: Origin) -> None:
    connection, wire = await made(pool, origin)
    taker = Taker(connection)

    wire.send(b"x" * 3 * MIB)
    wire.close()
    await until(lambda: taker.ends)

    assert taker.heard == b"x" * 3 * MIB
    assert taker.ends == [None]
    assert not connection.is_open


async def test_broken_connection_is_told_with_its_error(pool: Pool, origin: Origin) -> None:
    connection, wire = await made(pool, origin)
    taker = Taker(connection)

    wire.reset()
    await until(lambda: taker.ends)

    assert isinstance(taker.ends[0], ConnectionResetError)


async def test_what_came_before_a_write_failed_is_heard(pool: Pool, origin: Origin) -> None:
    connection, wire = await made(pool, origin)
    taker = Taker(connection)
    connection.write(b"unread")
    await until(lambda: wire.reader._buffer)  # type: ignore[attr-defined]
    connection.pause_reading()

    await wire.push(b"last words")
    wire.reset()
    connection.write(b"x")
    connection.write(b"x")
    connection.resume_reading()
    await until(lambda: taker.ends)

    assert taker.heard == b"last words"


async def test_full_write_buffer_is_told_and_so_is_the_room_behind_it(pool: Pool, origin: Origin) -> None:
    connection, wire = await made(pool, origin)
    taker = Taker(connection)

    connection.write(b"x" * 32 * MIB)
    was_paused = connection.is_write_paused
    await wire.take(32 * MIB)
    await until(lambda: not connection.is_write_paused)

    assert was_paused
    assert taker.writable == 1
    connection.abort()


async def test_paused_connection_is_not_read(pool: Pool, origin: Origin) -> None:
    connection, wire = await made(pool, origin)
    taker = Taker(connection)
    connection.pause_reading()
    connection.pause_reading()

    wire.send(b"x" * 32 * MIB)
    await until(lambda: wire.unsent)
    heard = taker.heard
    connection.resume_reading()
    connection.resume_reading()
    await until(lambda: len(taker.heard) == 32 * MIB)

    assert heard == b""
    connection.abort()


async def test_ended_connection_takes_every_call_in_silence(pool: Pool, origin: Origin) -> None:
    connection, _ = await made(pool, origin)
    taker = Taker(connection)

    for _ in range(2):
        connection.abort()
        connection.write(b"x")
        connection.pause_reading()
        connection.resume_reading()
        connection.close()
        await until(lambda: taker.ends)

    assert len(taker.ends) == 1


async def test_closing_sends_what_is_written_first(pool: Pool, origin: Origin) -> None:
    connection, wire = await made(pool, origin)

    connection.write(b"x" * 8 * MIB)
    connection.close()

    assert len(await wire.take_rest()) == 8 * MIB


# The clock ------------------------------------------------------------------------------------------------------------


async def test_head_that_does_not_come_in_time_fails_who_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_TICK", 0.01)
    pool = Pool(0.02)
    late, early = Waiter(), Waiter()

    pool.watch(late)
    pool.watch(early)
    pool.unwatch(early)
    await until(lambda: late.errors)

    assert isinstance(late.errors[0], UpstreamTimeout)
    assert early.errors == []
    pool.unwatch(late)
    pool.close()


async def test_without_a_limit_nobody_is_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_TICK", 0.01)
    pool = Pool(None)
    patient = Waiter()

    pool.watch(patient)
    late = pool._now + 0.1
    await until(lambda: pool._now > late)

    assert patient.errors == []
    pool.close()
