"""Methods, hosts and origins: which are passed on, which are this machine's, and which are the same. Pure."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

from proxy.errors import BadRequest, MethodRefused

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110 section 9.2.1
_REFUSED_METHODS: Final = frozenset({"CONNECT", "TRACE"})
# Names and addresses as browsers send them: punycode, no escapes (RFC 3986 section 3.2.2 would allow more).
_AUTHORITY: Final = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9A-Za-z._-]+)(?::([0-9]*))?")
_ORIGIN: Final = re.compile(r"(https?)://([^/?#@]+)", re.IGNORECASE)
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


def is_same_host(origin: str, host: str, *, is_https: bool = False) -> bool:
    """Tell whether an origin's host and port are those of a `Host` header; a port left out is the scheme's.

    Args:
        origin: an `Origin` header.
        host: the `Host` header.
        is_https: the browser is known to speak https: then an origin of http is another.
    """
    found = _ORIGIN.fullmatch(origin)
    if found is None:
        return False
    scheme = found[1].lower()
    if is_https and scheme != "https":
        return False
    default = _DEFAULT_PORTS[scheme]
    theirs, ours = _AUTHORITY.fullmatch(found[2].lower()), _AUTHORITY.fullmatch(host.lower())
    if theirs is None or ours is None:
        return False
    return (theirs[1], theirs[2] or default) == (ours[1], ours[2] or default)
