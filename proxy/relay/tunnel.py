"""One open websocket: raw bytes both ways, until one side ends.

Nothing is decoded, re-framed or limited; a scanner on each direction knows what passed and where a frame ends, so that
a close frame of our own goes only at a boundary. When one side ends, the other is ended.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final, Protocol

from proxy.relay.downstream import take_over
from proxy.relay.frames import FrameScanner, close_frame
from proxy.relay.parting import end_writing

if TYPE_CHECKING:
    from collections.abc import Hashable

    from aiohttp import web

    from proxy.relay.connection import Connection

CLOSE_PATIENCE: Final = 1.0  # seconds that a client may take to answer a close frame of ours


class Frames(Protocol):
    """Is told what passes over one websocket."""

    def from_client(self, has_data: bool) -> None:
        """Learn that bytes of the client's pass; a data frame began in them, or none did."""

    def from_notebook(self, has_data: bool) -> None:
        """Learn that bytes of the notebook server's pass; a data frame began in them, or none did."""


class Tunnel:
    """Two directions of one websocket. aiohttp feeds it the client's bytes, the connection the notebook server's.

    The one coroutine that owns it waits in `run`. There may be thousands that do nothing, so it holds what it needs and
    nothing of the handshake.
    """

    __slots__ = (
        "_connection", "_frames", "_from_client", "_from_notebook", "_is_closing", "_is_ended", "_is_held", "_patience",
        "_protocol", "_request", "_tail", "_waiter", "visit",
    )  # fmt: skip

    def __init__(self, request: web.BaseRequest, connection: Connection, frames: Frames, tail: bytes) -> None:
        self._request = request
        self._protocol = request.protocol
        self._frames = frames
        self._tail = tail  # what the notebook server sent behind its handshake
        self._connection = connection
        self._from_client = FrameScanner()
        self._from_notebook = FrameScanner()
        self._waiter: asyncio.Future[None] | None = None
        self._is_held = False  # reading from the notebook server is paused: the client is slow
        self._is_closing = False  # a close frame of ours has gone; nothing of the other side's may follow it
        self._is_ended = False
        self._patience: asyncio.TimerHandle | None = None
        self.visit: Hashable = None
        """What it was opened for; None where nobody will ask."""

    async def run(self) -> None:
        """Carry bytes until one side ends."""
        self._connection.taker = self
        tail, self._tail = self._tail, b""
        try:
            take_over(self._request, self)
            if tail:
                self.on_readable(tail)
            if self._connection.transport is None:  # it ended before this became its taker
                return
            if not self._is_held:
                self._connection.resume_reading()
            while not self._is_ended:
                if self._is_held:
                    await self._request.writer.drain()
                    self._is_held = False
                    self._connection.resume_reading()
                    continue
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            await self._hear_out()
        finally:
            self._is_ended = True
            if self._patience is not None:
                self._patience.cancel()
            if self._connection.taker is self:
                self._connection.taker = None

    def add_frames(self, total: list[int]) -> None:
        """Add the frames that have passed: see `WebsocketRelay.frames`."""
        for place, scanner in ((0, self._from_client), (2, self._from_notebook)):
            total[place] += scanner.data_frames
            total[place + 1] += scanner.control_frames

    async def _hear_out(self) -> None:
        """Let the client read the notebook server's last words before its connection is closed.

        It may still be sending, and to close on that would be a reset. Cancelled when it closes, which it does at once
        unless something is wrong with it.
        """
        transport = self._request.transport
        if self._is_closing or transport is None:
            return
        self._is_closing = True
        end_writing(transport)
        self._protocol.resume_reading()
        await asyncio.sleep(CLOSE_PATIENCE)

    def close(self, code: int) -> None:
        """Close both sides with a close frame where a frame may begin; cut off the side where it may not."""
        if self._is_closing or self._is_ended:
            return
        self._is_closing = True
        if not self._from_client.is_at_boundary:
            self._connection.abort()
        elif not self._from_client.has_close:
            self._connection.write(close_frame(code, mask=os.urandom(4)))
        transport = self._request.transport
        if transport is None or self._from_notebook.has_close:
            self._end()
            return
        if not self._from_notebook.is_at_boundary:
            transport.abort()
            self._end()
            return
        transport.write(close_frame(code))
        # The client answers with a close frame; to close before it has read ours could lose it.
        self._patience = asyncio.get_running_loop().call_later(CLOSE_PATIENCE, self._give_up)

    def _give_up(self) -> None:
        transport = self._request.transport
        if self._is_held and transport is not None:
            transport.abort()  # it does not even read, so nothing would ever end the wait for room
        self._end()

    def _end(self) -> None:
        self._is_ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # From the client: the interface that aiohttp's protocol feeds -----------------------------------------------------

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes of the client's. Never says that it has had enough."""
        scanner = self._from_client
        before = scanner.data_frames
        scanner.feed(data)
        if self._is_closing:
            if scanner.has_close:
                self._end()
            return False, b""
        self._frames.from_client(scanner.data_frames != before)
        self._connection.write(data)
        if self._connection.is_write_paused:
            self._protocol.pause_reading()
        return False, b""

    def feed_eof(self) -> None:
        """Learn that the client is gone."""
        self._end()

    # From the notebook server: what the connection says ---------------------------------------------------------------

    def on_readable(self, data: bytes) -> None:
        """Take bytes of the notebook server's."""
        if self._is_closing:
            return
        scanner = self._from_notebook
        before = scanner.data_frames
        scanner.feed(data)
        self._frames.from_notebook(scanner.data_frames != before)
        transport = self._request.transport
        if transport is None or transport.is_closing():
            return
        transport.write(data)
        if self._protocol.writing_paused:
            self._is_held = True
            self._connection.pause_reading()
            self._wake()

    def on_writable(self) -> None:
        """Let the client go on."""
        self._protocol.resume_reading()

    def on_closed(self, error: Exception | None) -> None:  # noqa: ARG002 - either way it is gone
        """Learn that the notebook server is gone."""
        if not self._is_closing:  # then the client's answer to our close frame is still waited for
            self._end()
