"""Heads that are read in one go: each as the parser would have read it, byte by byte."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest

from proxy.relay.headers import REWRITTEN, response_lines
from proxy.relay.location import Place
from tests.relay.reading import dribble, read

if TYPE_CHECKING:
    from proxy.relay.response_head import ResponseHead

# Each goes into a head that is plain but for it.
STARTS = (
    b"HTTP/1.1 200 OK", b"HTTP/1.1 204 No Content", b"HTTP/1.1 304 x", b"HTTP/1.1 404 ", b"HTTP/1.1 404",
    b"HTTP/1.0 200 OK", b"HTTP/1.1  200 OK", b"HTTP/1.1 200  OK", b"HTTP/1.1 200 OK ", b"HTTP/1.1 099 x",
    b"HTTP/1.1 100 x", b"HTTP/1.1 101 x", b"HTTP/1.1 600 x", b"http/1.1 200 OK", b"HTTP/1.1 200 O\xffK",
    b"HTTP/1.1 200 O\x0bK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 20 OK",
)  # fmt: skip
NAMES = (
    b"Content-Length", b"content-length", b"Server", b"Set-Cookie", b"Connection", b"cONNECTION", b"Keep-Alive",
    b"Transfer-Encoding", b"transfer-encoding", b"Upgrade", b"TE", b"Te", b"Trailer", b"Proxy-Connection",
    b"Proxy-Authenticate", b"HTTP2-Settings", b"Location",
    b"Clear-Site-Data", b"Content_Length", b"X_a", b"X y", b"", b"Content-Length ", b"\xff",
)  # fmt: skip
SEPARATORS = (b": ", b":", b":  ", b" : ", b":\t", b" ", b"")
VALUES = (
    b"3", b"0", b"4", b"03", b"3 ", b"+3", b"3, 3", b"0x3", b"9" * 30, b"", b"keep-alive", b"Keep-Alive", b"close",
    b"keep-alive, x", b"upgrade", b"chunked", b"x y", b"x\ty", b"x ", b"x\t", b"x\xff", b"x\x00y", b"x\x0by", b"x\ry",
    b"x\ny", b"x\r\n y", b"Server: x",
)  # fmt: skip
PLACE = Place(b"/ws/demo/")
BASES = ((b"Content-Length: 3",), (b"Connection: keep-alive", b"Content-Length: 3"), (b"Server: x",))


def heads(start: bytes, extra: bytes | None) -> list[bytes]:
    """Every head of a start line and one base, with the extra line in front of the others and behind them."""
    found = []
    for base in BASES:
        placed = (base,) if extra is None else ((extra, *base), (*base, extra))
        found += [b"\r\n".join((start, *lines, b"", b"")) for lines in placed]
    return found


def disagreements(raw: bytes, method: str) -> list[bytes]:
    """Return the bytes if they are not read, or not passed on, as the parser does it."""
    whole, parsed = read(raw, method=method), read(*dribble(raw), method=method)
    if whole != parsed:
        return [raw]
    if whole.head is None or whole.head.lines is None:
        return []
    lines = b"HTTP/1.1 %d %b\r\n" % (whole.head.status, whole.head.reason) + response_lines(whole.head.headers, PLACE)
    return [] if whole.head.lines == lines else [raw]


@pytest.mark.parametrize("name", NAMES)
def test_any_header_in_a_plain_head_is_read_as_the_parser_reads_it(name: bytes) -> None:
    lines = [name + separator + value for separator, value in product(SEPARATORS, VALUES)]
    found = [raw for line in lines for raw in heads(STARTS[0], line)]

    assert [wrong for raw in found for wrong in disagreements(raw + b"abc", "GET")] == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("body", [b"", b"ab", b"abc", b"abcd", b"abcHTTP/1.1 200 OK\r\n\r\n"])
def test_any_start_line_and_any_body_are_read_as_the_parser_reads_them(method: str, body: bytes) -> None:
    found = [raw + body for start in STARTS for raw in heads(start, None)]

    assert [wrong for raw in found for wrong in disagreements(raw, method)] == []


def head_with(line: bytes) -> ResponseHead:
    head = read(b"HTTP/1.1 200 OK\r\nServer: TornadoServer/6.5\r\n%b\r\nContent-Length: 3\r\n\r\nabc" % line).head
    assert head is not None
    return head


@pytest.mark.parametrize("line", [b"Connection: keep-alive", b"Content-Type: text/html; charset=UTF-8", b"Etag: x"])
def test_what_notebook_servers_send_is_plain(line: bytes) -> None:
    assert head_with(line).lines is not None


@pytest.mark.parametrize("name", sorted(REWRITTEN))
def test_what_is_not_passed_on_as_it_came_is_looked_at_one_by_one(name: bytes) -> None:
    assert head_with(name + b": x").lines is None
    assert head_with(name.upper() + b": x").lines is None
