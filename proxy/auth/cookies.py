"""Our cookies: their names, how they are set, and how they are read from raw headers. Pure.

A workspace's cookie goes to its own path alone; the site's goes everywhere, and is honoured only outside of every
workspace. Where the browser speaks https, only names with a prefix are read: no plain page can set those, and no
sibling host those with `__Host-` (RFC 6265bis section 4.1.3).

A workspace's cookie goes nowhere else, so who signs out elsewhere cannot take it away. Each browser therefore holds how
often it has signed out, and every cookie of ours says after how many times that was it was given: with another number
it is nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.cookie_names import COOKIE
from proxy.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterable

    from proxy.target import Target

NAME: Final = COOKIE
SITE_NAME: Final = f"{COOKIE}-site"
_SECURE: Final = "__Secure-"
_HOST: Final = "__Host-"
_LARGEST: Final = 4096  # octets of name and value that a browser keeps (RFC 6265bis section 5.7)
LONGEST_LIFE: Final = 400 * 86_400.0
"""Seconds; the most that browsers take."""
_TIMES: Final = re.compile(r"[1-9][0-9]{0,8}")
_APART: Final = "~"  # which no token has in it


def path_of(target: Target) -> str:
    """Return the path to which the cookie belongs that is honoured there: a workspace's, or `/` for the site's."""
    return "/" if target.workspace_id is None or target.is_bare else target.base


def name_of(path: str, *, is_https: bool) -> str:
    """Return the name of the cookie that belongs to a path: `/` for the site's, `/ws/<id>/` for a workspace's."""
    if path == "/":
        return f"{_HOST}{SITE_NAME}" if is_https else SITE_NAME
    return f"{_SECURE}{NAME}" if is_https else NAME


def host_name(what: str, *, is_https: bool) -> str:
    """Return the name of a cookie of a workspace's own host, which belongs to the whole of that host."""
    return f"{_HOST if is_https else ''}{NAME}-{what}"


def times_name(*, is_https: bool, is_wide: bool = False) -> str:
    """Return the name of the cookie that says how often a browser has signed out.

    Args:
        is_https: the browser speaks https.
        is_wide: it goes to every host of the base domain, which no prefix but this allows.
    """
    return f"{_SECURE}{NAME}-out" if is_https and is_wide else host_name("out", is_https=is_https)


def times_out(cookies: Iterable[str], name: str) -> int:
    """Return how often a browser has signed out. A sibling host may have set a second such cookie: the most holds.

    Args:
        cookies: every `Cookie` header, as it came.
        name: of `times_name`.
    """
    most = 0
    for header in cookies:
        if name not in header:  # as in nearly each request
            continue
        for pair in header.split(";"):
            found, _, value = pair.strip(" \t").partition("=")
            if found == name and _TIMES.fullmatch(value):
                most = max(most, int(value))
    return most


def given(credential: str, times: int) -> str:
    """Return a cookie's value: a credential that is given to a browser that has signed out so often."""
    return f"{credential}{_APART}{times}" if times else credential


def held(value: str, times: int) -> str | None:
    """Return the credential in a cookie's value; None where the browser has signed out since it was given."""
    credential, _, said = value.partition(_APART)
    return credential if said == (str(times) if times else "") else None


def value_of(cookies: Iterable[str], name: str) -> str | None:
    """Return the value of a cookie, or None where it was not sent.

    Args:
        cookies: every `Cookie` header, as it came.
        name: exactly; the case counts.

    Raises:
        Unauthenticated: it was sent twice. Which one was set by us cannot be told.
    """
    found: str | None = None
    for header in cookies:
        at = header.find(name)  # most cookies are somebody else's, and long: one pass over them all, in every request
        while at >= 0:
            after = at + len(name)
            end = header.find(";", after)
            rest = (header[after:] if end < 0 else header[after:end]).lstrip(" \t")
            if rest.startswith("=") and not header[header.rfind(";", 0, at) + 1 : at].strip(" \t"):
                if found is not None:
                    raise Unauthenticated("Two cookies of the proxy's came at once: remove this site's cookies.")
                found = rest[1:].strip(" \t")
            at = header.find(name, after)
    return found


def fits(name: str, value: str) -> bool:
    """Tell whether a browser would keep it."""
    return len(name) + len(value) + 1 <= _LARGEST


def cookie(name: str, value: str, path: str, seconds: float, *, is_secure: bool = False, domain: str = "") -> str:
    """Return the `Set-Cookie` value that keeps a credential in the browser for so long, away from every script.

    Args:
        name: of the cookie; one with a prefix never goes over plain http.
        value: the credential.
        path: where it goes.
        seconds: how long it lasts.
        is_secure: it never goes over plain http, whatever its name.
        domain: to whose hosts it goes, too; by default to this one alone.
    """
    life = int(max(0, min(seconds, LONGEST_LIFE)))
    secure = "; Secure" if is_secure or name.startswith("__") else ""
    wide = f"; Domain={domain}" if domain else ""
    return f"{name}={value}; Path={path}; Max-Age={life}; HttpOnly; SameSite=Lax{secure}{wide}"
