"""Carry one websocket: the notebook server's handshake first, then raw bytes both ways.

After the handshake nothing is decoded, re-framed or limited; a scanner on each direction knows what passed and where a
frame ends, so that a close frame of our own goes only at a boundary. When one side ends, the other is ended.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
from typing import TYPE_CHECKING, Final, Protocol, cast

from proxy.errors import BadResponse, ShuttingDown, UpstreamError, UpstreamLost
from proxy.relay.downstream import RELAYED_CLOSE, RELAYED_KEEP, Relayed, cut_off, take_over
from proxy.relay.exchange import Exchange, Order
from proxy.relay.frames import FrameScanner, close_frame
from proxy.relay.headers import response_lines, values_of
from proxy.relay.parting import end_writing

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from aiohttp import web

    from proxy.relay.client import ClientConnection
    from proxy.relay.response_head import ResponseHead
    from proxy.relay.upstream import Connection, Pool

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_UPGRADE: Final = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
CLOSE_PATIENCE: Final = 1.0  # seconds that a client may take to answer a close frame of ours
SERVICE_RESTART: Final = 1012  # IANA WebSocket Close Code registry
GAP: Final = 0.1  # seconds between two websockets that are closed one after the other, at most
_LEAST_SLEEP: Final = 0.005  # seconds; a timer for each of thousands would cost more than it spreads


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


class WebsocketRelay:
    """Carries websockets, and knows those that are open.

    Args:
        pool: makes the connections; a websocket never shares one.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._tunnels: set[Tunnel] = set()
        self._close_code: int | None = None  # once all are closed, a handshake that was under way is so, too
        self._is_refusing = False

    def __len__(self) -> int:
        return len(self._tunnels)

    def frames(self) -> list[int]:
        """Return how many have passed: data and control from clients, data and control from notebook servers."""
        total = list(self._pool.counts.frames)
        for tunnel in self._tunnels:
            tunnel.add_frames(total)
        return total

    def refuse(self) -> None:
        """Open no more: who asks is told that the proxy is ending. A handshake that is under way goes on."""
        self._is_refusing = True

    def close_all(self, code: int = SERVICE_RESTART) -> None:
        """Close every websocket, those to come as well; each ends within `CLOSE_PATIENCE`."""
        self._close_code = code
        for tunnel in list(self._tunnels):
            tunnel.close(code)

    async def close_gradually(self, seconds: float, code: int = SERVICE_RESTART) -> None:
        """Close every websocket, so that their clients do not come back all at once: evenly over some time.

        A few take no more than `GAP` each. Cancelling it leaves those open that are.

        Args:
            seconds: until the last one is told; `CLOSE_PATIENCE` after that it has ended.
            code: of the close frames.
        """
        waiting = list(self._tunnels)
        gap = min(GAP, seconds / max(1, len(waiting)))
        now = asyncio.get_running_loop().time
        began = now()
        for place, tunnel in enumerate(waiting):
            ahead = began + place * gap - now()
            if ahead > 0:
                await asyncio.sleep(max(ahead, _LEAST_SLEEP))  # what is due by then follows without one
            tunnel.close(code)
        self.close_all(code)

    def visits(self) -> dict[Hashable, list[Tunnel]]:
        """Return those that are open by what they were opened for; nothing of those that nobody will ask for."""
        found: dict[Hashable, list[Tunnel]] = {}
        for tunnel in self._tunnels:
            if tunnel.visit is not None:
                found.setdefault(tunnel.visit, []).append(tunnel)
        return found

    async def relay(
        self, order: Order, open_frames: Callable[[], Frames], visit: Hashable = None
    ) -> web.StreamResponse:
        """Carry a websocket until one side ends. A refused upgrade is relayed as the HTTP answer that it is.

        Cancelling it (the client is gone) closes the connection to the notebook server at once.

        Args:
            order: the handshake.
            open_frames: called once it has been answered; returns what is told of the frames.
            visit: what it is opened for, as `visits` tells.

        Raises:
            ShuttingDown: no more are opened.
            UpstreamRefused: no connection could be made.
            UpstreamLost: the notebook server closed before it answered.
            UpstreamClosed: the same, half way through its answer.
            BadResponse: what came is not a response, or not the right answer to this handshake.
            UpstreamTimeout: no answer came in time.
        """
        if self._is_refusing:
            raise ShuttingDown
        opened = await self._open(order, open_frames)
        if isinstance(opened, Relayed):
            return opened
        tunnel, connection = opened
        tunnel.visit = visit
        self._tunnels.add(tunnel)
        try:
            if self._close_code is not None:
                tunnel.close(self._close_code)
            await tunnel.run()
        except Exception:
            cut_off(order.request)  # an answer in words would be read as frames
            raise
        finally:
            self._tunnels.discard(tunnel)
            tunnel.add_frames(self._pool.counts.frames)
            self._pool.part(connection)
        return RELAYED_CLOSE

    async def _open(self, order: Order, open_frames: Callable[[], Frames]) -> tuple[Tunnel, Connection] | Relayed:
        """Return what carries the websocket once its handshake is answered, or the answer that refuses it."""
        connection = await self._pool.acquire(order.handle, fresh=True)
        exchange = Exchange(order, connection, self._pool, is_upgrade=True)
        tunnel: Tunnel | None = None
        try:
            connection.write(order.head(_UPGRADE))
            await exchange.settle()
            if exchange.error is None and exchange.switched is not None:
                self._answer(order, exchange.switched)
                exchange.detach()
                tunnel = Tunnel(order.request, connection, open_frames(), exchange.reader.tail)
                return tunnel, connection
        finally:
            exchange.detach()
            if tunnel is None:
                connection.abort()
            if exchange.has_answered:
                self._pool.counts.handshakes[exchange.status] += 1
                if not exchange.is_ended:
                    cut_off(order.request)
        if exchange.error is not None and not exchange.has_answered:
            if exchange.is_unanswered:
                raise UpstreamLost(str(exchange.error)) from exchange.error
            raise exchange.error
        return RELAYED_KEEP if exchange.keep_alive and exchange.is_ended else RELAYED_CLOSE

    def _answer(self, order: Order, head: ResponseHead) -> None:
        """Pass the notebook server's 101 on, if it is one that a browser would accept."""
        request = order.request
        keys = values_of(request.raw_headers, b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(b"".join(keys) + _GUID, usedforsecurity=False).digest())
        upgrades = [value.lower() for value in values_of(head.headers, b"upgrade")]
        if upgrades != [b"websocket"] or values_of(head.headers, b"sec-websocket-accept") != [accept]:
            raise BadResponse("The notebook server's answer to the websocket handshake is not valid.")
        transport = request.transport
        if transport is None:
            raise UpstreamError("The client is gone.")
        lines = response_lines(head.headers, order.place(), without_length=True)
        self._pool.counts.handshakes[head.status] += 1
        cast("ClientConnection", request.protocol).relayed_status = head.status
        transport.write(b"".join((b"HTTP/1.1 101 Switching Protocols\r\n", lines, _UPGRADE, b"\r\n")))
