"""The door: who asks (401), and may they (403). Asked once for each request, before anything is started or kept.

`known` and `admits` never wait, and cost next to nothing for who was seen before; what they cannot say is `identify`'s
and `authorise`'s to find out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self
from urllib.parse import quote

from proxy.auth.access import Access
from proxy.auth.entry import PATH, is_navigation
from proxy.auth.limits import Limits
from proxy.auth.oversight import is_oversight
from proxy.auth.user import EVERYONE
from proxy.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from aiohttp import web

    from proxy.auth.entry import Entry
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
    """Stands before everything that the gateway serves. One per gateway; use as `async with` where keys are fetched.

    Args:
        reader: finds out who asks; by default nobody is asked.
        access: judges what they may open.
        limits: knows how much they may ask for at once.
        entry: gives browsers cookies; None where there are none.
        is_https: tells whether the browser speaks https; by default nobody does.
        login_url: where browsers are sent that come without a credential, with `{url}` for where they wanted to go.
        logout_url: where browsers go on to that have signed out.
        keys: what fetches keys as long as the door is used.
    """

    def __init__(
        self,
        reader: Reader | None = None,
        access: Access | None = None,
        *,
        limits: Limits | None = None,
        entry: Entry | None = None,
        is_https: Callable[[web.BaseRequest], bool] = lambda _: False,
        login_url: str = "",
        logout_url: str = "",
        keys: AbstractAsyncContextManager[object] | None = None,
    ) -> None:
        self._reader = reader = reader or Everyone()
        self.access = access = access or Access()
        self.limits = Limits() if limits is None else limits
        self._entry = entry
        self._is_https = is_https
        self._login_url = login_url
        self.logout_url = logout_url
        self._keys = keys
        self.known = reader.known
        self.admits = access.admits
        self.authorise = access.authorise

    async def __aenter__(self) -> Self:
        if self._keys is not None:
            await self._keys.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._keys is not None:
            await self._keys.__aexit__(None, None, None)
        await self.access.close()

    async def identify(self, request: web.BaseRequest, target: Target) -> User:
        """Return who asks.

        Raises:
            Unauthenticated: there is no credential, or none that holds; says where a browser may get one.
            KeysUnavailable: no credential can be judged yet.
        """
        try:
            return await self._reader.identify(request, target)
        except Unauthenticated as error:
            if request.method == "GET" and is_navigation(request):
                error.login = self._elsewhere(request, target)
            raise

    def admitted(self, request: web.BaseRequest, target: Target, about: str | None) -> User | None:
        """Return who asks, if they may enter there at once; None where `enter` must find out, refuse or redirect.

        Args:
            request: the client's.
            target: the request's.
            about: the id of the workspace that it is about; None if no single one.
        """
        if target.tokens or target.path == PATH:
            return None
        user = self.known(request, target)
        if user is None or about is None or self.admits(user, about, request.method):
            return user
        return None

    async def enter(self, request: web.BaseRequest, target: Target, about: str | None) -> User | web.Response:
        """Return who asks, if they may enter there, or how a browser goes on instead. Arguments as for `admitted`.

        Raises:
            Unauthenticated: there is no credential, or none that holds.
            Forbidden: it is not theirs.
            ProxyError: it is refused for another reason.
        """
        if self._entry is not None and (sent := self._entry.arrive(request, target)) is not None:
            return sent
        user = self.known(request, target) or await self.identify(request, target)
        if about is not None and not (self.access.oversees(user) and is_oversight(target, request.method)):
            await self.authorise(user, about, request.method)
        if self._entry is None:
            return user
        sent = self._entry.welcome(request, target, user)
        if sent is None and target.path == PATH:
            to = self._entry.destination(request, target)
            await self.authorise(user, to.workspace_id or "", request.method)
            sent = self._entry.hand_over(request, target, to, user)
        return sent or user

    @property
    def has_exit(self) -> bool:
        """Whether somebody can sign out here: they came by a cookie of ours, or it is known where to."""
        return (self._entry is not None and self._entry.takes_tokens) or bool(self.logout_url)

    def leave(self, request: web.BaseRequest) -> list[str]:
        """Return the `Set-Cookie` values by which a browser is signed out."""
        return [] if self._entry is None else self._entry.leave(request)

    def _elsewhere(self, request: web.BaseRequest, target: Target) -> str:
        """Return where a browser is sent that comes without a credential; nowhere if empty."""
        to = self._entry.elsewhere(request, target) if self._entry is not None else ""
        if to or not self._login_url:
            return to
        scheme = "https" if self._is_https(request) else "http"
        url = f"{scheme}://{request.headers.get('Host', '')}{target.wire.decode('ascii')}"
        return self._login_url.replace("{url}", quote(url, safe=""))
