"""Carry one HTTP request to a notebook server and its response to the client.

Bytes are written straight to the transports as they come, with backpressure both ways; nothing is held but what a
write buffer holds. Once a response's head is
written, an error can only cut it off, in a way that the client can tell from its end.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion11, web

from proxy.errors import BadRequest, ProxyError, RequestTimeout, UpstreamClosed, UpstreamGone, UpstreamLost
from proxy.relay.downstream import RELAYED_CLOSE, RELAYED_KEEP, BodyStalled, can_be_followed, cut_off, expect_body
from proxy.relay.headers import request_lines, response_lines, values_of
from proxy.relay.response import SWITCHING_PROTOCOLS, ResponseHead, ResponseReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.relay.upstream import Connection, Pool
    from proxy.workspace import Handle

_ALWAYS_REPLACED: Final = frozenset({b"authorization"})
_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 section 9.2.2
_CONTINUE, _FIRST_REFUSAL = 100, 400
_NO_CONTENT: Final = 204
_LAST_CHUNK: Final = b"0\r\n\r\n"


@dataclass(slots=True)
class Order:
    """One request, ready to be carried.

    Args:
        request: the client's; its body has not been read.
        target: what stands in the request line towards the notebook server.
        handle: where it goes.
        forwarded: the `X-Forwarded-*` lines.
        touch: called whenever something passes, in either direction.

    Attributes:
        body: all of the request's body, if it had come when the request was first sent; so it can be sent again.
    """

    request: web.BaseRequest
    target: bytes
    handle: Handle
    forwarded: bytes
    touch: Callable[[], None]
    body: bytes | None = field(default=None, init=False)

    def head(self, extra: bytes = b"") -> bytes:
        """Return the request line and headers for the notebook server, with `extra` lines of the relay's own."""
        ours = b"".join((self.handle.header_lines, self.forwarded, extra))
        lines = request_lines(self.request.raw_headers, ours, replaced=self.handle.header_names - _ALWAYS_REPLACED)
        return b"".join((self.request.method.encode("ascii"), b" ", self.target, b" HTTP/1.1\r\n", lines, b"\r\n"))


