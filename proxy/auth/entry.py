"""How browsers come in: a token in the address becomes a cookie, and who has none is sent where there are some.

The token leaves the address at once, so it is in no history and no Referer, and is never part of a Location.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote

from aiohttp import hdrs, web

from proxy import pages
from proxy.activity import is_speculative
from proxy.auth import cookies
from proxy.auth.peers import says_https
from proxy.auth.presented import cookie_token, query_token, token_of
from proxy.errors import BadRequest, InvalidKey, MethodRefused, Unauthenticated
from proxy.target import parse_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.auth.user import User
    from proxy.clock import Clock
    from proxy.target import Target

PATH: Final = "/auth"
_SEE_OTHER: Final = 303


class Entry:
    """Gives browsers cookies.

    Args:
        is_https: tells whether the browser speaks https.
        clock: tells how long a cookie may live.
    """

    takes_tokens = True
    """Whether browsers come with tokens; else a proxy in front says who they are."""

    def __init__(self, is_https: Callable[[web.BaseRequest], bool], clock: Clock) -> None:
        self.is_https = is_https
        self._clock = clock

    def arrive(self, request: web.BaseRequest, target: Target) -> web.Response | None:
        """Return the answer to a browser of which it need not be known yet who asks; here there is none."""
        del request, target
        return None

    def welcome(self, request: web.BaseRequest, target: Target, user: User) -> web.Response | None:
        """Return the redirect that takes the token out of a browser's address; None where there is nothing to take.

        Args:
            request: of somebody who may enter there.
            target: the request's.
            user: whom the token names.

        Raises:
            BadRequest: the token does not fit into a cookie, or the browser only loads ahead.
        """
        token = token_to_take(request, target)
        if token is None:
            return None
        paths = ["/"] if target.workspace_id is None else ["/", target.base]
        return self._send(request, target, token, user, paths)

    def elsewhere(self, request: web.BaseRequest, target: Target) -> str:
        """Return where a browser without a workspace's cookie may get one, since it has the site's; else nothing."""
        if cookies.path_of(target) == "/" or hdrs.AUTHORIZATION in request.headers or target.tokens:
            return ""
        try:
            sent = request.headers.getall(hdrs.COOKIE, [])
            has_one = cookie_token(sent, "/", is_https=self.is_https(request)) is not None
        except Unauthenticated:
            return ""
        return f"{PATH}?to={quote(target.wire, safe='/')}" if has_one else ""

    def destination(self, request: web.BaseRequest, target: Target) -> Target:
        """Return where somebody at `/auth` wants to go: into a workspace.

        Raises:
            MethodRefused: nothing is sent there.
            BadRequest: it is nowhere in a workspace.
        """
        if request.method not in ("GET", "HEAD"):
            raise MethodRefused(f"{request.method} has no meaning here.", allow="GET, HEAD")
        asked = parse_qs(target.query or "").get("to", [""])
        try:
            found = parse_target(asked[0], "") if len(asked) == 1 and asked[0].startswith("/ws/") else None
        except (BadRequest, InvalidKey):
            found = None
        if found is None or found.is_bare:
            raise BadRequest("bad-destination", "`to` must be one path below /ws/<id>/.")
        return found

    def hand_over(self, request: web.BaseRequest, target: Target, to: Target, user: User) -> web.Response:
        """Return the redirect that gives the browser a workspace's cookie for the site's.

        Args:
            request: of somebody who may enter there, at `/auth`.
            target: the request's.
            to: where they want to go.
            user: whom their token names.

        Raises:
            BadRequest: the token does not fit into a cookie.
        """
        token = token_of(request.headers, target, is_https=self.is_https(request)) or ""
        return self._send(request, to, token, user, [to.base])

    def leave(self, request: web.BaseRequest) -> list[str]:
        """Return the `Set-Cookie` values by which a browser is signed out: of every workspace, too."""
        site = cookies.name_of("/", is_https=self.is_https(request))
        name, times = self._times(request)
        return [
            self._cookie(request, site, "", "/", 0),
            self._cookie(request, name, str(times + 1), "/", cookies.LONGEST_LIFE),
        ]

    def _times(self, request: web.BaseRequest, *, is_wide: bool = False) -> tuple[str, int]:
        """Return the name of the cookie that says how often a browser has signed out, and what it says."""
        name = cookies.times_name(is_https=self.is_https(request), is_wide=is_wide)
        return name, cookies.times_out(request.headers.getall(hdrs.COOKIE, ()), name)

    def _cookie(self, request: web.BaseRequest, name: str, value: str, path: str, seconds: float) -> str:
        """Return a `Set-Cookie` value; `Secure` also behind an ingress that nobody has said to trust."""
        return cookies.cookie(name, value, path, seconds, is_secure=says_https(request))

    def _send(self, request: web.BaseRequest, to: Target, token: str, user: User, paths: list[str]) -> web.Response:
        is_https = self.is_https(request)
        headers = {**pages.HEADERS, "Location": to.wire.decode("ascii"), "Referrer-Policy": "no-referrer"}
        response = web.Response(status=_SEE_OTHER, headers=headers)
        life = user.expires - self._clock.now().timestamp()
        value = cookies.given(token, self._times(request)[1])
        for path in paths:
            name = cookies.name_of(path, is_https=is_https)
            if not cookies.fits(name, value):
                raise BadRequest("token-too-long", "The token is too long for a cookie: send it as a bearer token.")
            response.headers.add("Set-Cookie", self._cookie(request, name, value, path, life))
        return response


def token_to_take(request: web.BaseRequest, target: Target) -> str | None:
    """Return the token that stands in a browser's address, and is to leave it; None where there is none.

    Raises:
        BadRequest: the browser only loads ahead. Nobody is given a cookie unasked, and a page that was loaded from this
            address, and is shown later, would read the token in it. So there is none: the browser asks again.
    """
    if request.method != "GET" or not pages.wants_page(request.headers) or target.path.startswith("//"):
        return None
    token = query_token(target)
    if token is not None and is_speculative(request.headers):
        raise BadRequest("token-in-advance", "An address with a token is not loaded in advance: open it.")
    return token


def is_navigation(request: web.BaseRequest) -> bool:
    """Tell whether a person's browser comes here, rather than a page's script, a program, or a browser in advance."""
    return pages.wants_page(request.headers) and not is_speculative(request.headers)
