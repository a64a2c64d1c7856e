"""Connections to notebook servers: made, kept between requests, and given up.

A connection serves one response at a time. Whatever is not as it should be (bytes behind a message's end, an answer
that nobody asked for, a reader that raised) costs the connection, never another request.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections import defaultdict
from typing import TYPE_CHECKING, Final, Protocol

from proxy.counts import TrafficCounts
from proxy.errors import UpstreamError, UpstreamRefused, UpstreamTimeout, UpstreamUnreachable
from proxy.relay.connection import Connection
from proxy.relay.outbox import Outbox
from proxy.relay.parting import Parting

if TYPE_CHECKING:
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


class Waiting(Protocol):
    """Who waits for a response's head."""

    def fail(self, error: UpstreamError) -> None:
        """Learn that it did not come in time."""


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
        self.outbox = Outbox(self._loop)
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

    def put_back(self, connection: Connection) -> None:
        """Keep a connection that was taken and has not been used."""
        self.counts.reused -= 1
        self.release(connection)

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
        transport = connection.transport
        if transport is None or transport.is_closing() or len(kept) >= MAX_IDLE or self._timer is None:
            connection.close()
            if not kept:
                del self._idle[connection.handle]
            return
        if not transport.is_reading():
            transport.resume_reading()
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
