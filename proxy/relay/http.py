"""Carry one HTTP request to a notebook server and its response to the client.

Owns what becomes of both connections at the end, and when a request is sent again. Once a response's head is written,
an error can only cut it off, in a way that the client can tell from its end.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import hdrs, web

from proxy.errors import BadRequest, RequestTimeout, UpstreamGone, UpstreamLost
from proxy.relay.downstream import RELAYED_CLOSE, RELAYED_KEEP, BodyStalled, cut_off
from proxy.relay.exchange import LAST_CHUNK, Exchange
from proxy.relay.headers import values_of

if TYPE_CHECKING:
    from proxy.relay.connection import Connection
    from proxy.relay.order import Order
    from proxy.relay.upstream import Pool

_IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})  # RFC 9110 section 9.2.2


async def relay_http(order: Order, pool: Pool) -> web.StreamResponse:
    """Carry a request and its response, and return when the last byte is written. What is begun is carried on.

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
    is_chunked = hdrs.TRANSFER_ENCODING in request.headers
    is_fresh = False
    while True:
        exchange, order.begun = order.begun, None
        is_begun = exchange is not None
        if exchange is None:
            connection = None if is_fresh else pool.take(order.handle)
            exchange = Exchange(order, connection or await pool.acquire(order.handle, fresh=True), pool)
        connection = exchange.connection
        try:
            if order.body == b"" and not is_chunked:  # most requests
                if not is_begun:
                    connection.write(order.head())
                await exchange.settle()
            else:
                await _carry(order, exchange, connection, is_chunked=is_chunked)
        finally:
            answer = finish(exchange, request)
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


async def _carry(order: Order, exchange: Exchange, connection: Connection, *, is_chunked: bool) -> None:
    """Send a request with a body, and wait until its response is settled."""
    request, body = order.request, order.body
    extra = b"Transfer-Encoding: chunked\r\n" if is_chunked else b""
    if body is not None:
        if is_chunked:
            body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + LAST_CHUNK
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
        connection.write(LAST_CHUNK)
    exchange.is_uploading = False


def finish(exchange: Exchange, request: web.BaseRequest) -> web.StreamResponse:
    """Keep the connection if it can carry another request, else drop it; cut off a response that cannot be ended."""
    exchange.detach()
    connection = exchange.connection
    is_sent = not exchange.is_uploading
    if exchange.is_ended and exchange.reader.is_reusable and is_sent:
        exchange.pool.release(connection)
    else:
        connection.abort()
    if exchange.has_answered:
        exchange.count()
        if not exchange.is_ended:
            cut_off(request)
    return RELAYED_KEEP if exchange.keep_alive and exchange.is_ended and is_sent else RELAYED_CLOSE
