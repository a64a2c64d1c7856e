"""The client's side: what the relay and the gateway ask of aiohttp's server beyond its documentation.

A response that is already on its way (`Relayed`), the raw bytes after an upgrade (`take_over`), an end that cannot be
taken for the end of a body (`cut_off`). What else reaches into aiohttp is in `client` and `server`. The dependency's
range is pinned for their sake.
"""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from aiohttp import HttpVersion11, hdrs, web

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s


class Relayed(web.StreamResponse):
    """What a handler returns to aiohttp when the response has been written already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._keep_alive = keep_alive

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write nothing."""

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


RELAYED_KEEP: Final = Relayed(keep_alive=True)
RELAYED_CLOSE: Final = Relayed(keep_alive=False)


class RawParser(Protocol):
    """Takes every byte that a client sends after an upgrade, those buffered first."""

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes; `(False, b"")` says that more are wanted."""
        ...

    def feed_eof(self) -> None:
        """Learn that the client is gone."""


def take_over(request: web.BaseRequest, parser: RawParser) -> None:
    """Give the client's bytes to `parser` from now on, as aiohttp's own websocket does."""
    request.protocol.set_parser(cast("Any", parser))


def cut_off(request: web.BaseRequest) -> None:
    """End the client's connection by a reset, which cannot be taken for the end of a body."""
    transport = request.transport
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()


class BodyStalled(web.RequestPayloadError):
    """A request's body stopped coming; raised to whoever reads it."""


def expect_body(request: web.BaseRequest) -> None:
    """Count the time that a body may stand still from now on: its client has just been told to send it."""
    cast("Any", request.protocol).expect_body()


def peer_of(request: web.BaseRequest) -> str:
    """Return the address that a request came from: looked up once for each connection."""
    peer = request.protocol.peername
    return "unknown" if not peer else peer if isinstance(peer, str) else peer[0]


def add_header(request: web.BaseRequest, name: str, value: str) -> None:
    """Let a request be passed on as if its client had sent this header, and no other of that name."""
    message = cast("Any", request)._message  # noqa: SLF001 - there is no other way to pass one on
    wanted = name.lower().encode()
    kept = tuple(header for header in message.raw_headers if header[0].lower() != wanted)
    cast("Any", request)._message = message._replace(raw_headers=(*kept, (name.encode(), value.encode())))  # noqa: SLF001


def relayed_status(request: web.BaseRequest) -> int:
    """Return the status of the answer that was relayed to a request's client, once; 0 if there was none."""
    protocol = cast("Any", request.protocol)
    status, protocol.relayed_status = protocol.relayed_status, 0
    return int(status)


def can_be_followed(request: web.BaseRequest) -> bool:
    """Tell whether the client's connection can carry another request behind this one.

    Not behind an `Upgrade` to what aiohttp does not know: its parser drops whatever comes in one piece with that.
    """
    if not request.keep_alive or request.version < HttpVersion11:
        return False
    upgrade = request.headers.get(hdrs.UPGRADE)
    return upgrade is None or upgrade.lower() == "websocket"


def is_read(request: web.BaseRequest) -> bool:
    """Tell whether a request that was not relayed has been read to its end, so that another may follow it."""
    return not request.body_exists and request.method != "CONNECT" and can_be_followed(request)
