"""The express way: a plain GET whose headers are, byte for byte, those of a request that went the ordinary way.

A client that keeps its connection sends the same headers again and again; what they mean has been judged, and only the
request line is new. Such a request is carried here without parsing, task or coroutine as long as nothing is unusual.
Where something is (an error, a slow client, bytes behind it) the ordinary way takes over: aiohttp is given the same
bytes, and whoever handles them carries the exchange on that has begun. A precedent holds only as long as its request
is the last that aiohttp has seen: what came after it may have ended in the midst of another. Knows nothing of
workspaces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy.relay.client import ClientConnection
from proxy.relay.downstream import RELAYED_KEEP
from proxy.relay.exchange import JOINED, Exchange
from proxy.relay.http import finish
from proxy.relay.precedent import Precedent, precedent_of

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.relay.connection import Connection
    from proxy.relay.order import Order
    from proxy.relay.outbox import Outbox
    from proxy.relay.server import ClientServer, Limits
    from proxy.relay.upstream import Pool
    from proxy.target import Target
    from proxy.workspace import Key

MAX_BYTES: Final = 8192  # of request line and headers, which each connection remembers


class Express(Protocol):
    """Begins and ends what goes the express way."""

    def begin(self, precedent: Precedent, target: str) -> ExpressExchange | None:
        """Send a GET on its way, or return None: then nothing has been done, and it is to go the ordinary way."""

    def end(self, exchange: ExpressExchange) -> bool:
        """Let go of an exchange that is over; tell whether its client may send another request."""

    def pass_on(self, exchange: ExpressExchange) -> None:
        """Let go of an exchange that goes on the ordinary way."""


class ExpressExchange(Exchange):
    """An exchange that no coroutine waits for: when it is settled, or held, it tells its client's connection.

    Attributes:
        key: the workspace that it goes to.
        target: where in it.
        user: who asked, as whoever remembers and begins knows them.
    """

    __slots__ = ("_client", "_is_busy", "_is_handed_over", "key", "target", "user")

    def __init__(
        self, order: Order, connection: Connection, pool: Pool, *, key: Key, target: Target, user: Any, is_busy: bool
    ) -> None:
        super().__init__(order, connection, pool, keep_alive=True)  # as that of the precedent was
        self._client: ExpressConnection = self._protocol
        self._is_busy = is_busy
        self._is_handed_over = False
        self.key = key
        self.target = target
        self.user = user

    def hand_over(self) -> None:
        """Have a coroutine wait for it from now on."""
        self._is_handed_over = True

    def cancel(self) -> None:
        """Cut it off; what has been handed over is the ordinary way's to end."""
        if not self._is_handed_over:
            self._client.cut_off(self)

    def _write(self, size: int) -> None:
        if self._is_busy and self.is_ended and size <= JOINED and not self._is_handed_over:
            out, self._out = self._out, []
            self._client.hold(b"".join(out), self.pool.outbox)
        else:
            super()._write(size)

    def _wake(self) -> None:
        if self._is_handed_over:
            super()._wake()
        elif self.is_ended and self.error is None:
            self._client.end(self)
        else:
            self._client.hand_over(self)


