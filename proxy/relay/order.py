"""One request, ready to be carried: what the notebook server is sent, and what its answer may speak of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from proxy.relay.headers import request_lines, values_of
from proxy.relay.location import Place
from proxy.target import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from proxy.relay.exchange import Exchange
    from proxy.workspace import Handle


@dataclass(slots=True)
class Order:
    """One request, ready to be carried.

    Args:
        request: the client's; its body has not been read.
        target: what stands in the request line towards the notebook server.
        handle: where it goes.
        forwarded: the `X-Forwarded-*` lines.
        touch: called whenever something passes, in either direction.
        dropped: names of headers in canonical form that do not pass, beside those that never do.
        cookies: the same of cookies: how their names begin, in lower case.

    Attributes:
        body: all of the request's body, if it had come when the request was first sent; so it can be sent again.
        begun: the exchange that carries it already, if one does.
    """

    request: web.BaseRequest
    target: bytes
    handle: Handle
    forwarded: bytes
    touch: Callable[[], None]
    dropped: frozenset[bytes] = frozenset()
    cookies: tuple[bytes, ...] = ()
    body: bytes | None = field(default=None, init=False)
    begun: Exchange | None = field(default=None, init=False)

    def head(self, extra: bytes = b"") -> bytes:
        """Return the request line and headers for the notebook server, with `extra` lines of the relay's own."""
        return self.head_of(self.lines(extra))

    def head_of(self, lines: bytes) -> bytes:
        """Return the same of what `lines` returned, for this request or another with the same headers."""
        method = self.request.method
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (b"GET" if method == "GET" else method.encode(), self.target, lines)

    def lines(self, extra: bytes = b"") -> bytes:
        """Return the headers for the notebook server, each with its CRLF; they do not depend on the request line."""
        handle = self.handle
        ours = handle.header_lines + self.forwarded + extra
        replaced = handle.header_names | self.dropped if self.dropped else handle.header_names
        return request_lines(self.request.raw_headers, ours, replaced=replaced, cookies=self.cookies)

    def place(self) -> Place:
        """Return what the response's headers may speak of."""
        told = self.forwarded.partition(b"X-Forwarded-Host: ")[2].partition(b"\r\n")[0]
        url, (host, port) = self.handle.service_url, self.handle.address
        names = (url.authority.encode(), f"[{host}]:{port}".encode() if ":" in host else f"{host}:{port}".encode())
        base = self.target[: self.target.index(b"/", len(PREFIX)) + 1]
        return Place(base, (*values_of(self.request.raw_headers, b"host"), told), names)
