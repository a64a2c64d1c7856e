"""`routing: host`: how a browser comes from the main host, where it has a credential, to a workspace's host.

1. `<id>.<base>/ws/<id>/lab`, without a session: the browser is given a random value to hold, in a cookie that goes to
   this host alone, and is sent to the main host with the fingerprint of that value.
2. `<base>/auth?to=/ws/<id>/lab&browser=...`, where it shows its credential: back, with a ticket for half a minute.
3. `<id>.<base>/auth?ticket=...&to=...`: the ticket counts for the browser that holds the value, which is then taken
   away. It gets a session for this one workspace, and goes on to the path that it wanted.

A ticket that is caught on its way, or given to somebody else, is so worth nothing, though no replica remembers any.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote

from aiohttp import hdrs, web

from proxy import pages
from proxy.auth import cookies
from proxy.auth.entry import PATH, Entry, is_navigation, token_to_take
from proxy.auth.host_reader import SESSION, session_of, shows_token
from proxy.auth.hosts import MAIN
from proxy.auth.peers import says_https
from proxy.auth.session import fingerprint_of
from proxy.errors import BadRequest, MethodRefused
from proxy.target import parse_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.auth.hosts import Hosts
    from proxy.auth.session import Sessions
    from proxy.auth.user import User
    from proxy.clock import Clock
    from proxy.target import Target

STATE: Final = "state"
"""The cookie that says that a ticket is this browser's."""
_STATE_SECONDS: Final = 600  # in which somebody signs in at the main host
_STATE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_SEE_OTHER: Final = 303