class ExpressConnection(ClientConnection):
    """A client's connection that has an express way.

    What it carries is this connection's until the handler of the same request has adopted it.
    """

    __slots__ = ("_carried", "_express", "_head", "_held", "_most", "_precedent")

    def __init__(self, server: ClientServer, limits: Limits, **kw: Any) -> None:
        super().__init__(server, limits, **kw)
        self._express = server.express
        self._most = min(MAX_BYTES, limits.max_header_bytes)
        self._precedent: Precedent | None = None
        self._carried: ExpressExchange | None = None
        self._held = b""  # the end of an answer, until the end of the event loop's turn
        self._head: bytes | None = None  # of the request that is carried, or may become a precedent

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, of which nothing has been understood yet."""
        return self._carried is None and super().is_idle

    @property
    def _is_ready(self) -> bool:
        """Whether every request before has been answered.

        Where there is a precedent, nothing has come since that was, though aiohttp may take a turn or two of the loop
        to be done with it: a client is often faster.
        """
        if self._close or self._force_close:
            return False
        return self._precedent is not None or (self._waiter is not None and not self._waiter.done())

    def data_received(self, data: bytes) -> None:
        """Take the express way if this is one plain request whose headers have a precedent."""
        if self._held:
            self.send_held()
        if self._carried is not None:
            self.hand_over(self._carried)  # bytes behind a request
        elif self._express is not None and self._payload_parser is None:
            if not self._is_ready or self._part_bytes or len(data) > self._most or self._upgraded:
                self._head = None
            elif self._precedent is None or not self._begin(self._express, self._precedent, data):
                self._head = data
            else:
                return
        self._precedent = None
        super().data_received(data)

    def _begin(self, express: Express, precedent: Precedent, data: bytes) -> bool:
        """Send a request on its express way, or tell that it has to go the ordinary one."""
        if self._paused:
            return False
        target = precedent.target_of(data)
        if target is None:
            return False
        self._carried = express.begin(precedent, target)
        if self._carried is None:
            return False
        self._head = data
        return True

    def hold(self, data: bytes, outbox: Outbox) -> None:
        """Send the end of an answer at the end of the event loop's turn; nothing is taken or closed before that."""
        self._held = data
        outbox.add(self)

    def send_held(self) -> None:
        """Send what is held back, if anything is."""
        data, self._held = self._held, b""
        transport = self.transport
        if data and transport is not None and not transport.is_closing():
            transport.write(data)

    def end(self, exchange: ExpressExchange) -> None:
        """Be ready for the next request: the answer is written."""
        assert self._express is not None
        self._carried = self._head = None
        answer = finish(exchange, exchange.order.request)
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if not self._express.end(exchange) or answer is not RELAYED_KEEP:
            self.force_close()

    def hand_over(self, exchange: ExpressExchange) -> None:
        """Let the ordinary way go on with what the express way has begun."""
        head, self._head = self._head, None
        if head is not None:  # else that has been done
            exchange.hand_over()
            super().data_received(head)

    def cut_off(self, exchange: ExpressExchange) -> None:
        """End it in a way that no client can take for the end of an answer."""
        assert self._express is not None
        self._carried = self._head = None
        finish(exchange, exchange.order.request)
        self._express.end(exchange)
        self.force_close()

    def adopt(self, request: web.BaseRequest) -> ExpressExchange | None:
        """Return what the express way has begun of this request, which is the caller's from now on; None if nothing."""
        exchange, self._carried = self._carried, None
        if exchange is not None:
            assert self._express is not None
            exchange.order.request = request
            self._express.pass_on(exchange)
        return exchange

    def remember(self, order: Order, user: Any) -> None:
        """Take a request that was answered as a precedent for its headers, if it came in one piece and is plain."""
        head, self._head = self._head, None
        if head is not None:
            self._precedent = precedent_of(head, order, user)

    # What aiohttp asks ----------------------------------------------------------------------------------------------

    def eof_received(self) -> None:
        """Learn that the client says no more, upon which its connection is closed."""
        self.send_held()
        super().eof_received()

    def force_close(self) -> None:
        """Close it, behind what has been answered."""
        self.send_held()
        super().force_close()

    def set_parser(self, *args: Any, **kw: Any) -> None:
        """Carry what is not HTTP any more from now on."""
        self._precedent = self._head = None
        super().set_parser(*args, **kw)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End. What nobody has adopted is given up."""
        exchange, self._carried = self._carried, None
        self._precedent = self._head = None
        super().connection_lost(exc)
        if exchange is not None and self._express is not None:
            exchange.hand_over()
            finish(exchange, exchange.order.request)
            self._express.end(exchange)

    def _process_keepalive(self) -> None:
        """Close it if it has been idle for too long, which aiohttp takes it for while the express way carries."""
        if self._carried is not None:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()


def adopt(request: web.BaseRequest) -> ExpressExchange | None:
    """Return what the express way has begun of a request, which is the caller's from now on; None if nothing."""
    protocol = request.protocol
    return protocol.adopt(request) if isinstance(protocol, ExpressConnection) else None


def remember(order: Order, user: Any) -> None:
    """Let the express way carry what comes with the same headers on the same connection.

    Args:
        order: has just been answered, and its client's connection is kept.
        user: who has asked.
    """
    protocol = order.request.protocol
    if isinstance(protocol, ExpressConnection):
        protocol.remember(order, user)
