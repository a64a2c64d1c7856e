"""Which headers cross the proxy, and in what form.

Pure: bytes in, bytes out. Headers pass as they came, in their order, but for those that belong to one connection
(RFC 9110 section 7.6.1), those that the proxy sets itself, and their look-alikes.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1 and what is sent in practice. Content-Length stays: the relay checks that it is kept.
CONNECTION_HEADERS: Final = frozenset(
    {
        b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
# X-Real-Ip and X-Scheme: Tornado believes them before the X-Forwarded ones.
_OURS: Final = frozenset(
    {
        b"authorization", b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port",
        b"x-forwarded-prefix", b"x-forwarded-proto", b"x-forwarded-scheme", b"x-forwarded-server",
        b"x-forwarded-ssl", b"x-real-ip", b"x-scheme",
    }
)  # fmt: skip
_KEPT_WHATEVER_CONNECTION_NAMES: Final = frozenset({b"content-length", b"host"})
_NONE: Final[frozenset[bytes]] = frozenset()


@lru_cache(maxsize=1024)
def _is_dropped_from_request(name: bytes) -> bool:
    # Many servers read X_Forwarded_For as X-Forwarded-For, so a look-alike is dropped with what it looks like.
    canonical = name.lower().replace(b"_", b"-")
    if canonical == b"content-length":
        return b"_" in name  # what a server reads as a second length frames the request anew
    return canonical in CONNECTION_HEADERS or canonical in _OURS or canonical == b"expect"


@lru_cache(maxsize=1024)
def _is_dropped_from_response(name: bytes) -> bool:
    return name.lower() in CONNECTION_HEADERS


@lru_cache(maxsize=256)
def _named(value: bytes) -> frozenset[bytes]:
    """Return the headers that a `Connection` value names, lower-case, but for those that are dropped or kept anyway."""
    options = frozenset(option.strip().lower() for option in value.split(b","))
    return options - _KEPT_WHATEVER_CONNECTION_NAMES - CONNECTION_HEADERS


def _named_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    named = _NONE
    for name, value in headers:
        if len(name) == 10 and name.lower() == b"connection":  # noqa: PLR2004 - len("connection")
            named |= _named(value)
    return named


def values_of(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Return every value of a header, in order.

    Args:
        headers: as they came.
        name: lower-case.
    """
    return [value for found, value in headers if found.lower() == name]


def request_lines(headers: RawHeaders, ours: bytes, *, replaced: frozenset[bytes] = _NONE) -> bytes:
    """Return the header lines of a request to the notebook server, each with its CRLF, ours last.

    The client's `Authorization`, forwarding headers and `Expect` are dropped; those that `Connection` names are
    removed before ours are added, so that a client cannot name ours away.

    Args:
        headers: the client's, as they came.
        ours: ready lines: the handle's, `X-Forwarded-*`, framing, `Expect` where the relay passes it on.
        replaced: names in lower case that stand in `ours` besides; the client's of these names are dropped as well.
    """
    named = _named_by_connection(headers) | replaced
    lines: list[bytes] = []
    for name, value in headers:
        if _is_dropped_from_request(name) or (named and name.lower() in named):
            continue
        lines += (name, b": ", value, b"\r\n")
    lines.append(ours)
    return b"".join(lines)


def response_lines(headers: RawHeaders, *, without_length: bool = False) -> bytes:
    """Return the header lines of a response to the client, each with its CRLF.

    Args:
        headers: the notebook server's, as they came.
        without_length: leave `Content-Length` out, where the response can have no body or is chunked by us.
    """
    named = _named_by_connection(headers)
    lines: list[bytes] = []
    for name, value in headers:
        if _is_dropped_from_response(name) or (named and name.lower() in named):
            continue
        if without_length and name.lower() == b"content-length":
            continue
        lines += (name, b": ", value, b"\r\n")
    return b"".join(lines)


def forwarded_lines(peer: str, scheme: str, host: str, *, believed: RawHeaders = ()) -> bytes:
    """Return the `X-Forwarded-For`, `-Proto` and `-Host` lines that the notebook server is told.

    Args:
        peer: the address that the request came from.
        scheme: what the client spoke to us, `http` or `https`.
        host: the `Host` header.
        believed: the request's headers if `peer` is a trusted proxy, whose own statements then stand.
    """
    hops = [*values_of(believed, b"x-forwarded-for"), peer.encode()]
    schemes = values_of(believed, b"x-forwarded-proto") or [scheme.encode()]
    hosts = values_of(believed, b"x-forwarded-host") or [host.encode(errors="surrogateescape")]  # its bytes as sent
    told = (b", ".join(hops), schemes[-1], hosts[-1])
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n" % told
