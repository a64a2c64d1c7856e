"""The request target: one canonical form, on which is routed, authorised and forwarded.

Pure. Nothing is rewritten: the path either goes through whole, byte for byte, or is refused. What two readers could
understand differently (a dot segment, also after one more decoding; a backslash; an encoded id) is refused, so that
the path that is authorised is the path that is routed is the path that is forwarded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from proxy.errors import BadRequest, InvalidKey
from proxy.workspace import ID_RULE

PREFIX: Final = "/ws/"
_NOT_VISIBLE: Final = re.compile(r"[^!-~]")  # RFC 3986 section 2: a URI is visible ASCII
_DOT_SEGMENT: Final = re.compile(rb"(?:^|[/\\])\.{1,2}(?:[/\\;]|$)")
_TOKEN_MAYBE: Final = re.compile(r"token|%", re.IGNORECASE)
_CACHED_LENGTH: Final = 256
_CACHE_SIZE: Final = 2048
_DECODINGS: Final = 2  # the notebook server decodes once; something behind it may decode once more


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes.

    Args:
        path: as the client wrote it, from its first `/`; never contains `?` or `#`.
        query: what stood behind the first `?`, without `token` parameters; None where there was no `?`.
        workspace_id: the id if the path lies below `/ws/`, else None. Not yet checked to be a DNS-1123 label.
        is_bare: the path is `/ws/<id>`, without the slash that makes it the base URL.
        tokens: the values of the query's `token` parameters; who asks by them is the door's to judge. Shown nowhere.

    Attributes:
        base: the base URL's path, `/ws/<id>/`.
        below: the path below the base URL, without its first slash.
        wire: what stands in the request line that is sent upstream.
    """

    path: str
    query: str | None
    workspace_id: str | None
    is_bare: bool = False
    tokens: tuple[str, ...] = field(default=(), repr=False)
    base: str = field(init=False, compare=False, repr=False)
    below: str = field(init=False, compare=False, repr=False)
    wire: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        base = f"{PREFIX}{self.workspace_id}/"
        wire = self.path if self.query is None else f"{self.path}?{self.query}"
        object.__setattr__(self, "base", base)
        object.__setattr__(self, "below", self.path[len(base) :])
        object.__setattr__(self, "wire", wire.encode("ascii"))


def parse_target(raw: str, host: str) -> Target:
    """Read a request target in origin form, or in absolute form if its authority is the request's `Host`.

    Args:
        raw: the target as it was sent.
        host: the `Host` header.

    Raises:
        BadRequest: the target is not plain ASCII, has another form, or is ambiguous.
        InvalidKey: the path lies below `/ws/`, but its id is not literal.
    """
    if not raw.startswith("/"):
        raw = _origin_form(raw, host)
    path, mark, query = raw.partition("?")
    found = _cached(path) if len(path) <= _CACHED_LENGTH else _read_path(path)
    if not mark:
        return found
    _refuse_invisible(query)
    kept, tokens = _without_token(query)
    return Target(path, kept, found.workspace_id, found.is_bare, tokens)


def _read_path(path: str) -> Target:
    """Read a target without its query, which may hold secrets and is never kept."""
    _refuse_invisible(path)
    _refuse_ambiguous(path)
    if not path.startswith(PREFIX):
        return Target(path, None, None)
    workspace_id, slash, _ = path[len(PREFIX) :].partition("/")
    if "%" in workspace_id:
        raise InvalidKey(workspace_id, ID_RULE)
    return Target(path, None, workspace_id, is_bare=not slash)


_cached = lru_cache(maxsize=_CACHE_SIZE)(_read_path)


def _refuse_invisible(text: str) -> None:
    if _NOT_VISIBLE.search(text) or "#" in text:
        raise BadRequest("bad-target", "The address must be plain ASCII without '#': encode other characters as %XX.")


def _origin_form(raw: str, host: str) -> str:
    """Return an absolute-form target without its scheme and authority (RFC 9112 section 3.2.2)."""
    found = re.match(r"https?://([^/?#]*)(.*)", raw, re.IGNORECASE | re.DOTALL)
    if found is None:
        raise BadRequest("bad-target", "The address must be a path that starts with '/'.")
    if found[1].lower() != host.lower():
        raise BadRequest("bad-target", "The address names another host than the Host header.")
    rest = found[2]
    return rest if rest.startswith("/") else "/" + rest


def _refuse_ambiguous(path: str) -> None:
    """Refuse what another reader may take for another path."""
    decoded = path.encode("ascii")
    if b"\\" in decoded:
        raise BadRequest("bad-path", "The path contains a backslash: encode it as %5C.")
    for _ in range(_DECODINGS + 1):
        if _DOT_SEGMENT.search(decoded):
            raise BadRequest("bad-path", "The path contains a '.' or '..' segment: send the path it stands for.")
        if b"\x00" in decoded:
            raise BadRequest("bad-path", "The path contains an encoded NUL.")
        if b"%" not in decoded:
            return
        decoded = unquote_to_bytes(decoded)


def _without_token(query: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the query without its `token` parameters, every other byte as it was (None if nothing is left); and those.

    A notebook server lets `token=` in the query beat the header in which the proxy sends the right one.
    """
    if not _TOKEN_MAYBE.search(query):
        return query, ()
    parts = query.split("&")
    kept = [part for part in parts if not _is_token(part)]
    if len(kept) == len(parts):
        return query, ()
    tokens = tuple(unquote(part.partition("=")[2]) for part in parts if _is_token(part))
    return "&".join(kept) if kept else None, tokens


def _is_token(part: str) -> bool:
    return unquote_to_bytes(part.partition("=")[0]) == b"token"
