"""`auth: forward`: who asks is who a trusted proxy before this one says they are.

The header is believed from the networks of `trusted_proxies` alone, and there only as exactly one value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.auth.claims import check_name
from proxy.auth.user import User
from proxy.errors import Unauthenticated
from proxy.relay.downstream import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from proxy.target import Target


class Forwarded:
    """Finds out who asks by a header of the proxy before this one.

    Args:
        header: its name.
        is_trusted: tells whether a peer's address is such a proxy's.
    """

    def __init__(self, header: str, is_trusted: Callable[[str], bool]) -> None:
        self._header = header
        self._name = header.lower().encode()
        self._is_trusted = is_trusted

    def known(self, request: web.BaseRequest, target: Target) -> User | None:
        """Return who asks, or None where that is refused."""
        del target
        try:
            return self._read(request)
        except Unauthenticated:
            return None

    async def identify(self, request: web.BaseRequest, target: Target) -> User:
        """Return who asks.

        Raises:
            Unauthenticated: the peer is not trusted, or does not say it in one way.
        """
        del target
        return self._read(request)

    def _read(self, request: web.BaseRequest) -> User:
        if not self._is_trusted(peer_of(request)):
            raise Unauthenticated("Only through the authenticating proxy may anybody enter.")
        # Look-alikes count: what this proxy passed over, another reader might have taken for the name.
        found = [(name, value) for name, value in request.raw_headers if name.lower().replace(b"_", b"-") == self._name]
        if not found:
            raise Unauthenticated(f"The authenticating proxy did not say who asks ({self._header} is missing).")
        if len(found) > 1 or found[0][0].lower() != self._name or b"," in found[0][1]:
            raise Unauthenticated(f"{self._header} must come exactly once, with one name.")
        try:
            return User(check_name(found[0][1].decode()), ())
        except ValueError:
            raise Unauthenticated(f"{self._header} must be a user's name in UTF-8.") from None
