"""What one request is called in the log: as its client or ingress calls it, or by chance.

`X-Request-Id` comes first, then the trace of `traceparent` (W3C Trace Context). Both are a client's words: only what
has the right form and length is taken, anything else is as good as none.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from multidict import CIMultiDictProxy

HEADER: Final = "X-Request-Id"
_KEY: Final = web.RequestKey("request-id", str)
_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._~+/=:@-]{0,127}", re.ASCII)
_TRACE: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")


def request_id(request: web.BaseRequest) -> str:
    """Return what a request is called, always the same."""
    found = request.get(_KEY)
    if found is None:
        found = request[_KEY] = given_id(request.headers) or secrets.token_hex(16)
    return found


def given_id(headers: CIMultiDictProxy[str]) -> str:
    """Return what a client calls its request; empty if it does not, or not in a form that can be taken."""
    ids = headers.getall(HEADER, ())
    if len(ids) == 1 and _ID.fullmatch(ids[0]):
        return ids[0]
    traces = headers.getall("traceparent", ())
    found = _TRACE.fullmatch(traces[0]) if len(traces) == 1 else None
    return found[1] if found else ""