class Exchange:
    """The response to one request: taken from its connection, written to the client.

    Takes both what the connection says and what the reader finds. The one coroutine that owns it waits in `settle`.

    Attributes:
        is_uploading: part of the request's body is still to be sent.
        is_refused: the answer is an error that came before the end of the body: no more of it is sent.
        expects_continue: the client waits for a 100 before it sends its body.
        reader: reads the response.
        switched: the head of a 101, which is not written; the owner decides.
        has_answered: the client has been sent (part of) the final response.
        is_ended: the response is complete.
        error: why it will never be.
        keep_alive: the client's connection can carry another request.
    """

    def __init__(self, order: Order, connection: Connection, pool: Pool, *, is_upgrade: bool = False) -> None:
        self._request = order.request
        self._touch = order.touch
        self._connection = connection
        self._pool = pool
        self._out: list[bytes] = []
        self._is_chunked = False
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._is_held = False  # reading from the notebook server is paused: the client is slow
        self.is_uploading = False
        self.is_refused = False
        self.expects_continue = False
        self.reader = ResponseReader(order.request.method, self, is_upgrade=is_upgrade)
        self.switched: ResponseHead | None = None
        self.has_answered = False
        self.is_ended = False
        self.error: ProxyError | None = None
        self.keep_alive = can_be_followed(order.request)
        connection.taker = self
        pool.watch(self)

    async def settle(self) -> None:
        """Return when the response is complete or never will be; let a slow client catch up meanwhile."""
        while not self.is_ended and self.error is None:
            if self._is_held:
                await self._request.writer.drain()
                self._is_held = False
                self._connection.resume_reading()
                continue
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def has_room(self) -> None:
        """Return when the connection takes more of the request's body."""
        while self._connection.is_write_paused:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def restart_clock(self) -> None:
        """Count the time until the head from now: part of the request has just been sent."""
        if not self.reader.has_head:
            self._pool.watch(self)

    def fail(self, error: ProxyError) -> None:
        """End it with an error; the first one counts."""
        if self.error is None and not self.is_ended:
            self.error = error
            self._wake()

    @property
    def is_unanswered(self) -> bool:
        """Whether the connection ended without a byte of an answer."""
        return type(self.error) is UpstreamClosed and not self.reader.has_bytes

    def detach(self) -> None:
        """Let go of the connection; what becomes of it is the owner's to say."""
        self._pool.unwatch(self)
        if self._connection.taker is self:
            self._connection.taker = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the connection says ---------------------------------------------------------------------------------------

    def on_readable(self, data: bytes) -> None:
        """Read the next bytes of the response, and write what is in them to the client."""
        self._touch()
        try:
            self.reader.feed(data)
        except ProxyError as error:
            self.fail(error)
        self._flush()

    def on_writable(self) -> None:
        """Let the upload go on."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def on_closed(self, error: Exception | None) -> None:
        """Take the end of the connection, which may be the end of the body."""
        if error is not None and not self.is_ended:
            self.fail(UpstreamClosed(f"The notebook server's connection broke ({error})."))
            return
        try:
            self.reader.eof()
        except ProxyError as closed:
            self.fail(closed)
        self._flush()

    # What the reader finds ------------------------------------------------------------------------------------------

    def on_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on (RFC 9110 section 15.2): 100 only to who waits for it, none to HTTP/1.0."""
        is_wanted = self.expects_continue if head.status == _CONTINUE else True
        if is_wanted and self._request.version >= HttpVersion11:
            if head.status == _CONTINUE:
                expect_body(self._request)
            self._out += (b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason), response_lines(head.headers), b"\r\n")

    def on_head(self, head: ResponseHead) -> None:
        """Write the head in the form that the client can frame."""
        self._pool.unwatch(self)
        if head.status == SWITCHING_PROTOCOLS:
            self._connection.pause_reading()
            self.switched = head
            return
        self.has_answered = True
        self._is_chunked = head.has_body and head.length is None and self._request.version >= HttpVersion11
        if head.has_body and head.length is None and not self._is_chunked:
            self.keep_alive = False  # HTTP/1.0: the body ends with the connection
        if self.is_uploading:
            # The client may not send the rest of its body after this, so what follows could not be told from it.
            self.keep_alive = False
            self.is_refused = head.status >= _FIRST_REFUSAL
        lines = response_lines(head.headers, without_length=self._is_chunked or head.status == _NO_CONTENT)
        self._out += (b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason), lines)
        if self._is_chunked:
            self._out.append(b"Transfer-Encoding: chunked\r\n")
        self._out.append(b"\r\n" if self.keep_alive else b"Connection: close\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Write body bytes on."""
        if self._is_chunked:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def on_end(self) -> None:
        """Write the end of the body."""
        if self._is_chunked:
            self._out.append(_LAST_CHUNK)
        self.is_ended = True
        self._wake()

    def _flush(self) -> None:
        if not self._out:
            return
        transport = self._request.transport
        if transport is not None and not transport.is_closing():
            transport.writelines(self._out)
            if self._request.protocol.writing_paused and not self.is_ended:
                self._is_held = True
                self._connection.pause_reading()
                self._wake()
        self._out = []


async def relay_http(order: Order, pool: Pool) -> web.StreamResponse:
    """Carry a request and its response, and return when the last byte is written.

    Cancelling it (the client is gone) drops the connection to the notebook server at once.

    Raises:
        UpstreamRefused: no connection; nothing was sent and the body is untouched.
        UpstreamClosed: the notebook server closed before it answered.
        UpstreamLost: the same on a new connection, where the request can be sent again.
        UpstreamGone: the same on a kept connection, where the request must not be sent again unasked.
        BadResponse: what came is not a response.
        UpstreamTimeout: no head came in time.
        BadRequest: the client's body is malformed.
        RequestTimeout: the client's body stopped coming.
    """
    request = order.request
    # What has come already is sent along at once; a longer body is carried piece by piece.
    if order.body is None and (not request.body_exists or request.content.is_eof()):
        order.body = request.content.read_nowait(-1) if request.body_exists else b""
    can_repeat = order.body is not None and request.method in _IDEMPOTENT
    is_fresh = False
    while True:
        connection = await pool.acquire(order.handle, fresh=is_fresh)
        exchange = Exchange(order, connection, pool)
        try:
            await _carry(order, exchange, connection)
        finally:
            answer = _finish(exchange, connection, pool, request)
        if exchange.error is None or exchange.has_answered:
            return answer
        if exchange.is_unanswered and connection.is_reused:
            if can_repeat:
                is_fresh = True
                continue
            raise UpstreamGone(
                "The notebook server closed the connection while the request was sent. It may or may not have been "
                "carried out; look, then send it again."
            ) from exchange.error
        if exchange.is_unanswered and can_repeat:
            raise UpstreamLost(str(exchange.error)) from exchange.error
        raise exchange.error


async def _carry(order: Order, exchange: Exchange, connection: Connection) -> None:
    """Send the request and wait until its response is settled."""
    request, body = order.request, order.body
    is_chunked = "Transfer-Encoding" in request.headers
    extra = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
    if body is not None:
        if is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + _LAST_CHUNK
        connection.write(order.head(extra) + body)
        await exchange.settle()
        return
    if any(value.lower() == b"100-continue" for value in values_of(request.raw_headers, b"expect")):
        exchange.expects_continue = True
        extra += b"Expect: 100-continue\r\n"
    exchange.is_uploading = True
    connection.write(order.head(extra))
    upload = asyncio.create_task(_upload(order, exchange, connection, is_chunked=is_chunked))
    try:
        await exchange.settle()
    finally:
        upload.cancel()
        await asyncio.wait((upload,))


async def _upload(order: Order, exchange: Exchange, connection: Connection, *, is_chunked: bool) -> None:
    """Carry the request's body, until its end or until the notebook server refuses it."""
    content = order.request.content
    try:
        while data := await content.readany():
            order.touch()
            if exchange.is_refused:
                return
            connection.write(b"%x\r\n%b\r\n" % (len(data), data) if is_chunked else data)
            exchange.restart_clock()
            await exchange.has_room()
    except BodyStalled as error:
        exchange.fail(RequestTimeout(f"The request's body did not come whole: {error}"))
        return
    except web.RequestPayloadError as error:
        exchange.fail(BadRequest("bad-body", f"The request's body is malformed: {error}"))
        return
    except Exception as error:  # noqa: BLE001 - the top of a task: the client went away while sending
        exchange.fail(BadRequest("bad-body", f"The request's body did not come whole ({type(error).__name__})."))
        return
    if is_chunked:
        connection.write(_LAST_CHUNK)
    exchange.is_uploading = False


def _finish(exchange: Exchange, connection: Connection, pool: Pool, request: web.BaseRequest) -> web.StreamResponse:
    """Keep the connection if it can carry another request, else drop it; cut off a response that cannot be ended."""
    exchange.detach()
    is_sent = not exchange.is_uploading
    if exchange.is_ended and exchange.reader.is_reusable and is_sent:
        pool.release(connection)
    else:
        connection.abort()
    if exchange.has_answered and not exchange.is_ended:
        cut_off(request)
    return RELAYED_KEEP if exchange.keep_alive and exchange.is_ended and is_sent else RELAYED_CLOSE
