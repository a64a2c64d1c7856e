"""Open websockets, by the notebook server's own answer to the handshake, and know those that are open.

What becomes of one once it is open is its `Tunnel`'s. Owns when they are closed at a shutdown.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import TYPE_CHECKING, Final, cast

from proxy.errors import BadResponse, ShuttingDown, UpstreamError, UpstreamLost
from proxy.relay.downstream import RELAYED_CLOSE, RELAYED_KEEP, Relayed, cut_off
from proxy.relay.exchange import Exchange
from proxy.relay.headers import response_lines, values_of
from proxy.relay.tunnel import Tunnel

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from aiohttp import web

    from proxy.relay.client import ClientConnection
    from proxy.relay.connection import Connection
    from proxy.relay.order import Order
    from proxy.relay.response_head import ResponseHead
    from proxy.relay.tunnel import Frames
    from proxy.relay.upstream import Pool

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_UPGRADE: Final = b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
SERVICE_RESTART: Final = 1012  # IANA WebSocket Close Code registry
GAP: Final = 0.1  # seconds between two websockets that are closed one after the other, at most
_LEAST_SLEEP: Final = 0.005  # seconds; a timer for each of thousands would cost more than it spreads


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