class HostEntry(Entry):
    """Hands browsers over to workspaces' hosts.

    Args:
        hosts: what stands where.
        sessions: what is signed for it.
        is_https: tells whether the browser speaks https.
        clock: tells how long a cookie may live.
        takes_tokens: whether people come with tokens; else a proxy in front says who they are.
    """

    def __init__(
        self,
        hosts: Hosts,
        sessions: Sessions,
        is_https: Callable[[web.BaseRequest], bool],
        clock: Clock,
        *,
        takes_tokens: bool,
    ) -> None:
        super().__init__(is_https, clock)
        self.takes_tokens = takes_tokens
        self._hosts = hosts
        self._sessions = sessions

    def arrive(self, request: web.BaseRequest, target: Target) -> web.Response | None:
        """Return the answer to a browser that comes to a workspace's host, and has no session yet; else None.

        Raises:
            BadRequest: its ticket does not hold, or it wants to go elsewhere.
            MethodRefused: `/auth` is not asked by GET.
        """
        workspace_id = self._place(request)
        if workspace_id == MAIN:
            return None
        if target.path == PATH:
            return self._take(request, target, workspace_id)
        if request.method != "GET" or not is_navigation(request):
            return None
        if self.takes_tokens and shows_token(request.headers, target):
            return None
        if self._user(request, workspace_id) is not None:
            return None
        return self._send_away(request, target)

    def welcome(self, request: web.BaseRequest, target: Target, user: User) -> web.Response | None:
        """Return the redirect that takes the token out of a browser's address; None where there is nothing to take.

        On the main host a token becomes the site's cookie; on a workspace's host it becomes a session for that alone.

        Raises:
            BadRequest: the token does not fit into a cookie, or the browser only loads ahead.
        """
        token = token_to_take(request, target) if self.takes_tokens else None
        if token is None:
            return None
        workspace_id = self._place(request)
        if workspace_id == MAIN:
            return self._send(request, target, token, user, ["/"])
        session, life = self._sessions.grant(user, workspace_id, self._times(request, is_wide=True)[1])
        return self._admit(request, target, session, life)

    def elsewhere(self, request: web.BaseRequest, target: Target) -> str:
        """Return nothing: who has no credential on the main host has none anywhere."""
        del request, target
        return ""

    def leave(self, request: web.BaseRequest) -> list[str]:
        """Return the `Set-Cookie` values by which a browser is signed out: on every workspace's host, too."""
        site = cookies.name_of("/", is_https=self.is_https(request))
        name, times = self._times(request, is_wide=True)
        out = cookies.cookie(
            name, str(times + 1), "/", cookies.LONGEST_LIFE, is_secure=says_https(request), domain=self._hosts.base
        )
        return [self._cookie(request, site, "", "/", 0), out]

    def hand_over(self, request: web.BaseRequest, target: Target, to: Target, user: User) -> web.Response:
        """Return the redirect from the main host to the workspace's, with a ticket for the browser that asked for it.

        Args:
            request: of somebody who may enter there, at `/auth`.
            target: the request's.
            to: where they want to go.
            user: who they are.
        """
        workspace_id = to.workspace_id or ""
        wire = to.wire.decode("ascii")
        browser = parse_qs(target.query or "").get("browser", [""])
        if len(browser) != 1 or not _STATE.fullmatch(browser[0]):
            return self._redirect(self._url(request, workspace_id, wire))  # nothing was begun there: it begins
        ticket = self._sessions.ticket(user, workspace_id, browser[0], self._times(request, is_wide=True)[1])
        sent = self._redirect(self._url(request, workspace_id, f"{PATH}?ticket={ticket}&to={quote(wire, safe='/')}"))
        # A notebook's page can open this address with a value that it has thought of, and make its own host refuse what
        # comes back. It must not hold the window in which that address, with somebody's ticket, then stands.
        sent.headers["Cross-Origin-Opener-Policy"] = "same-origin"
        return sent

    def _send_away(self, request: web.BaseRequest, target: Target) -> web.Response:
        """Step 1. Two windows that come at once hold the same value, so that neither spoils the other's."""
        name = self._name(request, STATE)
        state = cookies.value_of(request.headers.getall(hdrs.COOKIE, ()), name) or ""
        if not _STATE.fullmatch(state):
            state = secrets.token_urlsafe(32)
        at = f"{target.path}/" if target.is_bare else target.path
        to = quote(at if target.query is None else f"{at}?{target.query}", safe="/")
        response = self._redirect(self._url(request, MAIN, f"{PATH}?to={to}&browser={fingerprint_of(state)}"))
        response.headers.add(hdrs.SET_COOKIE, self._cookie(request, name, state, "/", _STATE_SECONDS))
        return response

    def _take(self, request: web.BaseRequest, target: Target, workspace_id: str) -> web.Response:
        """Step 3."""
        if request.method != "GET":
            raise MethodRefused(f"{request.method} has no meaning here.", allow="GET")
        asked = parse_qs(target.query or "")
        to = self._destination(asked.get("to", []), workspace_id)
        state = cookies.value_of(request.headers.getall(hdrs.COOKIE, ()), self._name(request, STATE)) or ""
        tickets = asked.get("ticket", [])
        found = None
        if len(tickets) == 1 and _STATE.fullmatch(state):
            found = self._sessions.exchange(tickets[0], workspace_id, fingerprint_of(state))
        if found is None:
            if self._user(request, workspace_id) is not None:
                return self._redirect(to.wire.decode("ascii"))  # another window was faster
            if tickets:  # no page stands at an address that has one: this host's own pages could read it there
                return self._redirect(f"{PATH}?to={quote(to.wire, safe='/')}")
            raise BadRequest("bad-ticket", f"This way in was used, or took too long: open {to.path} again.")
        return self._admit(request, to, *found)

    def _admit(self, request: web.BaseRequest, to: Target, session: str, life: float) -> web.Response:
        """Give a browser a session, take what it held for that, and let it go on."""
        response = self._redirect(to.wire.decode("ascii"))
        name = self._name(request, SESSION)
        if not cookies.fits(name, session):
            raise BadRequest("token-too-long", "The session is too long for a cookie: send a token as a bearer token.")
        response.headers.add(hdrs.SET_COOKIE, self._cookie(request, name, session, "/", life))
        response.headers.add(hdrs.SET_COOKIE, self._cookie(request, self._name(request, STATE), "", "/", 0))
        return response

    def _destination(self, asked: list[str], workspace_id: str) -> Target:
        """Return where in this workspace somebody wants to go.

        Raises:
            BadRequest: it is nowhere in it.
        """
        try:
            found = parse_target(asked[0], "") if len(asked) == 1 and asked[0].startswith("/ws/") else None
        except Exception as error:
            raise BadRequest("bad-destination", f"`to` must be one path below /ws/{workspace_id}/.") from error
        if found is None or found.is_bare or found.workspace_id != workspace_id:
            raise BadRequest("bad-destination", f"`to` must be one path below /ws/{workspace_id}/.")
        return found

    def _user(self, request: web.BaseRequest, workspace_id: str) -> User | None:
        return session_of(request, self._sessions, workspace_id, is_https=self.is_https(request))

    def _place(self, request: web.BaseRequest) -> str:
        return self._hosts.place(request.headers.get(hdrs.HOST, ""))

    def _url(self, request: web.BaseRequest, place: str, path: str) -> str:
        return self._hosts.url(request.headers.get(hdrs.HOST, ""), place, path, is_https=self.is_https(request))

    def _name(self, request: web.BaseRequest, what: str) -> str:
        return cookies.host_name(what, is_https=self.is_https(request))

    def _redirect(self, location: str) -> web.Response:
        headers = {**pages.HEADERS, "Location": location, "Referrer-Policy": "no-referrer"}
        return web.Response(status=_SEE_OTHER, headers=headers)
