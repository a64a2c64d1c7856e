"""`routing: host`: who asks at a workspace's own host, and who at the main one.

On the main host that is as without hosts, but its one cookie counts everywhere. A workspace's host takes what is shown
on purpose (a bearer token, a token in the address) and its own session: nothing else that a browser might send along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import hdrs

from proxy.auth import cookies
from proxy.auth.hosts import MAIN
from proxy.auth.presented import query_token
from proxy.errors import Unauthenticated
from proxy.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web
    from multidict import MultiMapping

    from proxy.auth.door import Reader
    from proxy.auth.hosts import Hosts
    from proxy.auth.session import Sessions
    from proxy.auth.user import User

SESSION: Final = "session"
"""The cookie that holds a workspace's session."""


class HostReader:
    """Finds out who asks, at whichever host.

    Args:
        main: finds it out on the main host.
        hosts: what stands where.
        sessions: reads sessions.
        is_https: tells whether the browser speaks https.
        takes_tokens: whether `main` reads tokens, which a workspace's host then takes, too. What a proxy in front says
            of who asks is believed on the main host alone.
    """

    def __init__(
        self,
        main: Reader,
        hosts: Hosts,
        sessions: Sessions,
        is_https: Callable[[web.BaseRequest], bool],
        *,
        takes_tokens: bool,
    ) -> None:
        self._main = main
        self._hosts = hosts
        self._sessions = sessions
        self._is_https = is_https
        self._takes_tokens = takes_tokens

    def known(self, request: web.BaseRequest, target: Target) -> User | None:
        """Return who asks, or None if it cannot be said without waiting, or is to be refused."""
        place = self._hosts.place(request.headers.get(hdrs.HOST, ""))
        if place == MAIN:
            return self._main.known(request, _outside(target))
        if self._takes_tokens and shows_token(request.headers, target):
            return self._main.known(request, target)
        return session_of(request, self._sessions, place, is_https=self._is_https(request))

    async def identify(self, request: web.BaseRequest, target: Target) -> User:
        """Return who asks.

        Raises:
            Unauthenticated: there is no credential, or none that holds.
        """
        place = self._hosts.place(request.headers.get(hdrs.HOST, ""))
        if place == MAIN:
            return await self._main.identify(request, _outside(target))
        if self._takes_tokens and shows_token(request.headers, target):
            return await self._main.identify(request, target)
        user = session_of(request, self._sessions, place, is_https=self._is_https(request))
        if user is None:
            raise Unauthenticated
        return user


def shows_token(headers: MultiMapping[str], target: Target) -> bool:
    """Tell whether a request shows a token on purpose, good or bad: not in a cookie."""
    if any(value[:7].lower() == "bearer " for value in headers.getall(hdrs.AUTHORIZATION, ())):
        return True
    try:
        return query_token(target) is not None
    except Unauthenticated:
        return True


def session_of(request: web.BaseRequest, sessions: Sessions, workspace_id: str, *, is_https: bool) -> User | None:
    """Return whose session a request carries; None where it carries none that holds for this workspace, or two."""
    sent = request.headers.getall(hdrs.COOKIE, ())
    try:
        session = cookies.value_of(sent, cookies.host_name(SESSION, is_https=is_https))
    except Unauthenticated:
        return None
    if session is None:
        return None
    times = cookies.times_out(sent, cookies.times_name(is_https=is_https, is_wide=True))
    return sessions.user_of(session, workspace_id, times)


def _outside(target: Target) -> Target:
    """Return a target for which the site's cookie counts, which is the main host's only one."""
    return Target("/", None, None, tokens=target.tokens)
