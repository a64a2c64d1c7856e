"""Connections to notebook servers: made, kept between requests, and given up.

A connection serves one response at a time. Whatever is not as it should be (bytes behind a message's end, an answer
that nobody asked for, a reader that raised) costs the connection, never another request.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Protocol, cast

from proxy.counts import TrafficCounts
from proxy.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from proxy.half_open import find_half_open_peers
from proxy.relay.parting import Parting, end_writing, read_rest

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.workspace import Handle

CONNECT_TIMEOUT: Final = 5.0  # seconds; a notebook server is on this machine or in this cluster
IDLE_TIMEOUT: Final = 30.0  # seconds a connection is kept without a request
MAX_IDLE: Final = 256  # kept per notebook server
_TICK: Final = 1.0
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE})
# What says something about the other side; anything else (EMFILE, EADDRNOTAVAIL) is about this one.
_NOT_THERE: Final = frozenset(
    {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ETIMEDOUT}
)


class Taker(Protocol):
    """Who has a connection: takes what comes, and learns when there is room again or no more will come."""

    def on_readable(self, data: bytes) -> None:
        """Take the next bytes."""

    def on_writable(self) -> None:
        """Learn that the write buffer has drained."""

    def on_closed(self, error: Exception | None) -> None:
        """Learn that the connection ended: None for a clean end. Called once, and nothing after it."""


class Waiting(Protocol):
    """Who waits for a response's head."""

    def fail(self, error: UpstreamError) -> None:
        """Learn that it did not come in time."""


