"""What a notebook server answered before its body, and who takes an answer as it is read.

Pure. Whether it is well-formed is for `response` and `plain` to say, which make it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy.relay.plain import headers_of, reason_of

if TYPE_CHECKING:
    from proxy.relay.headers import RawHeaders
    from proxy.relay.plain import PlainHead


class ResponseHead:
    """Status line and headers, as they came.

    Args:
        status: 100 to 599.
        length: the body's size in bytes where it is known beforehand; 0 where there can be none.
        has_body: whether bytes of a body may follow at all.
        read: reason phrase and headers.
        plain: instead of `read` what `plain.read_plain` found.

    Attributes:
        lines: status line and headers as they are passed on, of a plain head of which nothing is rewritten; else None.
    """

    __slots__ = ("_raw", "_read", "has_body", "length", "lines", "status")

    def __init__(
        self,
        status: int,
        length: int | None,
        *,
        has_body: bool,
        read: tuple[bytes, RawHeaders] | None = None,
        plain: PlainHead | None = None,
    ) -> None:
        self.status = status
        self.length = length
        self.has_body = has_body
        self._read = read
        self._raw = b"" if plain is None else plain.raw
        self.lines = None if plain is None else plain.lines

    @property
    def reason(self) -> bytes:
        """What follows the status, often empty."""
        return self._read[0] if self._read is not None else reason_of(self._raw)

    @property
    def headers(self) -> RawHeaders:
        """Names and values in their order and spelling."""
        return self._read[1] if self._read is not None else headers_of(self._raw)

    def __eq__(self, other: object) -> bool:
        names = ("status", "reason", "headers", "length", "has_body")
        return isinstance(other, ResponseHead) and all(getattr(self, name) == getattr(other, name) for name in names)

    __hash__ = None  # type: ignore[assignment] # what it holds can change


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
