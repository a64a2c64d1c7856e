"""Read a notebook server's response strictly: where it begins and ends, and nothing that is not HTTP/1.

httptools reads chunks, and the heads that `plain` does not know; what it lets through is refused here. It is given a
head to its last byte and not one more, so that what follows is framed here and no result depends on the pieces in which
bytes come. One reader with one parser reads one response: both are thrown away with it, so that nothing of a response
can leak into the next. Bodies of known length and bodies that end with the connection bypass the parser, uncopied.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import httptools

from proxy.errors import BadResponse, UpstreamClosed
from proxy.relay.plain import read_plain
from proxy.relay.response_head import ResponseHead

if TYPE_CHECKING:
    from proxy.relay.plain import PlainHead
    from proxy.relay.response_head import Receiver

MAX_HEAD_BYTES: Final = 65_536  # Tornado's own limit for a header block; also for trailers and chunk extensions
MAX_INTERIM: Final = 8  # 1xx responses before the final one
SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL, _LAST = 200, 599
_NO_CONTENT, _NOT_MODIFIED = 204, 304
_NEVER_PLAIN: Final = frozenset({_NO_CONTENT, _NOT_MODIFIED})  # whatever length they tell, there is no body
_FRAMING_LENGTHS: Final = frozenset(map(len, (b"content-length", b"transfer-encoding")))
_END_OF_HEAD: Final = b"\r\n\r\n"
_END_OF_CHUNKS: Final = re.compile(rb"[^\r\n]\r\n\r\n")  # the last bytes of a chunked body, with or without trailers
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")  # what no reason phrase holds: RFC 9112 section 4


class ResponseReader:
    """One response, from its first byte to its last.

    Args:
        method: the request's, which decides whether there is a body (RFC 9112 section 6.3).
        receiver: who takes what is read.
        is_upgrade: the request asked for a websocket, so that a 101 may come.

    Attributes:
        is_complete: the last byte has been read.
        is_reusable: another request may be sent on the connection once the response is complete.
        is_switched: the response is a 101; what follows it is not HTTP.
        tail: what has come of the new protocol.

    Once it is complete, it holds neither its parser nor its receiver: each holds the reader in turn, and what holds
    itself alive is left to the garbage collector, which stops everything to find it.
    """

    __slots__ = (
        "_error", "_head_bytes", "_headers", "_idle_bytes", "_interim", "_last_bytes", "_left", "_length", "_method",
        "_parser", "_reason", "_receiver", "_transfer_encoding", "_until_eof", "has_head", "is_complete",
        "is_reusable", "is_switched", "is_upgrade", "tail",
    )  # fmt: skip

    def __init__(self, method: str, receiver: Receiver, *, is_upgrade: bool = False) -> None:
        self._method = method
        self._receiver = receiver
        self._parser: httptools.HttpResponseParser | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._length: int | None = None
        self._transfer_encoding: bytes | None = None
        self._head_bytes = 0
        self._idle_bytes = 0  # of a chunked body that have come since its last byte of content
        self._last_bytes = b""  # what came last: an end may come in two pieces
        self._interim = 0
        self._left: int | None = None  # bytes of a body of known length that are still to come
        self._until_eof = False
        self._error: BadResponse | None = None
        self.is_upgrade = is_upgrade
        self.has_head = False
        self.is_complete = False
        self.is_reusable = False
        self.is_switched = False
        self.tail = b""

    @property
    def has_bytes(self) -> bool:
        """Whether anything has come at all."""
        return self.has_head or self._head_bytes > 0 or self._interim > 0

    # What the connection calls --------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Read the next bytes; none change nothing.

        Raises:
            BadResponse: they are not what an HTTP/1 server may answer here.
        """
        if not data:
            return
        if not self.has_head:
            self._feed_head(data)
        elif self.is_switched:
            self.tail += data
        elif self.is_complete:
            self.is_reusable = False  # bytes behind a message's end
        elif self._left is not None:
            self._feed_known_length(data)
        elif self._until_eof:
            self._receiver.on_body(data)
        else:
            self._feed_chunks(data)

    def eof(self) -> None:
        """Take the end of the connection.

        Raises:
            UpstreamClosed: the response is not complete.
        """
        self.is_reusable = False
        if self.is_complete:
            return
        if not self._until_eof:
            where = "in the middle of its answer" if self.has_head or self._head_bytes else "without an answer"
            raise UpstreamClosed(f"The notebook server closed the connection {where}.")
        self._complete()
        self._let_go()

    def _feed_known_length(self, data: bytes) -> None:
        assert self._left is not None
        extra = len(data) - self._left
        if extra > 0:
            data = data[: self._left]
            self.is_reusable = False
        self._left -= len(data)
        self._receiver.on_body(data)
        if self._left == 0:
            self._complete()
            self._let_go()

    def _feed_head(self, data: bytes) -> None:
        if not self._head_bytes and not data.startswith(b"H"):  # the parser lets empty lines and RTSP/1.0 through
            raise BadResponse("The notebook server's answer is not HTTP.")
        joined = self._last_bytes + data if self._last_bytes else data
        found = joined.find(_END_OF_HEAD)
        end = len(data) if found < 0 else found + len(_END_OF_HEAD) - len(self._last_bytes)
        self._last_bytes = joined[-3:] if found < 0 else b""
        self._head_bytes += end
        if self._head_bytes > MAX_HEAD_BYTES:
            raise BadResponse(f"The notebook server's headers are larger than {MAX_HEAD_BYTES} bytes.")
        head, rest = (data, b"") if end == len(data) else (data[:end], data[end:])
        plain = read_plain(head) if found >= 0 and self._head_bytes == end and self._method != "HEAD" else None
        if plain is not None and plain.status not in _NEVER_PLAIN:
            self._take_plain(plain)
        else:
            self._parse(head)
        if rest and self._left:
            self._feed_known_length(rest)
        elif rest:
            self.feed(rest)

    def _take_plain(self, plain: PlainHead) -> None:
        self.has_head = self.is_reusable = True
        self._length = self._left = plain.length
        has_body = plain.length > 0
        self._receiver.on_head(ResponseHead(plain.status, plain.length, has_body=has_body, plain=plain))
        if not has_body:
            self._complete()
            self._let_go()

    def _feed_chunks(self, data: bytes) -> None:
        self._idle_bytes += len(data)
        self._parse(data)
        self._last_bytes = (self._last_bytes + data)[-5:] if len(data) < 5 else data[-5:]  # noqa: PLR2004
        if self.is_complete:
            # The parser swallows empty lines behind the end; of anything else it tells.
            self.is_reusable = self.is_reusable and _END_OF_CHUNKS.fullmatch(self._last_bytes) is not None
        elif self._idle_bytes > MAX_HEAD_BYTES:
            raise BadResponse(f"The notebook server sent more than {MAX_HEAD_BYTES} bytes between parts of a body.")

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # the end of a 101's head; or behind a message's end, which `on_message_begin` has noticed
        except httptools.HttpParserError as error:
            if self._error is not None:
                raise self._error from None
            if not self.is_complete:
                raise BadResponse(f"The notebook server's answer is not HTTP: {error}.") from error
            self.is_reusable = False  # garbage behind a message's end
        if self.is_complete:
            self._let_go()

    def _complete(self) -> None:
        self.is_complete = True
        self._receiver.on_end()

    def _let_go(self) -> None:
        """Drop what holds the reader in turn; nothing of it is asked for again."""
        self._parser = None
        del self._receiver

    def _refuse(self, reason: str) -> None:
        self._error = BadResponse(f"The notebook server's answer is not valid: {reason}.")
        raise self._error

    # What httptools calls -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Notice a second response behind the first."""
        if self.is_complete:
            self.is_reusable = False  # a second response behind the first

    def on_status(self, reason: bytes) -> None:
        """Collect the reason phrase, which may come in pieces."""
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header, or refuse a framing that two readers could understand differently."""
        if self.has_head:
            return  # a trailer: not passed on (RFC 9110 section 6.5.1)
        if len(name) in _FRAMING_LENGTHS:
            self._take_framing(name.lower(), value)
        self._headers.append((name, value))

    def _take_framing(self, lowered: bytes, value: bytes) -> None:
        if lowered == b"content-length":
            digits = value.strip(b" \t")  # RFC 9110 section 5.5: whitespace behind a value is not part of it
            if not digits.isdigit():
                self._refuse("bad Content-Length")
            self._length = int(digits)
        elif lowered == b"transfer-encoding":
            if self._transfer_encoding is not None or value.strip(b" \t").lower() != b"chunked":
                self._refuse("unknown Transfer-Encoding")
            self._transfer_encoding = value

    def on_headers_complete(self) -> None:
        """Judge the head as a whole."""
        if self.is_complete:
            return
        assert self._parser is not None  # it is what calls this
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse(f"HTTP version {version}")
        if self._transfer_encoding is not None and version == "1.0":
            self._refuse("Transfer-Encoding on HTTP/1.0")
        if _CONTROLS.search(self._reason):
            self._refuse("control characters in the status line")
        if status < _FIRST_FINAL and status != SWITCHING_PROTOCOLS:
            self._take_interim(status)
        elif status > _LAST or (status == SWITCHING_PROTOCOLS and not self._may_switch()):
            self._refuse(f"status {status}")
        else:
            self._take_head(status)

    def on_body(self, data: bytes) -> None:
        """Pass on what a chunk holds."""
        if not self.is_complete:
            self._idle_bytes = 0
            self._receiver.on_body(data)

    def on_message_complete(self) -> None:
        """Take the end of a chunked body."""
        if self.has_head and not self.is_complete:
            self._complete()

    # --

    def _may_switch(self) -> bool:
        return self.is_upgrade and self._transfer_encoding is None and not self._length

    def _take_interim(self, status: int) -> None:
        self._interim += 1
        if status < 100:  # noqa: PLR2004
            self._refuse(f"status {status}")
        # RFC 9110 section 8.6: neither Content-Length nor Transfer-Encoding is in a 1xx.
        if self._interim > MAX_INTERIM or self._transfer_encoding is not None or self._length is not None:
            self._refuse("too many or malformed 1xx responses")
        self._receiver.on_interim(ResponseHead(status, 0, has_body=False, read=(self._reason, self._headers)))
        self._headers, self._reason, self._head_bytes = [], b"", 0

    def _take_head(self, status: int) -> None:
        assert self._parser is not None
        self.has_head = True
        self.is_switched = status == SWITCHING_PROTOCOLS
        self.is_reusable = self._parser.should_keep_alive() and not self.is_switched
        bodiless = self._method == "HEAD" or status in (SWITCHING_PROTOCOLS, _NO_CONTENT, _NOT_MODIFIED)
        if bodiless or self._length == 0:
            self._pass_on(ResponseHead(status, 0, has_body=False, read=(self._reason, self._headers)))
            self._complete()
            return
        self._left = self._length
        self._until_eof = self._length is None and self._transfer_encoding is None
        read = (self._reason, self._headers)
        self._pass_on(ResponseHead(status, self._length, has_body=True, read=read))

    def _pass_on(self, head: ResponseHead) -> None:
        try:
            self._receiver.on_head(head)
        except BadResponse as error:
            self._error = error  # the parser in between would tell of another
            raise
