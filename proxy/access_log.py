"""One line for each request, or for some: what was asked, by whom, what the answer was, and how long it took.

Stands around the gateway, and is not there where nothing is to be logged. A request that has no id gets one, which the
notebook server is told as well. Of a target only the path is logged: a query may hold a token.
"""

from __future__ import annotations

import itertools
import logging
import re
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.relay.downstream import Relayed, add_header, peer_of, relayed_status
from proxy.request_ids import HEADER, given_id, request_id

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.relay.server import Handler

logger = logging.getLogger(__name__)

GONE: Final = 499
"""The status of what its client did not wait for, as nginx writes it."""
_SERVER_ERROR: Final = 500
_MOST: Final = 512  # characters of a path
_AUTHORITY: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")  # which may hold a password


class AccessLog:
    """A handler around another one.

    Args:
        handle: answers.
        every: one request in so many is logged; and each whose answer is an error of the server's side.
    """

    def __init__(self, handle: Handler, every: int) -> None:
        self._handle = handle
        self._every = every
        self._count = itertools.count()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request, and log it once the answer has ended."""
        began, status = monotonic(), 0
        relayed_status(request)  # of a request before
        name = request_id(request)
        if name != given_id(request.headers) or HEADER not in request.headers:
            add_header(request, HEADER, name)
        try:
            response = await self._handle(request)
            if not isinstance(response, Relayed):
                status = response.status
        finally:
            status = status or relayed_status(request) or GONE
            if next(self._count) % self._every == 0 or status >= _SERVER_ERROR:
                logger.info(
                    "request: method=%s path=%s status=%d seconds=%.4f peer=%s request=%s",
                    request.method, path_of(request.raw_path), status, monotonic() - began, peer_of(request), name,
                )  # fmt: skip
        return response


def path_of(target: str) -> str:
    """Return the path of a request's target, and nothing of its query or authority."""
    path = re.split(r"[?#]", _AUTHORITY.sub("", target, count=1), maxsplit=1)[0]
    if not path.startswith(("/", "*")):
        return ""  # a CONNECT's authority, or the like
    return path if len(path) <= _MOST else path[:_MOST] + "…"
