"""Read a notebook server's response strictly: where it begins and ends, and nothing that is not HTTP/1.

httptools finds the framing; what it lets through is refused here. One reader reads one response: it is thrown away
with its message, so that nothing of a response can leak into the next. Long bodies of known length and bodies that
end with the connection bypass the parser, uncopied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import httptools

from proxy.errors import BadResponse, UpstreamClosed

if TYPE_CHECKING:
    from proxy.relay.headers import RawHeaders

MAX_HEAD_BYTES: Final = 65_536  # Tornado's own limit for a header block
MAX_INTERIM: Final = 8  # 1xx responses before the final one
SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL, _LAST = 200, 599
_NO_CONTENT, _NOT_MODIFIED = 204, 304


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """Status line and headers, as they came.

    Args:
        status: 100 to 599.
        reason: what follows the status, often empty.
        headers: names and values in their order and spelling.
        length: the body's size in bytes where it is known beforehand; 0 where there can be none.
        has_body: whether bytes of a body may follow at all.
    """

    status: int
    reason: bytes
    headers: RawHeaders
    length: int | None
    has_body: bool


class Receiver(Protocol):
    """Who takes a response as it comes. Called while bytes are fed; must not feed in turn."""

    def on_interim(self, head: ResponseHead) -> None:
        """Take a 1xx response; the final one is still to come."""

    def on_head(self, head: ResponseHead) -> None:
        """Take the final response's head, or that of a 101."""

    def on_body(self, data: bytes) -> None:
        """Take the next bytes of the body, without their framing."""

    def on_end(self) -> None:
        """Learn that the response is complete."""


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
    """

    __slots__ = (
        "_error", "_head_bytes", "_headers", "_interim", "_left", "_length", "_method", "_parser", "_reason",
        "_receiver", "_transfer_encoding", "_until_eof", "has_head", "is_complete", "is_reusable", "is_switched",
        "is_upgrade", "tail",
    )  # fmt: skip

    def __init__(self, method: str, receiver: Receiver, *, is_upgrade: bool = False) -> None:
        self._method = method
        self._receiver = receiver
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._length: int | None = None
        self._transfer_encoding: bytes | None = None
        self._head_bytes = 0
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
        """Read the next bytes.

        Raises:
            BadResponse: they are not what an HTTP/1 server may answer here.
        """
        if self.is_switched:
            self.tail += data
        elif self.is_complete:
            self.is_reusable = False  # bytes behind a message's end
        elif self._until_eof:
            self._receiver.on_body(data)
        elif self.has_head and self._left is not None:
            self._feed_known_length(data)
        else:
            self._feed_parser(data)

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

    def _feed_parser(self, data: bytes) -> None:
        if not self.has_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._take_upgrade(data, upgrade.args[0])
        except httptools.HttpParserError as error:
            if self._error is not None:
                raise self._error from None
            if not self.is_complete:
                raise BadResponse(f"The notebook server's answer is not HTTP: {error}.") from error
            self.is_reusable = False  # garbage behind a message's end
        if not self.has_head and self._head_bytes > MAX_HEAD_BYTES:
            raise BadResponse(f"The notebook server's headers are larger than {MAX_HEAD_BYTES} bytes.")

    def _take_upgrade(self, data: bytes, offset: int) -> None:
        if self._error is not None:
            raise self._error from None
        if not self.has_head or not self.is_upgrade:
            raise BadResponse("The notebook server switched protocols without being asked to.")
        self.tail = data[offset:]

    def _complete(self) -> None:
        self.is_complete = True
        self._receiver.on_end()

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
        lowered = name.lower()
        if lowered == b"content-length":
            if not value.isdigit():
                self._refuse("bad Content-Length")
            self._length = int(value)
        elif lowered == b"transfer-encoding":
            if self._transfer_encoding is not None or value.lower() != b"chunked":
                self._refuse("unknown Transfer-Encoding")
            self._transfer_encoding = value
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Judge the head as a whole."""
        if self.is_complete:
            return
        status, version = self._parser.get_status_code(), self._parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse(f"HTTP version {version}")
        if self._transfer_encoding is not None and version == "1.0":
            self._refuse("Transfer-Encoding on HTTP/1.0")
        if self._head_bytes > MAX_HEAD_BYTES and self._size_of_head() > MAX_HEAD_BYTES:
            self._refuse(f"headers larger than {MAX_HEAD_BYTES} bytes")
        if status < _FIRST_FINAL and status != SWITCHING_PROTOCOLS:
            self._take_interim(status)
        elif status > _LAST or (status == SWITCHING_PROTOCOLS and not self.is_upgrade):
            self._refuse(f"status {status}")
        else:
            self._take_head(status)

    def on_body(self, data: bytes) -> None:
        """Pass body bytes on, and notice those that must not be."""
        if self.is_complete:
            self.is_reusable = False  # the body of a response that can have none
            return
        if self._left is not None:
            self._left -= len(data)
        self._receiver.on_body(data)

    def on_message_complete(self) -> None:
        """Take the end of a message that the parser has framed."""
        if self.has_head and not self.is_complete:
            self._complete()

    # --

    def _size_of_head(self) -> int:
        return sum(len(name) + len(value) + 4 for name, value in self._headers)

    def _take_interim(self, status: int) -> None:
        self._interim += 1
        if status < 100 or self._interim > MAX_INTERIM or self._transfer_encoding or self._length:  # noqa: PLR2004
            self._refuse(f"status {status}" if status < 100 else "too many or malformed 1xx responses")  # noqa: PLR2004
        self._receiver.on_interim(ResponseHead(status, self._reason, self._headers, 0, has_body=False))
        self._headers, self._reason, self._length, self._head_bytes = [], b"", None, 0

    def _take_head(self, status: int) -> None:
        self.has_head = True
        bodiless = self._method == "HEAD" or status in (SWITCHING_PROTOCOLS, _NO_CONTENT, _NOT_MODIFIED)
        self.is_switched = status == SWITCHING_PROTOCOLS
        self.is_reusable = self._parser.should_keep_alive() and not self.is_switched
        if bodiless:
            self._receiver.on_head(ResponseHead(status, self._reason, self._headers, 0, has_body=False))
            self._complete()
            return
        if self._transfer_encoding is None:
            self._left = self._length
            self._until_eof = self._length is None
        length = self._length if self._transfer_encoding is None else None
        self._receiver.on_head(ResponseHead(status, self._reason, self._headers, length, has_body=length != 0))
