"""`routing: host`: which host serves what. Each workspace has a host of its own below `base_domain`, and so an origin.

A host is the main one, which has everything but what lies below `/ws/`; or `<id>.<base_domain>`, which has nothing but
`/ws/<id>/`. No name is read in two ways: a label more, a dot at the end or another domain is refused. Pure.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from proxy.errors import BadRequest, CrossOrigin, NotFound, OtherHost
from proxy.workspace import MAX_ID, is_label

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.target import Target

MAIN: Final = ""
"""The place that is no workspace's."""
ENTRANCE: Final = "/auth"
"""Where a workspace's host takes who comes from the main one."""
_PORT: Final = re.compile(r"(?::[0-9]{1,5})?")
_CACHE_SIZE: Final = 4096
_FRAMES: Final = frozenset({"iframe", "frame", "embed", "object", "fencedframe"})
_STRANGERS: Final = frozenset({"same-site", "cross-site"})


class Hosts:
    """Reads `Host` headers, and says what stands where.

    Args:
        base_domain: the main host's name, for which `naming.is_base_domain` holds.
    """

    def __init__(self, base_domain: str) -> None:
        self.base = base_domain
        self.place = lru_cache(maxsize=_CACHE_SIZE)(self._place)
        """Return the id of the workspace whose host this is, or `MAIN`. Raises BadRequest: it is no host of ours."""

    def _place(self, host: str) -> str:
        name = host.lower()[: -len(port)] if (port := _port_of(host)) else host.lower()
        if name == self.base:
            return MAIN
        workspace_id, dot, rest = name.partition(".")
        if not dot or rest != self.base or not is_label(workspace_id) or len(workspace_id) > MAX_ID:
            raise BadRequest("bad-host", f"Host is {host[:80]!r}, and not {self.base} or <id>.{self.base}.")
        return workspace_id

    def check_host(self, host: str) -> None:
        """Refuse a `Host` that is none of ours, so that no page can rebind its own DNS name into a kernel.

        Raises:
            BadRequest: it is missing, or no host of ours.
        """
        self.place(host)

    def check_target(self, host: str, target: Target) -> str:
        """Return where a request goes that has lost its way (a path), or nothing where it is right.

        Args:
            host: for which `check_host` holds.
            target: the request's.

        Raises:
            NotFound: a workspace's host has no such path.
        """
        workspace_id = self.place(host)
        if workspace_id in (MAIN, target.workspace_id) or target.path == ENTRANCE:
            return ""
        if target.path == "/":
            return f"/ws/{workspace_id}/"
        raise NotFound(f"This host has /ws/{workspace_id}/ alone; everything else is at {self.base}.")

    def url(self, host: str, place: str, path: str, *, is_https: bool) -> str:
        """Return an address on another host, reached as this request's was: by the same scheme and port.

        Args:
            host: the request's, for which `check_host` holds.
            place: a workspace's id, or `MAIN`.
            path: the path and query there.
            is_https: the browser speaks https.
        """
        name = f"{place}.{self.base}" if place else self.base
        return f"{'https' if is_https else 'http'}://{name}{_port_of(host)}{path}"

    def other_host(self, host: str, target: Target, *, is_https: bool) -> OtherHost:
        """Return the refusal of what asks the main host for a workspace, and does not read pages."""
        url = self.url(host, target.workspace_id or MAIN, target.base, is_https=is_https)
        return OtherHost(f"This workspace is served at {url} alone: send the request there.")


def check_frame(headers: Mapping[str, str]) -> None:
    """Refuse to be framed by a page of another host: a sibling's cookies are sent along, and a click can be led.

    Who sends no Fetch Metadata is no browser, or not one that can be told.

    Raises:
        CrossOrigin: a page of another origin frames this.
    """
    if headers.get("Sec-Fetch-Dest") in _FRAMES and headers.get("Sec-Fetch-Site") in _STRANGERS:
        raise CrossOrigin("A page of another site framed this (Sec-Fetch-Dest). Nothing was done.")


def _port_of(host: str) -> str:
    """Return the port of a `Host` header, with its colon; empty where there is none, or it is malformed."""
    _, colon, port = host.rpartition(":")
    return f":{port}" if colon and port.isascii() and port.isdecimal() and _PORT.fullmatch(f":{port}") else ""
