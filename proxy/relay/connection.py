"""One connection to a notebook server: what is written to it, and who is told of what comes.

It serves one response at a time, and belongs to whoever has taken it from the pool, or to the pool.
"""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Protocol, cast

from proxy.half_open import find_half_open_peers
from proxy.relay.parting import end_writing, read_rest

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.counts import TrafficCounts
    from proxy.relay.outbox import Outbox
    from proxy.workspace import Handle


class Taker(Protocol):
    """Who has a connection: takes what comes, and learns when there is room again or no more will come."""

    def on_readable(self, data: bytes) -> None:
        """Take the next bytes."""

    def on_writable(self) -> None:
        """Learn that the write buffer has drained."""

    def on_closed(self, error: Exception | None) -> None:
        """Learn that the connection ended: None for a clean end. Called once, and nothing after it."""


class Connection(asyncio.Protocol):
    """One connection to a notebook server.

    Attributes:
        taker: who has it now; None while it lies in the pool.
        is_reused: it has carried a request before.
        is_write_paused: the write buffer is full; wait for `on_writable`.
    """

    __slots__ = (
        "_counts", "_forget", "_held", "handle", "idle_since", "is_reused", "is_write_paused", "taker", "transport",
    )  # fmt: skip

    def __init__(self, handle: Handle, forget: Callable[[Connection], None], counts: TrafficCounts) -> None:
        self.handle = handle
        self._counts = counts
        self.transport: asyncio.Transport | None = None
        self.taker: Taker | None = None
        self.is_reused = False
        self.is_write_paused = False
        self.idle_since = 0.0
        self._forget = forget
        self._held = b""

    @property
    def is_open(self) -> bool:
        """Whether it can be written to."""
        return self.transport is not None and not self.transport.is_closing()

    def write(self, data: bytes) -> None:
        """Send bytes; nothing where the connection has ended, which its taker is told."""
        if self._held:
            self.send_held()
        if self.transport is not None:
            self._counts.to_notebook += len(data)
            self.transport.write(data)

    def hold(self, data: bytes, outbox: Outbox) -> None:
        """Send bytes at the end of the event loop's turn; nothing else is sent, and nothing is taken, before them."""
        self._held = data
        outbox.add(self)

    def send_held(self) -> None:
        """Send what is held back, if anything is."""
        data, self._held = self._held, b""
        if data and self.transport is not None:
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
        self.send_held()
        if self.transport is not None:
            end_writing(self.transport)

    def close(self) -> None:
        """Send what is written, then close."""
        self.send_held()
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Drop it now; what is not sent is lost."""
        self._held = b""
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
        if self._held:
            self.send_held()
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
