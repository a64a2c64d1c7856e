"""Our cookies: their names, how they are set, and how they are read from raw headers. Pure.

A workspace's cookie goes to its own path alone; the site's goes everywhere, and is honoured only outside of every
workspace. Where the browser speaks https, only names with a prefix are read: no plain page can set those, and no
sibling host those with `__Host-` (RFC 6265bis section 4.1.3).
"""

from __future__ import annotations

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
_LONGEST_LIFE: Final = 400 * 86_400  # seconds; the most that browsers take


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


def cookie(name: str, value: str, path: str, seconds: float, *, is_secure: bool = False) -> str:
    """Return the `Set-Cookie` value that keeps a credential in the browser for so long, away from every script.

    Args:
        name: of the cookie; one with a prefix never goes over plain http.
        value: the credential.
        path: where it goes.
        seconds: how long it lasts.
        is_secure: it never goes over plain http, whatever its name.
    """
    life = max(0, min(int(seconds), _LONGEST_LIFE))
    secure = "; Secure" if is_secure or name.startswith("__") else ""
    return f"{name}={value}; Path={path}; Max-Age={life}; HttpOnly; SameSite=Lax{secure}"
