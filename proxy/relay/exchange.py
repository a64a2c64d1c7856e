"""One request on its way, and the response to it: taken from a connection, written to the client.

Bytes are written straight to the client's transport as they come, with backpressure; nothing is held but what a write
buffer holds. Everything here happens while bytes arrive, and nothing awaits but the owner.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from aiohttp import HttpVersion11

from proxy.errors import ProxyError, UpstreamClosed
from proxy.relay.downstream import can_be_followed, expect_body
from proxy.relay.headers import response_lines
from proxy.relay.response import SWITCHING_PROTOCOLS, ResponseReader

if TYPE_CHECKING:
    import asyncio

    from proxy.relay.connection import Connection
    from proxy.relay.order import Order
    from proxy.relay.response_head import ResponseHead
    from proxy.relay.upstream import Pool

_CONTINUE, _FIRST_REFUSAL = 100, 400
_NO_CONTENT: Final = 204
JOINED: Final = 16_384  # bytes up to which one copy costs less than a list of pieces
LAST_CHUNK: Final = b"0\r\n\r\n"


class Exchange:
    """The response to one request: taken from its connection, written to the client.

    Takes both what the connection says and what the reader finds. The one coroutine that owns it waits in `settle`.

    Attributes:
        order: what is carried.
        connection: by what.
        pool: where that came from.
        is_uploading: part of the request's body is still to be sent.
        is_refused: the answer is an error that came before the end of the body: no more of it is sent.
        expects_continue: the client waits for a 100 before it sends its body.
        reader: reads the response.
        switched: the head of a 101, which is not written; the owner decides.
        has_answered: the client has been sent (part of) the final response.
        is_ended: the response is complete.
        error: why it will never be.
        keep_alive: the client's connection can carry another request.
        status: of the final response; 0 until its head has come.
    """

    __slots__ = (
        "_began", "_headed", "_is_chunked", "_is_held", "_out", "_protocol", "_room", "_touch", "_waiter", "connection",
        "error", "expects_continue", "has_answered", "is_ended", "is_refused", "is_uploading", "keep_alive", "order",
        "pool", "reader", "status", "switched",
    )  # fmt: skip

    def __init__(
        self,
        order: Order,
        connection: Connection,
        pool: Pool,
        *,
        is_upgrade: bool = False,
        keep_alive: bool | None = None,
    ) -> None:
        request = order.request
        self._protocol: Any = request.protocol  # a `ClientConnection`; `cast` would be a call for each request
        self._touch = order.touch
        self.pool = pool
        self._out: list[bytes] = []
        self._is_chunked = False
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._is_held = False  # reading from the notebook server is paused: the client is slow
        self.order = order
        self.connection = connection
        self.is_uploading = False
        self.is_refused = False
        self.expects_continue = False
        self.reader = ResponseReader(request.method, self, is_upgrade=is_upgrade)
        self.switched: ResponseHead | None = None
        self.has_answered = False
        self.status = 0
        self._began = self._headed = monotonic()
        self.is_ended = False
        self.error: ProxyError | None = None
        self.keep_alive = can_be_followed(request) if keep_alive is None else keep_alive
        connection.taker = self
        pool.watch(self)

    async def settle(self) -> None:
        """Return when the response is complete or never will be; let a slow client catch up meanwhile."""
        while not self.is_ended and self.error is None:
            if self._is_held:
                await self.order.request.writer.drain()
                self._is_held = False
                self.connection.resume_reading()
                continue
            self._waiter = self.pool.create_future()
            await self._waiter

    async def has_room(self) -> None:
        """Return when the connection takes more of the request's body."""
        while self.connection.is_write_paused:
            self._room = self.pool.create_future()
            await self._room

    def restart_clock(self) -> None:
        """Count the time until the head from now: part of the request has just been sent."""
        if not self.reader.has_head:
            self.pool.watch(self)

    def fail(self, error: ProxyError) -> None:
        """End it with an error; the first one counts."""
        self._note(error)
        self._wake()

    @property
    def is_unanswered(self) -> bool:
        """Whether the connection ended without a byte of an answer."""
        return type(self.error) is UpstreamClosed and not self.reader.has_bytes

    def count(self) -> None:
        """Count the response, which has been written as far as it ever will be."""
        counts, began = self.pool.counts, self._began
        counts.answered(self.status, self._headed - began, monotonic() - began)
        if not self.is_ended:
            counts.cut += 1

    def detach(self) -> None:
        """Let go of the connection; what becomes of it is the owner's to say."""
        if not self.reader.has_head:
            self.pool.unwatch(self)
        if self.connection.taker is self:
            self.connection.taker = None

    def _note(self, error: ProxyError) -> None:
        if self.error is None and not self.is_ended:
            self.error = error

    def _wake(self) -> None:
        """Let the owner look: it is settled, or held; what has been found is written by then."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # What the connection says ---------------------------------------------------------------------------------------

    def on_readable(self, data: bytes) -> None:
        """Read the next bytes of the response, and write what is in them to the client."""
        self._touch()
        try:
            self.reader.feed(data)
        except ProxyError as error:
            self._note(error)
        self._flush(len(data))

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
            self._note(closed)
        self._flush(0)

    # What the reader finds ------------------------------------------------------------------------------------------

    def on_interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on (RFC 9110 section 15.2): 100 only to who waits for it, none to HTTP/1.0."""
        is_wanted = self.expects_continue if head.status == _CONTINUE else True
        if is_wanted and self.order.request.version >= HttpVersion11:
            if head.status == _CONTINUE:
                expect_body(self.order.request)
            lines = response_lines(head.headers, self.order.place())
            self._out += (b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason), lines, b"\r\n")

    def on_head(self, head: ResponseHead) -> None:
        """Write the head in the form that the client can frame.

        Raises:
            BadResponse: it sends the client elsewhere; nothing of it is written.
        """
        self.pool.unwatch(self)
        if head.status == SWITCHING_PROTOCOLS:
            self.connection.pause_reading()
            self.switched = head
            return
        self._is_chunked = head.has_body and head.length is None and self.order.request.version >= HttpVersion11
        lines = head.lines or self._lines(head)
        self.has_answered = True
        self.status = self._protocol.relayed_status = head.status
        self._headed = monotonic()
        if head.has_body and head.length is None and not self._is_chunked:
            self.keep_alive = False  # HTTP/1.0: the body ends with the connection
        if self._protocol.is_draining:
            self.keep_alive = False
        if self.is_uploading:
            # The client may not send the rest of its body after this, so what follows could not be told from it.
            self.keep_alive = False
            self.is_refused = head.status >= _FIRST_REFUSAL
        self._out.append(lines)
        self._out.append(b"\r\n" if self.keep_alive else b"Connection: close\r\n\r\n")

    def _lines(self, head: ResponseHead) -> bytes:
        """Return status line and headers as they are passed on, with the framing that the client gets."""
        without_length = self._is_chunked or head.status == _NO_CONTENT
        lines = response_lines(head.headers, self.order.place(), status=head.status, without_length=without_length)
        framing = b"Transfer-Encoding: chunked\r\n" if self._is_chunked else b""
        return b"HTTP/1.1 %d %b\r\n%b%b" % (head.status, head.reason, lines, framing)

    def on_body(self, data: bytes) -> None:
        """Write body bytes on."""
        if self._is_chunked:
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._out.append(data)

    def on_end(self) -> None:
        """Write the end of the body."""
        if self._is_chunked:
            self._out.append(LAST_CHUNK)
        self.is_ended = True

    def _flush(self, size: int) -> None:
        """Write what has gathered from so many bytes of the notebook server's; then its owner may look."""
        if self._out:
            self._write(size)
        if self.is_ended or self._is_held or self.error is not None:
            self._wake()

    def _write(self, size: int) -> None:
        out, self._out = self._out, []
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            return
        if len(out) == 1:
            transport.write(out[0])
        elif size <= JOINED:
            transport.write(b"".join(out))
        else:
            transport.writelines(out)
        if not self.is_ended and self._protocol.writing_paused:
            self._is_held = True
            self.connection.pause_reading()
