"""The server of clients' connections: makes them, counts them, and keeps the time for all of them."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from aiohttp import web

from proxy.relay.client import ClientConnection
from proxy.relay.deadlines import Deadlines
from proxy.relay.express import ExpressConnection

if TYPE_CHECKING:
    import asyncio

    from aiohttp.web_protocol import RequestHandler

    from proxy.errors import ProxyError
    from proxy.relay.express import Express

logger = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

KEEP_ALIVE: Final = 75.0  # seconds an idle client connection is kept
SHED_TIMEOUT: Final = 2.0  # seconds that a connection beyond the limit has for the head of its one request
HANDSHAKE_TIMEOUT: Final = 15.0  # seconds for that of TLS, where heads have no limit
_MAX_HEADERS: Final = 512  # lines; Tornado knows no limit, and browsers send 30
_CALM: Final = 15 / 16  # of the limit: so far must the number fall until the proxy counts as having room again


@dataclass(frozen=True, slots=True)
class Limits:
    """What clients may take; None is no limit.

    Args:
        header_timeout: seconds until a request's head must be whole: from its first byte, and on a new connection from
            the beginning of that.
        body_idle_timeout: seconds that a body may stand still while it is waited for.
        max_header_bytes: request line and headers together.
        max_connections: how many may be open before those that are new are shed.
    """

    header_timeout: float | None = None
    body_idle_timeout: float | None = None
    max_header_bytes: int = 32_768
    max_connections: int | None = None


class ClientServer(web.Server):
    """The factory of client connections, for a listener.

    A handler is cancelled when its client goes away; bodies come as they were sent, never inflated.

    Args:
        handler: answers each request.
        limits: what clients may take.
        shed: answers instead of the handler on a connection beyond `max_connections`; the answer is its last.
        express: carries what needs no handler.
        on_refused: is told of each answer to what no handler can be given.

    Attributes:
        heads: connections that must send a whole head in time.
        excess: those beyond the limit, which have less time.
        bodies: connections whose body must go on.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        limits: Limits | None = None,
        shed: Handler | None = None,
        express: Express | None = None,
        on_refused: Callable[[ProxyError], None] | None = None,
    ) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._limits = limits = limits or Limits()
        self.shed = shed or handler
        self.express = express
        self.on_refused = on_refused or (lambda _: None)
        self.shed_timeout = SHED_TIMEOUT
        self.handshake_timeout = limits.header_timeout or HANDSHAKE_TIMEOUT
        self.heads = Deadlines(limits.header_timeout, ClientConnection.end_late_head)
        self.excess = Deadlines(SHED_TIMEOUT, ClientConnection.end_late_head)
        self.bodies = Deadlines(limits.body_idle_timeout, ClientConnection.end_stalled_body)
        self.on_room: Callable[[], None] | None = None
        """Called whenever a connection has ended."""
        self.is_draining = False
        """It is about to end: each answer that begins is the last on its connection."""
        self._open = 0
        self._is_shedding = False

    @property
    def open_connections(self) -> int:
        """How many connections there are, those that are being shed as well."""
        return self._open

    @property
    def most_connections(self) -> int | None:
        """How many there may be; None for no limit."""
        return self._limits.max_connections

    @property
    def is_full(self) -> bool:
        """Whether another connection would be one too many."""
        return self._limits.max_connections is not None and self._open >= self._limits.max_connections

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count it."""
        if self.is_full and not self._is_shedding:
            self._is_shedding = True
            logger.warning("shedding connections: open=%d max=%s", self._open, self._limits.max_connections)
        self._open += 1
        super().connection_made(handler, transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget it."""
        self._open -= 1
        connection = cast("ClientConnection", handler)
        for deadlines in (self.heads, self.excess, self.bodies):
            deadlines.stop(connection)
        if self._is_shedding and self._open < _CALM * (self._limits.max_connections or 0):
            self._is_shedding = False
            logger.info("no longer shedding connections: open=%d", self._open)
        super().connection_lost(handler, exc)
        if self.on_room is not None:
            self.on_room()

    def close_idle(self) -> None:
        """Close the connections that carry no request."""
        for connection in self.connections:
            if isinstance(connection, ClientConnection) and connection.is_idle:
                connection.force_close()

    def __call__(self) -> RequestHandler:
        """Return the protocol of one new connection."""
        size = self._limits.max_header_bytes
        return ExpressConnection(
            self,
            self._limits,
            loop=self._loop,
            access_log=cast("Any", None),
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE,
            max_line_size=size,
            max_field_size=size,
            max_headers=_MAX_HEADERS,
        )
