"""Which token a request presents: `Authorization: Bearer`, else `?token=`, else the cookie. Pure.

What somebody says explicitly beats what their browser sends by itself. Whatever could be read in two ways is refused,
and what is not ours is passed over: JupyterLab sends `Authorization: token ...` and `?token=` of its own.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from multidict import istr

from proxy.auth import cookies
from proxy.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Sequence

    from multidict import MultiMapping

    from proxy.target import Target

_AUTHORIZATION, _COOKIE = istr("Authorization"), istr("Cookie")
_NONE: Final[tuple[str, ...]] = ()
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")  # RFC 7515 section 7.1
_LONGEST: Final = 8192


def token_of(headers: MultiMapping[str], target: Target, *, is_https: bool) -> str | None:
    """Return the token that a request presents, or None where it presents none.

    Args:
        headers: the request's.
        target: the request's.
        is_https: the browser speaks https, so our cookies have their prefix.

    Raises:
        Unauthenticated: there is more than one, or it cannot be a token.
    """
    token = _bearer(headers) if _AUTHORIZATION in headers else None
    if target.tokens:
        asked = query_token(target)
        if asked is not None:
            if token is not None:
                raise Unauthenticated("Two credentials came at once: send `Authorization` or `?token=`, not both.")
            token = asked
    if token is None and _COOKIE in headers:
        token = cookie_token(headers.getall(_COOKIE, _NONE), cookies.path_of(target), is_https=is_https)
    return token


def cookie_token(values: Sequence[str], path: str, *, is_https: bool) -> str | None:
    """Return the token in a browser's cookie, or None where it has none, or has signed out since.

    Args:
        values: every `Cookie` header.
        path: to which the cookie belongs; see `cookies.path_of`.
        is_https: the browser speaks https.

    Raises:
        Unauthenticated: there are two.
    """
    value = cookies.value_of(values, cookies.name_of(path, is_https=is_https))
    if value is None:
        return None
    return cookies.held(value, cookies.times_out(values, cookies.times_name(is_https=is_https)))


def check_form(token: str) -> None:
    """Refuse what cannot be a token before anything is computed from it.

    Raises:
        Unauthenticated: it cannot.
    """
    if len(token) > _LONGEST or not _TOKEN.fullmatch(token):
        raise Unauthenticated("The credential is malformed: it must be a signed token (a JWT).")


def query_token(target: Target) -> str | None:
    """Return the token in the query, or None where there is none that could be ours.

    Raises:
        Unauthenticated: there are several.
    """
    if len(target.tokens) > 1:
        raise Unauthenticated("Two credentials came at once: `token` stands in the query more than once.")
    if not target.tokens or target.tokens[0].count(".") != 2:  # noqa: PLR2004 - the notebook server's own has no parts
        return None
    return target.tokens[0]


def _bearer(headers: MultiMapping[str]) -> str | None:
    """Return the bearer token; other schemes are the notebook server's."""
    values = headers.getall(_AUTHORIZATION)
    if len(values) > 1:
        raise Unauthenticated("Two credentials came at once: `Authorization` was sent more than once.")
    scheme, _, token = values[0].partition(" ")
    return token.strip(" ") if scheme.lower() == "bearer" else None
