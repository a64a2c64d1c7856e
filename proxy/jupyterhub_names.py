"""The names that JupyterHub's KubeSpawner gave to users' claims: for those who come from there. Pure.

`safe` is the scheme of KubeSpawner 7 (Zero to JupyterHub 4), `escaped` the one before. The digest of `safe` has 32
bits: where people choose their own names, one may be found that has another's; JupyterHub has the same limit.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_PLAIN: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_UNREADABLE: Final = re.compile(r"[^a-z0-9]+")
_UNSAFE: Final = re.compile(rb"[^a-z0-9]")
_DIGEST_LENGTH: Final = 8
_READABLE_LENGTH: Final = 21  # 32 with the digest and the three hyphens before it


def safe(name: str) -> str:
    """Return the slug of a user's name in the scheme `safe`: the name itself where it is a plain label."""
    if _PLAIN.fullmatch(name) and "--" not in name:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:_DIGEST_LENGTH]
    readable = _UNREADABLE.sub("-", name.lower()).lstrip("-")[:_READABLE_LENGTH].rstrip("-")
    if readable and not readable[0].isalpha():
        readable = f"x-{readable[: _READABLE_LENGTH - 2]}"
    return f"{readable or 'x'}---{digest}"


def escaped(name: str) -> str:
    """Return the slug of a user's name in the scheme `escape`: every other byte as `-` and two hexadecimal digits."""
    return _UNSAFE.sub(lambda found: b"-%02x" % found[0][0], name.encode(errors="surrogatepass")).decode("ascii")
