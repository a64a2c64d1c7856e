"""Which headers cross the proxy, and in what form.

Pure: bytes in, bytes out. Headers pass as they came, in their order, but for those that belong to one connection
(RFC 9110 section 7.6.1), those that the proxy sets itself and their look-alikes, and what one side may not say to the
other: who somebody is (`identity`), cookies of ours (`cookies`), where a browser goes (`location`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from proxy.errors import BadResponse
from proxy.relay.cookies import held_to, without_credentials
from proxy.relay.identity import canonical, is_told_by_proxies
from proxy.relay.location import judged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.relay.location import Place

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]

# RFC 9110 section 7.6.1 and what is sent in practice. Content-Length stays: the relay checks that it is kept.
CONNECTION_HEADERS: Final = frozenset(
    {
        b"connection", b"http2-settings", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
# What says something of a whole origin, and for long: every workspace may share it with others, and with the proxy.
_ORIGIN_WIDE: Final = frozenset(
    {
        b"alt-svc", b"clear-site-data", b"nel", b"public-key-pins", b"public-key-pins-report-only", b"report-to",
        b"service-worker-allowed", b"set-cookie2", b"strict-transport-security",
    }
)  # fmt: skip
_JUDGED: Final = frozenset({b"location", b"set-cookie"})
REWRITTEN: Final = _ORIGIN_WIDE | _JUDGED
"""What is not passed on from a notebook server as it came."""
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})  # where browsers follow a Location by themselves
_KEPT_WHATEVER_CONNECTION_NAMES: Final = frozenset({b"content-length", b"host"})
_NONE: Final[frozenset[bytes]] = frozenset()
_canonical = lru_cache(maxsize=1024)(canonical)


@lru_cache(maxsize=1024)
def _is_dropped_from_request(name: bytes) -> bool:
    read = canonical(name)  # a look-alike is dropped with what it looks like
    if read == b"content-length":
        return name.lower() != read  # what a server reads as a second length frames the request anew
    return read in CONNECTION_HEADERS or is_told_by_proxies(read) or read == b"expect"


@lru_cache(maxsize=1024)
def _is_dropped_from_response(name: bytes) -> bool:
    lowered = name.lower()
    return lowered in CONNECTION_HEADERS or lowered in _ORIGIN_WIDE


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


def request_lines(
    headers: RawHeaders, ours: bytes, *, replaced: frozenset[bytes] = _NONE, cookies: tuple[bytes, ...] = ()
) -> bytes:
    """Return the header lines of a request to the notebook server, each with its CRLF, ours last.

    The client's `Authorization`, `Expect`, cookies that let somebody in and whatever says who or where it is are
    dropped; so are those that `Connection` names, before ours are added, so that a client cannot name ours away.

    Args:
        headers: the client's, as they came.
        ours: ready lines: the handle's, `X-Forwarded-*`, framing, `Expect` where the relay passes it on.
        replaced: more names, in canonical form, of which the client's are dropped, look-alikes as well.
        cookies: how more names of cookies begin that are dropped, in lower case.
    """
    named = _named_by_connection(headers)
    lines: list[bytes] = []
    for name, value in headers:
        if _is_dropped_from_request(name) or (named and name.lower() in named):
            continue
        if replaced and _canonical(name) in replaced:
            continue
        if len(name) == 6 and name.lower() == b"cookie":  # noqa: PLR2004 - len("cookie")
            rest = without_credentials(value, cookies)
            if value and not rest:
                continue
            lines += (name, b": ", rest, b"\r\n")
            continue
        lines += (name, b": ", value, b"\r\n")
    lines.append(ours)
    return b"".join(lines)


def response_lines(headers: RawHeaders, place: Place, *, status: int = 200, without_length: bool = False) -> bytes:
    """Return the header lines of a response to the client, each with its CRLF.

    Args:
        headers: the notebook server's, as they came.
        place: where it comes from and goes to: what cookies and redirects are held to.
        status: the response's.
        without_length: leave `Content-Length` out, where the response can have no body or is chunked by us.

    Raises:
        BadResponse: it sends the client elsewhere.
    """
    named = _named_by_connection(headers)
    lines: list[bytes] = []
    for name, value in headers:
        if _is_dropped_from_response(name) or (named and name.lower() in named):
            continue
        lowered = name.lower()
        if without_length and lowered == b"content-length":
            continue
        passed: bytes | None = value
        if lowered in _JUDGED:
            passed = (
                held_to(place.base, value) if lowered == b"set-cookie" else _location(headers, value, place, status)
            )
        if passed is not None:
            lines += (name, b": ", passed, b"\r\n")
    return b"".join(lines)


def _location(headers: RawHeaders, value: bytes, place: Place, status: int) -> bytes | None:
    """Return a `Location` that may be passed on; None where one that may not is of no consequence."""
    passed = judged(value, place) if len(values_of(headers, b"location")) == 1 else None
    if passed is None and status in _REDIRECTS:
        raise BadResponse("The notebook server sends you to an address that is not its own. It is not passed on.")
    return passed


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
