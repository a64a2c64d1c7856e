"""How a request is framed, and whether it asks for a websocket: what of it the relay can carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import HttpVersion11, hdrs

from proxy.errors import BadRequest

if TYPE_CHECKING:
    from aiohttp import web


def check_framing(request: web.BaseRequest) -> None:
    """Refuse a transfer coding that would not arrive as it was sent: the relay writes chunks of its own.

    Raises:
        BadRequest: the request's is another than `chunked`.
    """
    if request.version < HttpVersion11:
        raise BadRequest("bad-framing", "Transfer-Encoding has no meaning in HTTP/1.0.")
    if request.headers[hdrs.TRANSFER_ENCODING].strip().lower() != "chunked":
        raise BadRequest("bad-framing", "Of transfer codings only `chunked` is understood here.")


def is_websocket(request: web.BaseRequest) -> bool:
    """Tell whether this is a websocket handshake; any other `Upgrade` is ignored (RFC 9110 section 7.8)."""
    upgrade = request.headers.get("Upgrade")
    if upgrade is None or request.method != "GET" or request.version < HttpVersion11:
        return False
    options = ",".join(request.headers.getall("Connection", ())).lower().split(",")
    return upgrade.strip().lower() == "websocket" and "upgrade" in (option.strip() for option in options)
