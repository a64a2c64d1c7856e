"""Which cookies are the proxy's own: they come from nobody else, and go to nobody else. Pure."""

from __future__ import annotations

from typing import Final

COOKIE: Final = "notebook-proxy"
"""What every cookie of ours has in its name, behind a prefix such as `__Host-` and before whatever tells it apart."""
MARK: Final = COOKIE.encode()


def is_ours(name: bytes) -> bool:
    """Tell whether a cookie of this name is, or could be taken for, one of ours.

    Prefixes are compared without regard to case (RFC 6265bis section 5.7), and so is all of it: readers differ.
    """
    return MARK in name.lower()
