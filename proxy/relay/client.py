"""One client's connection: aiohttp's own, with limits on what a client may take.

A head that does not come whole in time or is too large, a body that stalls: each is answered once, in its turn, and
costs its connection alone. Nothing here is done per request but to look at what has just been parsed. Reaches into
`aiohttp.web_protocol`, as `downstream` does.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Final, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from proxy.errors import BadRequest, HeadersTooLarge, ProxyError, RequestTimeout
from proxy.relay.downstream import RELAYED_CLOSE, BodyStalled
from proxy.relay.parting import read_rest

if TYPE_CHECKING:
    from proxy.relay.server import ClientServer, Handler, Limits

logger = logging.getLogger(__name__)

LINGER: Final = 1.0  # seconds that a client has to read why it was refused, and to close
_BAD_REQUEST: Final = 400
_LINE_OVERHEAD: Final = len(": \r\n")


class ClientConnection(RequestHandler):
    """One client's connection.

    Fails the body that is being read when its framing turns out malformed, too: aiohttp queues the parser's error as
    the next request, and leaves whoever reads the body waiting.
    """

    __slots__ = (
        "_body_seen", "_is_awaited", "_is_refused", "_known_requests", "_last_content", "_last_size", "_limits",
        "_part_bytes", "_server", "relayed_status",
    )  # fmt: skip

    def __init__(self, server: ClientServer, limits: Limits, **kw: Any) -> None:
        super().__init__(server, **kw)
        self._server = server
        self.relayed_status = 0
        """Of the last answer that was relayed here; 0 once that has been asked for."""
        self._limits = limits
        self._last_content: Any = None  # of the newest request; its handler may not have begun when its body turns bad
        self._known_requests = 0  # of those that aiohttp has counted
        self._part_bytes = 0  # of a head, or of framing, that have come since the last whole head or byte of a body
        self._last_size = 0  # of the piece in which the newest head ended: the next one may have begun in it
        self._body_seen = 0  # bytes of the newest body when it was last looked at; -1: its client waits for a 100
        self._is_awaited = False  # a head is to be whole within `header_timeout`
        self._is_refused = False  # an error is queued; nothing behind it is read

    @property
    def is_draining(self) -> bool:
        """Whether the server is about to end."""
        return self._server.is_draining

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, of which nothing has been understood yet."""
        return self._waiter is not None and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; beyond the limit, to be shed."""
        if self._server.is_full:
            self._request_handler, self._lingering_time = self._server.shed, self._server.shed_timeout
            self._server.excess.start(self)
        else:
            self._server.heads.start(self)
        self._is_awaited = True
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Parse it, and see what it was: whole heads, part of one, part of a body, frames."""
        if self._payload_parser is not None or self._is_refused:
            if not self._is_refused:
                super().data_received(data)
            return
        if self._request_count != self._known_requests and not self._catch_up():
            super().data_received(data)
            return
        content = self._last_content
        seen = -1 if content is None or content.is_eof() else content.total_bytes
        super().data_received(data)
        if self._request_count != self._known_requests:
            self._take_heads(self._request_count - self._known_requests, len(data))
        elif seen >= 0 and (content.total_bytes != seen or content.is_eof()):
            self._part_bytes = 0
        elif data and not (self._upgraded or self._close or self._force_close):
            self._take_part(data, is_head=seen < 0)

    def _catch_up(self) -> bool:
        """Note what aiohttp has read besides: a request that came behind an upgrade, once that was declined.

        Tell whether that was possible: not while its handler is about to begin.
        """
        if self._messages:
            self._last_content = self._messages[-1][1]
        elif self._waiter is not None:
            self._last_content = None
        elif self._current_request is not None:
            self._last_content = self._current_request.content
        else:
            return False
        self._known_requests = self._request_count
        return True

    def _take_heads(self, new: int, size: int) -> None:
        """Note that requests have been understood, or that what came is no request."""
        self._known_requests = self._request_count
        if self._is_awaited:
            self._is_awaited = False
            self._server.heads.stop(self)
            self._server.excess.stop(self)
        message, content = self._messages[-1]
        error = getattr(message, "exc", None)
        if error is not None:
            self._is_refused = True
            self._fail_unread(str(getattr(error, "message", error)))
            return
        if not size or size + self._part_bytes + self._last_size > self._limits.max_header_bytes:
            self._refuse_large_heads(new)
        self._part_bytes, self._last_size = 0, size
        self._last_content = content
        if not content.is_eof():
            self._body_seen = -1 if "Expect" in cast("Any", message).headers else content.total_bytes
            self._server.bodies.start(self)

    def _take_part(self, data: bytes, *, is_head: bool) -> None:
        """Count what is neither a head nor content: part of a head, a chunk's extension, trailers."""
        if is_head and not self._part_bytes and not data.strip(b"\r\n"):
            return  # empty lines before a request: RFC 9112 section 2.2
        self._part_bytes += len(data)
        if self._part_bytes > self._limits.max_header_bytes:
            self._refuse(HeadersTooLarge(f"They are larger than {self._limits.max_header_bytes} bytes."))
        elif is_head and not self._is_awaited:
            self._is_awaited = True
            self._server.heads.start(self)

    def _refuse_large_heads(self, new: int) -> None:
        for place in range(len(self._messages) - new, len(self._messages)):
            message: Any = self._messages[place][0]
            lines = sum(len(name) + len(value) + _LINE_OVERHEAD for name, value in message.raw_headers)
            if lines + len(message.path) > self._limits.max_header_bytes:
                error = HeadersTooLarge(f"They are larger than {self._limits.max_header_bytes} bytes.")
                self._messages[place] = (_ErrInfo(_BAD_REQUEST, error, str(error)), EMPTY_PAYLOAD)
                self._is_refused = True

    def _refuse(self, error: ProxyError) -> None:
        """Queue an error behind the requests in flight; its answer is the last on this connection."""
        self._is_refused = True
        self._fail_unread(str(error))
        self._messages.append((_ErrInfo(_BAD_REQUEST, error, str(error)), EMPTY_PAYLOAD))
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail_unread(self, reason: str) -> None:
        """Let whoever reads a body know that no more of it will come."""
        current = None if self._current_request is None else self._current_request.content
        for unread in (current, self._last_content):
            if unread is not None and not unread.is_eof() and unread.exception() is None:
                unread.set_exception(web.RequestPayloadError(reason))

    def connection_lost(self, exc: BaseException | None) -> None:
        """End. Whoever has taken over its bytes gets those as well that came before it broke."""
        if exc is not None and self._payload_parser is not None and self.transport is not None:
            for data in read_rest(self.transport):
                self._payload_parser.feed_data(data)
        super().connection_lost(exc)

    # Time -----------------------------------------------------------------------------------------------------------

    def end_late_head(self) -> None:
        """Give up on a head: in words if part of it has come, else without (a browser may have connected ahead)."""
        self._is_awaited = False
        if self._part_bytes:
            self._refuse(RequestTimeout("Its headers did not come in time."))
        else:
            self.force_close()

    def end_stalled_body(self) -> None:
        """Give up on a body if somebody waits for it, and none of it has come since this was last looked at."""
        content = self._last_content
        if content is None or content.is_eof() or content.exception() is not None:
            return
        if content.total_bytes == self._body_seen and content._waiter is not None:  # noqa: SLF001 - no other way to know
            content.set_exception(BodyStalled(f"Nothing of it came for {self._limits.body_idle_timeout:g} s."))
            return
        self._body_seen = max(self._body_seen, content.total_bytes or -1)
        self._server.bodies.start(self)

    def expect_body(self) -> None:
        """Wait for the body from now on: the client has been told to send it."""
        self._body_seen = self._last_content.total_bytes if self._last_content is not None else 0
        self._server.bodies.start(self)

    # What aiohttp asks ----------------------------------------------------------------------------------------------

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a defect; a body that its client broke off is none, though aiohttp meets it while it reads the rest."""
        if isinstance(kw.get("exc_info"), web.RequestPayloadError):
            logger.debug("a request's body was malformed")
        else:
            super().log_exception(*args, **kw)

    def _make_error_handler(self, err_info: _ErrInfo) -> Handler:
        """Answer what cannot be read, and let the client hear it: to close on what it still sends would be a reset."""

        async def refuse(request: web.BaseRequest) -> web.StreamResponse:
            response = self.handle_error(request, err_info.status, err_info.exc, err_info.message)
            await response.prepare(request)
            await response.write_eof()
            if self.transport is not None and self.transport.can_write_eof():
                self.transport.write_eof()
                self._messages.clear()
                self._resume_reading_for_buffer()
                await asyncio.sleep(LINGER)  # cancelled when the client has closed
            return RELAYED_CLOSE

        return refuse

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is not HTTP, or too much of it: the client's fault, so no error of ours in the log."""
        if status != _BAD_REQUEST:
            return super().handle_error(request, status, exc, message)
        if isinstance(exc, ProxyError):
            error = exc
        elif isinstance(exc, LineTooLong):
            error = HeadersTooLarge(f"They are larger than {self._limits.max_header_bytes} bytes.")
        else:
            error = BadRequest("bad-request", "This is not a valid HTTP request.")
        logger.debug("refused a request: peer=%s code=%s", request.remote, error.code)
        self._server.on_refused(error)
        problem = {"type": "about:blank", "title": error.title, "status": error.status, "detail": str(error)}
        response = web.Response(
            status=error.status,
            body=json.dumps({**problem, "code": error.code}).encode() + b"\n",
            headers={"Content-Type": "application/problem+json", "Server": "notebook-proxy"},
        )
        response.force_close()
        return response
