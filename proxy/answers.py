"""Turn what the proxy itself has to say into HTTP responses, and read what small things it is told.

The words are `pages`' and the status codes `errors`'; relayed answers never come through here.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from aiohttp import hdrs, web

from proxy import pages, request_ids
from proxy.activity import is_speculative
from proxy.errors import BadRequest, MethodRefused, ProxyError, RequestTimeout, TooLarge, Unauthenticated, UnknownType
from proxy.relay.downstream import BodyStalled, expect_body

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_BODY_BYTES: Final = 64 * 1024
_JSON_TYPES: Final = frozenset({"application/json", "application/merge-patch+json"})
_FORM_TYPE: Final = "application/x-www-form-urlencoded"


def is_for_person(request: web.BaseRequest) -> bool:
    """Tell whether a person is about to read the answer: their browser navigates, and not merely in advance."""
    return pages.wants_page(request.headers) and not is_speculative(request.headers)


def of_error(request: web.BaseRequest, error: ProxyError, *, status_url: str = "") -> web.Response:
    """Return what a client is told of an error: a person, by default, a page, and a program a problem."""
    if isinstance(error, Unauthenticated) and error.login and is_for_person(request):
        return to(error.login)
    can_repeat = request.method in ("GET", "HEAD")
    status, body, headers = pages.answer(
        error, as_page=is_for_person(request), status_url=status_url, can_repeat=can_repeat
    )
    headers.update(error.headers)
    headers["Referrer-Policy"] = "no-referrer"  # a bad token may still stand in the address; an error has no form
    return web.Response(status=status, body=body.encode(errors="backslashreplace"), headers=headers)


def of_page(page: tuple[str, Mapping[str, str]], *, status: int = 200) -> web.Response:
    """Return a page."""
    body, headers = page
    return web.Response(status=status, body=body.encode(errors="backslashreplace"), headers=headers)


def of_json(value: Any, *, status: int = 200) -> web.Response:
    """Return JSON for programs."""
    headers = {**pages.HEADERS, "Content-Type": "application/json"}
    return web.Response(status=status, body=json.dumps(value).encode() + b"\n", headers=headers)


def to(location: str, *, status: int = 303) -> web.Response:
    """Send the client on; with 303, by a GET."""
    return web.Response(status=status, headers={**pages.HEADERS, "Location": location})


def finish(request: web.BaseRequest, response: web.StreamResponse, ancestors: str) -> None:
    """Add to an answer of the proxy's own what each has, unless it is on its way: the name of its request in the log.

    Args:
        request: what is answered.
        response: with what.
        ancestors: whose pages may show it in a frame; empty for nobody's.
    """
    if ancestors:
        framed_by(response, ancestors)
    if not response.prepared:
        response.headers[request_ids.HEADER] = request_ids.request_id(request)


def framed_by(response: web.StreamResponse, ancestors: str) -> None:
    """Let these show an answer of the proxy's own in a frame, where by default nobody may.

    Args:
        response: not yet on its way.
        ancestors: sources of Content Security Policy Level 3, section 6.4.2.
    """
    policy = response.headers.get(hdrs.CONTENT_SECURITY_POLICY, "")
    if pages.FRAMED_BY_NOBODY in policy and not response.prepared:
        allowed = policy.replace(pages.FRAMED_BY_NOBODY, f"frame-ancestors {ancestors}")
        response.headers[hdrs.CONTENT_SECURITY_POLICY] = allowed


def allowing(request: web.BaseRequest, *methods: str) -> web.Response | None:
    """Return the answer to OPTIONS, or None where the method is one of these; GET brings HEAD with it.

    Raises:
        MethodRefused: it is none of them.
    """
    allow = ", ".join([*(("GET", "HEAD") if "GET" in methods else ()), *(m for m in methods if m != "GET"), "OPTIONS"])
    if request.method == "OPTIONS":
        return web.Response(status=204, headers={**pages.HEADERS, "Allow": allow})
    if request.method not in allow.split(", "):
        raise MethodRefused(f"{request.method} has no meaning here; {allow} have.", allow=allow)
    return None


async def read_fields(request: web.BaseRequest) -> dict[str, Any]:
    """Return what a small body says: a JSON object, or the fields of a form; no body says nothing.

    Raises:
        BadRequest: it is malformed.
        TooLarge: it is longer than anything that is meant for the proxy.
        UnknownType: it is of another type.
        RequestTimeout: it stopped coming.
    """
    body = await _read(request)
    if not body.strip():
        return {}
    try:
        if request.content_type in _JSON_TYPES:
            found = json.loads(body)
        elif request.content_type == _FORM_TYPE:
            found = dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True))
        else:
            raise UnknownType(f"The body must be JSON or a form, not {request.content_type[:80]!r}.")
    except (ValueError, RecursionError):
        raise BadRequest("bad-body", "The body is malformed.") from None
    if not isinstance(found, dict):
        raise BadRequest("bad-body", "The body must be a JSON object.")
    return found


async def _read(request: web.BaseRequest) -> bytes:
    """Return a small body, whole."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        expect_body(request)
    body = b""
    try:
        while data := await request.content.readany():
            body += data
            if len(body) > _MAX_BODY_BYTES:
                raise TooLarge(f"A body may have at most {_MAX_BODY_BYTES} bytes here.")
    except BodyStalled as error:
        raise RequestTimeout(f"The request's body did not come whole: {error}") from error
    except web.RequestPayloadError as error:
        raise BadRequest("bad-body", f"The request's body is malformed: {error}") from error
    return body
