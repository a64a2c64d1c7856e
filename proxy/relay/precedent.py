"""What is known of some headers, and how to tell at once whether a request has them."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from aiohttp import HttpVersion11, hdrs

if TYPE_CHECKING:
    from proxy.relay.order import Order

# Every other target is the ordinary way's to judge.
_LINE: Final = re.compile(rb"GET (/[A-Za-z0-9/._~%?&=:@!$'()*+,;-]*) HTTP/1\.1\r\n")
_END_OF_HEAD: Final = b"\r\n\r\n"
_NEVER_PLAIN: Final = (hdrs.UPGRADE, hdrs.EXPECT, hdrs.TRANSFER_ENCODING, hdrs.CONTENT_LENGTH)
_CACHED_LENGTH: Final = 256
_CACHE_SIZE: Final = 2048


class Precedent:
    """What is known of some headers, because a request with them went the ordinary way and was answered well.

    Args:
        order: that request; its headers are these, its target is not to be asked for.
        block: all that followed its request line.
        user: who asked, as whoever remembers and begins knows them.

    Attributes:
        host: the `Host` header.
        handle: where it went.
        forwarded: the `X-Forwarded-*` lines.
        cookies: how the names of cookies begin that did not pass, beside those that never do.
        dropped: the same of headers: their names.
        lines: the headers that the notebook server was sent.
        route: what whoever begins has found out of the last target, to see it again where that comes again.
    """

    __slots__ = ("block", "cookies", "dropped", "forwarded", "handle", "host", "lines", "request", "route", "user")

    def __init__(self, order: Order, block: bytes, user: Any) -> None:
        self.request = order.request
        self.block = block
        self.host = order.request.headers.get(hdrs.HOST, "")
        self.handle = order.handle
        self.forwarded = order.forwarded
        self.cookies = order.cookies
        self.dropped = order.dropped
        self.lines = order.lines()
        self.route: Any = None
        self.user = user

    def target_of(self, data: bytes) -> str | None:
        """Return the target of a plain GET with these headers; None if this is anything else."""
        if not data.endswith(self.block):
            return None
        line = data[: -len(self.block)]
        return _target_of(line) if b"?" in line or len(line) > _CACHED_LENGTH else _cached_target_of(line)


def precedent_of(head: bytes, order: Order, user: Any) -> Precedent | None:
    """Return what is known of the headers of a request that has been answered well; None unless it is plain.

    Args:
        head: the piece in which its client sent it.
        order: the same as it was understood.
        user: who asked.
    """
    if head.find(_END_OF_HEAD) != len(head) - len(_END_OF_HEAD):
        return None
    line, request = _LINE.match(head), order.request
    if line is None or request.version != HttpVersion11 or any(name in request.headers for name in _NEVER_PLAIN):
        return None
    lines = head.count(b"\r\n") - 2
    if (request.method, request.raw_path, len(request.raw_headers)) != ("GET", line[1].decode("ascii"), lines):
        return None  # it was the rest of a request that began before, whose header this line was
    return Precedent(order, head[line.end() :], user)


def _target_of(line: bytes) -> str | None:
    """Return the target of a plain GET's request line, else None."""
    found = _LINE.fullmatch(line)
    return None if found is None else found[1].decode("ascii")


_cached_target_of = lru_cache(maxsize=_CACHE_SIZE)(_target_of)  # of no query, which may hold secrets
