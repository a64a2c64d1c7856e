"""How a client is introduced to a notebook server: from where it comes, and as whom.

Nothing of it is the client's word. Only trusted proxies are asked where a client comes from, and only the door who they
are.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from proxy.auth.peers import https, trust
from proxy.relay.downstream import peer_of
from proxy.relay.headers import forwarded_lines
from proxy.relay.identity import canonical, is_told_by_proxies, user_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from ipaddress import IPv4Network, IPv6Network

    from aiohttp import web

    from proxy.auth.user import User

_CACHE_SIZE: Final = 1024


class Introduction:
    """Writes the lines.

    Args:
        trusted: networks whose `X-Forwarded-*` headers are believed.
        scheme: what the listener speaks, `http` or `https`.
        identity_header: in which a trusted proxy says who asks, if it has a name of its own.

    Attributes:
        is_https: tells whether a request's browser speaks https.
        dropped: names of headers in canonical form that do not pass, beside those that never do.
    """

    def __init__(
        self, trusted: Sequence[IPv4Network | IPv6Network] = (), *, scheme: str = "http", identity_header: str = ""
    ) -> None:
        self._is_trusted = trust(trusted)
        self._scheme = scheme
        self._lines = lru_cache(maxsize=_CACHE_SIZE)(_lines)
        self._user_line = lru_cache(maxsize=_CACHE_SIZE)(user_line)
        name = canonical(identity_header.encode())
        self.is_https = https(self._is_trusted, is_tls=scheme == "https")
        self.dropped = frozenset({name} if name and not is_told_by_proxies(name) else ())

    def lines(self, request: web.BaseRequest, host: str, user: User) -> bytes:
        """Return `X-Forwarded-For`, `-Proto` and `-Host`, and `-User` if the user has a name."""
        peer = peer_of(request)
        if self._is_trusted(peer):
            lines = forwarded_lines(peer, self._scheme, host, believed=request.raw_headers)
            return lines + self._user_line(user.name)
        return self._lines(peer, self._scheme, host, user.name)


def _lines(peer: str, scheme: str, host: str, name: str) -> bytes:
    return forwarded_lines(peer, scheme, host) + user_line(name)
