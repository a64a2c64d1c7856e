"""The door: who asks (401), and may they (403). Asked once for each request, before anything is started or kept.

`known` and `admits` never wait, and cost next to nothing for who was seen before; what they cannot say is `identify`'s
and `authorise`'s to find out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from proxy.auth.access import Access
from proxy.auth.user import EVERYONE

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.auth.user import User
    from proxy.target import Target


class Reader(Protocol):
    """Finds out who sends a request: one way of `auth`."""

    def known(self, request: web.BaseRequest, target: Target) -> User | None:
        """Return who asks, or None if it cannot be said without waiting, or is to be refused."""
        ...

    async def identify(self, request: web.BaseRequest, target: Target) -> User:
        """Return who asks.

        Raises:
            Unauthenticated: there is no credential, or none that holds.
        """
        ...


class Everyone:
    """`auth: none`: nobody is asked."""

    def known(self, request: web.BaseRequest, target: Target) -> User | None:
        """Return everyone."""
        del request, target
        return EVERYONE

    async def identify(self, request: web.BaseRequest, target: Target) -> User:
        """Return everyone."""
        del request, target
        return EVERYONE


class Door:
    """Stands before everything that the gateway serves. One per gateway.

    Args:
        reader: finds out who asks; by default nobody is asked.
        access: judges what they may open.
    """

    def __init__(self, reader: Reader | None = None, access: Access | None = None) -> None:
        reader, access = reader or Everyone(), access or Access()
        self.known = reader.known
        self.identify = reader.identify
        self.admits = access.admits
        self.authorise = access.authorise
