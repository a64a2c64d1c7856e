"""Who may enter. In this version everyone who reaches the proxy from this machine and from its own pages.

The token that the proxy adds switches the notebook server's own `_xsrf` and `Origin` checks off, so they are made
here, before anything is started.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from multidict import istr

from proxy.errors import BadRequest, CrossOrigin, MethodRefused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1
_REFUSED_METHODS: Final = frozenset({"CONNECT", "TRACE"})
# Names and addresses as browsers send them: punycode, no escapes (RFC 3986 section 3.2.2 would allow more).
_AUTHORITY: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]*))?")
_ORIGIN: Final = re.compile(r"(https?)://([^/?#@]+)", re.IGNORECASE)
_SITE, _MODE = istr("Sec-Fetch-Site"), istr("Sec-Fetch-Mode")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


def check_method(method: str) -> None:
    """Refuse the methods that a proxy for notebooks never passes on.

    Raises:
        MethodRefused: it is CONNECT or TRACE.
    """
    if method in _REFUSED_METHODS:
        raise MethodRefused(f"{method} is not passed on; every method but CONNECT and TRACE is.")


def check_host(host: str) -> None:
    """Let only names of this machine pass, so that no page can rebind its own DNS name into a kernel.

    Raises:
        BadRequest: `Host` is missing or names anything but loopback.
    """
    if not is_loopback(host):
        raise BadRequest(
            "bad-host",
            f"Host is {host[:80]!r}. Without authentication the proxy answers to names of this machine only: open it "
            "as localhost, 127.0.0.1 or [::1].",
        )


def check_authority(host: str) -> None:
    """Let every well-formed `Host` pass: where the operator has said that everyone may enter.

    Raises:
        BadRequest: `Host` is missing, or no host and port (RFC 9110 section 7.2).
    """
    if not _AUTHORITY.fullmatch(host):
        raise BadRequest("bad-host", f"Host is {host[:80]!r}, which is not a name or address with or without a port.")


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Tell whether a `Host` header names loopback: localhost, *.localhost (RFC 6761), 127.0.0.0/8 or [::1]."""
    found = _AUTHORITY.fullmatch(host)
    if found is None:
        return False
    name = found[1].lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def check_origin(method: str, origins: Sequence[str], host: str, *, is_upgrade: bool) -> None:
    """Refuse an unsafe method or an upgrade that another site's page sends.

    Args:
        method: the request's.
        origins: every `Origin` header; browsers send at most one, other clients none.
        host: the `Host` header.
        is_upgrade: the request asks for a websocket.

    Raises:
        CrossOrigin: the `Origin` is not this host's.
    """
    if not origins or (method in _SAFE_METHODS and not is_upgrade):
        return
    if len(origins) > 1 or not _is_same_host(origins[0], host):
        raise CrossOrigin("A page of another site sent this request (its Origin is not this host). Nothing was done.")


def check_site(headers: Mapping[str, str]) -> None:
    """Refuse what another site's page fetches: it could read a script, or start a server with an image.

    A navigation may come from anywhere. Who sends no Fetch Metadata is no browser, or not one that can be told.

    Raises:
        CrossOrigin: a page of another site asks, and it is no navigation.
    """
    if headers.get(_SITE) == "cross-site" and headers.get(_MODE) != "navigate":
        raise CrossOrigin("A page of another site sent this request (Sec-Fetch-Site). Nothing was done.")


def check_same_origin(headers: Mapping[str, str]) -> None:
    """Let only our own pages, and what is no page, act: where a browser tells the site, it must be exactly this one.

    `check_origin` has judged the `Origin` before. A site of the same name at another port is another origin.

    Raises:
        CrossOrigin: a page from elsewhere asks.
    """
    if headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise CrossOrigin("A page from elsewhere sent this request (Sec-Fetch-Site). Nothing was done.")


def _is_same_host(origin: str, host: str) -> bool:
    """Tell whether an origin's host and port are those of a `Host` header; a port left out is the scheme's."""
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return False
    default = _DEFAULT_PORTS[found[1].lower()]
    theirs, ours = _AUTHORITY.fullmatch(found[2].lower()), _AUTHORITY.fullmatch(host.lower())
    if theirs is None or ours is None:
        return False
    return (theirs[1], theirs[2] or default) == (ours[1], ours[2] or default)
