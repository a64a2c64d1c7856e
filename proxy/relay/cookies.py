"""Which cookies cross the proxy: what lets somebody in never does, and a notebook's stay with its workspace.

Pure: bytes in, bytes out. Reads cookies as browsers do (RFC 6265bis section 5.6): at `;`, and at the first `=`.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from proxy.cookie_names import is_ours, is_withheld

_BLANK: Final = bytes(range(33)) + b"\x7f\x85\xa0"  # what some reader or other takes for whitespace
_CONTROLS: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_USUAL_NAME: Final = 64
_known = lru_cache(maxsize=1024)(is_withheld)
_LONGEST_ATTRIBUTE: Final = 1024  # browsers ignore a longer one, and go by the one before it


def without_credentials(value: bytes, more: tuple[bytes, ...] = ()) -> bytes:
    """Return a `Cookie` header's value without what lets somebody in, else as it was; empty if nothing is left.

    Args:
        value: of one header; a client may send several.
        more: how further names of such cookies begin, in lower case.
    """
    pairs = value.split(b";")
    kept = [pair for pair in pairs if not _lets_in(pair, more)]
    if len(kept) == len(pairs):
        return value
    return b";".join(kept).lstrip(b" \t")


def held_to(base: bytes, value: bytes) -> bytes | None:
    """Return a notebook server's `Set-Cookie` value, held to its workspace, or None where it is refused.

    It loses `Domain`, so that it is this host's alone, and `Path` is at or below the base URL. Refused is what bears a
    name of ours, and what browsers do not agree on how to read.

    Args:
        base: the base URL's path, `/ws/<id>/`.
        value: as it came.
    """
    pair, *attributes = value.split(b";")
    if _CONTROLS.search(value) or is_ours(_name_of(pair)):
        return None
    path = b""
    is_fit = True
    kept = [pair]
    for attribute in attributes:
        name, _, text = attribute.partition(b"=")
        match name.strip(_BLANK).lower():
            case b"domain":
                is_fit = False
            case b"path":
                is_fit = is_fit and not path  # the last one would hold
                path = text.strip(b" \t")
            case _:
                kept.append(attribute)
    if path.startswith(base) and len(path) <= _LONGEST_ATTRIBUTE:
        return value if is_fit else b";".join(kept) + b"; Path=" + path
    return b";".join(kept) + b"; Path=" + base


def _lets_in(pair: bytes, more: tuple[bytes, ...]) -> bool:
    """Tell whether a cookie lets somebody in. Of the same few names nearly each request has all."""
    head = pair.partition(b"=")[0]
    if len(head) > _USUAL_NAME or not head.strip(_BLANK):
        return is_withheld(_name_of(pair), more)
    return _known(head.strip(_BLANK), more)


def _name_of(pair: bytes) -> bytes:
    """Return a cookie's name. What has none is sent as its value alone, which then reads as a name and a value."""
    return pair.lstrip(_BLANK + b"=").partition(b"=")[0].strip(_BLANK)
