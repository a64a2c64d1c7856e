"""The client's side: aiohttp's server, and the semi-public parts of it that the relay stands on.

Everything that reaches into aiohttp beyond its documentation is here (or named here): a response that is already on
its way (`Relayed`), the raw bytes after an upgrade (`take_over`), and how a malformed
request is told apart. The dependency's range is pinned for their sake.
"""

from __future__ import annotations

import logging
import socket
import struct
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from aiohttp import HttpVersion11, web
from aiohttp.web_protocol import RequestHandler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from aiohttp.abc import AbstractStreamWriter

logger = logging.getLogger(__name__)

KEEP_ALIVE: Final = 75.0  # seconds an idle client connection is kept
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s
_BAD_REQUEST: Final = 400


class Relayed(web.StreamResponse):
    """What a handler returns to aiohttp when the response has been written already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


RELAYED_KEEP: Final = Relayed(keep_alive=True)
RELAYED_CLOSE: Final = Relayed(keep_alive=False)


class RawParser(Protocol):
    """Takes every byte that a client sends after an upgrade, those buffered first."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes; `(False, b"")` says that more are wanted."""
        ...

    def feed_eof(self) -> None:
        """Learn that the client is gone."""


def take_over(request: web.BaseRequest, parser: RawParser) -> None:
    """Give the client's bytes to `parser` from now on, as aiohttp's own websocket does."""
    request.protocol.set_parser(cast("Any", parser))


def cut_off(request: web.BaseRequest) -> None:
    """End the client's connection by a reset, which cannot be taken for the end of a body."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


def can_be_followed(request: web.BaseRequest) -> bool:
    """Tell whether the client's connection can carry another request behind this one.

    Not behind an `Upgrade` to what aiohttp does not know: its parser drops whatever comes in one piece with that.
    """
    if not request.keep_alive or request.version < HttpVersion11:
        return False
    upgrade = request.headers.get("Upgrade")
    return upgrade is None or upgrade.lower() == "websocket"


def is_read(request: web.BaseRequest) -> bool:
    """Tell whether a request that was not relayed has been read to its end, so that another may follow it."""
    return not request.body_exists and request.method != "CONNECT" and can_be_followed(request)


class _ClientConnection(RequestHandler):
    """aiohttp's connection, which fails the body that is being read when its framing turns out malformed.

    aiohttp queues the parser's error as the next request, and leaves whoever reads the body waiting.
    """

    __slots__ = ("_last_content",)

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self._last_content: Any = None  # of the newest request; its handler may not have begun when its body turns bad

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, of which nothing has been understood yet."""
        return self._waiter is not None and not self._messages

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._messages:
            return
        message, content = self._messages[-1]
        error = getattr(message, "exc", None)
        if error is None:
            self._last_content = content
            return
        current = None if self._current_request is None else self._current_request.content
        for unread in (current, self._last_content):
            if unread is not None and not unread.is_eof() and unread.exception() is None:
                unread.set_exception(web.RequestPayloadError(str(getattr(error, "message", error))))

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a defect; a body that its client broke off is none, though aiohttp meets it while it reads the rest."""
        if isinstance(kw.get("exc_info"), web.RequestPayloadError):
            logger.debug("a request's body was malformed")
        else:
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP. It is the client's fault, so it is no error of ours in the log."""
        if status != _BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        logger.debug("refused what is not HTTP: peer=%s", request.remote)
        response = web.Response(
            status=status,
            body=b'{"type": "about:blank", "title": "This is not a valid HTTP request", "status": 400, '
            b'"code": "bad-request"}\n',
            headers={"Content-Type": "application/problem+json", "Server": "notebook-proxy"},
        )
        response.force_close()
        return response


class ClientServer(web.Server):
    """The factory of client connections, for `loop.create_server`.

    A handler is cancelled when its client goes away; bodies come as they were sent, never inflated.
    """

    def __init__(self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._settings: dict[str, Any] = {
            "access_log": None,
            "auto_decompress": False,
            "keepalive_timeout": KEEP_ALIVE,
        }

    def close_idle(self) -> None:
        """Close the connections that carry no request."""
        for connection in self.connections:
            if isinstance(connection, _ClientConnection) and connection.is_idle:
                connection.force_close()

    def __call__(self) -> RequestHandler:
        """Return the protocol of one new connection."""
        return _ClientConnection(self, loop=self._loop, **self._settings)