class Connection(asyncio.Protocol):
    """One connection to a notebook server.

    Attributes:
        taker: who has it now; None while it lies in the pool.
        is_reused: it has carried a request before.
        is_write_paused: the write buffer is full; wait for `on_writable`.
    """

    __slots__ = ("_counts", "_forget", "handle", "idle_since", "is_reused", "is_write_paused", "taker", "transport")

    def __init__(self, handle: Handle, forget: Callable[[Connection], None], counts: TrafficCounts) -> None:
        self.handle = handle
        self._counts = counts
        self.transport: asyncio.Transport | None = None
        self.taker: Taker | None = None
        self.is_reused = False
        self.is_write_paused = False
        self.idle_since = 0.0
        self._forget = forget

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        return self.transport is not None and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes; nothing where the connection has ended, which its taker is told."""
        if self.transport is not None:
            self._counts.to_notebook += len(data)
            self.transport.write(data)

    def pause_reading(self) -> None:
        """Take nothing more from the notebook server until `resume_reading`."""
        if self.is_open and self.transport is not None and self.transport.is_reading():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Go on reading."""
        if self.is_open and self.transport is not None and not self.transport.is_reading():
            self.transport.resume_reading()

    def end_writing(self) -> None:
        """Send what is written, and no more; go on reading."""
        if self.transport is not None:
            end_writing(self.transport)

    def close(self) -> None:
        """Send what is written, then close."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Drop it now; what is not sent is lost."""
        if self.transport is not None:
            self.transport.abort()

    # asyncio.Protocol -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set up the socket."""
        self.transport = cast("asyncio.Transport", transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != getattr(socket, "AF_UNIX", None):
            find_half_open_peers(sock)

    def data_received(self, data: bytes) -> None:
        """Hand bytes to whoever has the connection; nobody asked for any while it lies in the pool."""
        self._counts.to_client += len(data)
        if self.taker is None:
            self.abort()
        else:
            self.taker.on_readable(data)

    def pause_writing(self) -> None:
        """Note that the write buffer is full."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """Note that there is room again."""
        self.is_write_paused = False
        if self.taker is not None:
            self.taker.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who has it, or take it out of the pool."""
        transport, self.transport = self.transport, None
        if exc is not None and transport is not None and self.taker is not None:
            for data in read_rest(transport):
                self._tell(data)
        taker, self.taker = self.taker, None
        if taker is None:
            self._forget(self)
        else:
            taker.on_closed(exc)

    def _tell(self, data: bytes) -> None:
        """Hand bytes to whoever still has the connection; who has heard enough has let go of it."""
        if self.taker is not None:
            self.taker.on_readable(data)


def _reason(error: OSError) -> str:
    """Return what the system says; `error.strerror` would tell the client the address, too."""
    if isinstance(error, TimeoutError):
        return "no answer"
    known = error.errno is not None and error.errno in errno.errorcode
    return os.strerror(error.errno or 0) if known else type(error).__name__


class Pool:
    """Idle connections, by handle; and the clock that ends what takes too long.

    One per process, made in its event loop; `close` it at the end.

    Args:
        head_timeout: seconds until a response's head must have come; None for no limit.
        counts: of what is carried; by default its own.
    """

    def __init__(self, head_timeout: float | None, counts: TrafficCounts | None = None) -> None:
        self.counts = counts or TrafficCounts()
        self._head_timeout = head_timeout
        self._idle: defaultdict[Handle, list[Connection]] = defaultdict(list)
        self._awaiting_head: dict[Waiting, float] = {}
        self._partings: set[Parting] = set()
        self._loop = asyncio.get_running_loop()
        self.create_future = self._loop.create_future
        self._now = self._loop.time()
        self._timer: asyncio.TimerHandle | None = self._loop.call_later(_TICK, self._tick)

    def take(self, handle: Handle) -> Connection | None:
        """Return a kept connection to the handle's server, if there is one."""
        kept = self._idle.get(handle)
        while kept:
            connection = kept.pop()
            if not kept:
                del self._idle[handle]
            if connection.is_open:
                connection.is_reused = True
                self.counts.reused += 1
                return connection
        return None

    async def acquire(self, handle: Handle, *, fresh: bool = False) -> Connection:
        """Return a connection to the handle's server: a kept one, or else a new one.

        Args:
            handle: where to.
            fresh: a new one in any case.

        Raises:
            UpstreamRefused: the server is not there.
            UpstreamUnreachable: it may only be busy (no answer in `CONNECT_TIMEOUT`), or this process cannot connect
                (no file descriptors, no address).
        """
        if not fresh and (kept := self.take(handle)) is not None:
            return kept
        try:
            try:
                return await self._connect(handle)
            except OSError as error:
                if error.errno not in _NO_DESCRIPTOR or not self._idle:
                    raise
            for kept_for in list(self._idle):  # what is kept for later makes room for what is wanted now
                self.forget(kept_for)
            await asyncio.sleep(0)  # a transport is closed in the loop's next turn
            return await self._connect(handle)
        except OSError as error:
            reason = _reason(error)
            if error.errno in _NOT_THERE:
                self.counts.connects.add(UpstreamRefused.code)
                raise UpstreamRefused(f"The notebook server takes no connection ({reason}).") from error
            self.counts.connects.add(UpstreamUnreachable.code)
            raise UpstreamUnreachable(f"The proxy cannot connect to the notebook server ({reason}).") from error

    async def _connect(self, handle: Handle) -> Connection:
        host, port = handle.address
        async with asyncio.timeout(CONNECT_TIMEOUT):
            _, made = await self._loop.create_connection(
                lambda: Connection(handle, self._forget, self.counts), host, port
            )
        self.counts.connects.add("ok")
        return made

    def release(self, connection: Connection) -> None:
        """Keep a connection for the next request to the same server; its last response must be complete."""
        connection.taker = None
        kept = self._idle[connection.handle]
        if not connection.is_open or len(kept) >= MAX_IDLE or self._timer is None:
            connection.close()
            if not kept:
                del self._idle[connection.handle]
            return
        connection.resume_reading()
        connection.idle_since = self._now
        kept.append(connection)

    def part(self, connection: Connection) -> None:
        """Give up a connection that nobody has any more, once what is written has been sent and taken."""
        Parting(connection, self._partings)

    def watch(self, waiting: Waiting) -> None:
        """Fail it with `UpstreamTimeout` if its head does not come in time."""
        self._awaiting_head[waiting] = self._now

    def unwatch(self, waiting: Waiting) -> None:
        """Stop waiting for the head."""
        self._awaiting_head.pop(waiting, None)

    def forget(self, handle: Handle) -> None:
        """Close the idle connections to a server that is no more."""
        for connection in self._idle.pop(handle, ()):
            connection.close()

    def close(self) -> None:
        """Close what is idle or parted with, and stop the clock. Requests in flight end by themselves."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for handle in list(self._idle):
            self.forget(handle)
        for parting in list(self._partings):
            parting.hurry()

    def _forget(self, connection: Connection) -> None:
        kept = self._idle.get(connection.handle)
        if kept is not None and connection in kept:
            kept.remove(connection)
            if not kept:
                del self._idle[connection.handle]

    def _tick(self) -> None:
        """Once a second: one timer for all, since a timer per request would be felt."""
        self._now = now = self._loop.time()
        self._timer = self._loop.call_later(_TICK, self._tick)
        if self._head_timeout is not None:
            late = [found for found, since in self._awaiting_head.items() if since + self._head_timeout < now]
            for waiting in late:
                waiting.fail(UpstreamTimeout(f"The notebook server sent no answer within {self._head_timeout:g} s."))
        for kept in list(self._idle.values()):
            for connection in [found for found in kept if found.idle_since + IDLE_TIMEOUT < now]:
                connection.close()
