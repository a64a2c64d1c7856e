"""Where a notebook server may send a browser: to where it is reached through the proxy, and nowhere else.

Pure: bytes in, bytes out. Judges a `Location` as browsers read it (WHATWG URL Standard section 4.4), who take a
backslash for a slash, pass over tabs, and find another host behind two slashes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_TRICKS: Final = re.compile(rb"[\x00-\x1f\x7f\\]")
_SCHEME: Final = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*:")
_ABSOLUTE: Final = re.compile(rb"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}


@dataclass(frozen=True, slots=True)
class Place:
    """Between whom a response passes, as far as its headers may speak of it.

    Args:
        base: the workspace's base URL's path, `/ws/<id>/`.
        hosts: what the client calls us: host and port, as in `Host`.
        upstream: what the notebook server may call itself, likewise.
    """

    base: bytes
    hosts: tuple[bytes, ...] = ()
    upstream: tuple[bytes, ...] = ()


def judged(value: bytes, place: Place) -> bytes | None:
    """Return a `Location` as it is passed on, or None where it leads, or may be taken to lead, elsewhere.

    What is relative or names our own host passes as it is; what names the notebook server's own address becomes a path.

    Args:
        value: as it came.
        place: what is ours, and what is the notebook server's.
    """
    value = value.strip(b" ")
    if _TRICKS.search(value):
        return None
    if not _SCHEME.match(value):
        return None if value.startswith(b"//") else value
    found = _ABSOLUTE.fullmatch(value)
    if found is None:
        return None
    scheme, authority, rest = found[1].lower(), found[2].lower(), found[3]
    if _is_one_of(place.hosts, authority, scheme):
        return value
    if scheme != b"http" or not _is_one_of(place.upstream, authority, scheme):
        return None
    path = rest if rest.startswith(b"/") else b"/" + rest
    return None if path.startswith(b"//") else path


def _is_one_of(names: tuple[bytes, ...], authority: bytes, scheme: bytes) -> bool:
    """Tell whether host and port are those of one of the names; a port that is left out is the scheme's."""
    port = _DEFAULT_PORTS[scheme]
    wanted = authority.removesuffix(port)
    return bool(wanted) and any(wanted == name.lower().removesuffix(port) for name in names)
