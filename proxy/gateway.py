"""One request from its first line to its last byte: which workspace, may it, is it running, relay or answer.

Takes every request of the server, in the order in which a mistake would cost least: method, host, target, origin, who
asks and what is theirs are judged before anything is started. Errors of the whole package become answers here, and
nowhere else.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web

from proxy import answers
from proxy.actions import Actions
from proxy.activity import Activity, Wake
from proxy.admin import Admin, workspace_of
from proxy.auth import origins
from proxy.auth.door import Door
from proxy.auth.sites import Sites
from proxy.auth.user import User
from proxy.carriage import Carriage
from proxy.clock import Clock, SystemClock
from proxy.errors import (
    BadRequest,
    NotRunning,
    ProxyError,
    StartTimeout,
    TooManyConnections,
)
from proxy.events import Streams
from proxy.express import ExpressWay
from proxy.framing import check_framing, is_websocket
from proxy.hold import Hold
from proxy.in_flight import InFlight
from proxy.introduction import Introduction
from proxy.naming import namespace_of
from proxy.relay.downstream import RELAYED_CLOSE, Relayed, is_read
from proxy.relay.express import adopt
from proxy.request_ids import request_id
from proxy.reserved import Reserved, is_reserved
from proxy.sight import Sight
from proxy.target import Target, parse_target
from proxy.workspace import Key

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from datetime import timedelta
    from ipaddress import IPv4Network, IPv6Network
    from typing import Any

    from proxy.hosting import Hosting
    from proxy.relay.upstream import Pool
    from proxy.relay.websocket import WebsocketRelay
    from proxy.supervisor import Supervisor

logger = logging.getLogger(__name__)

_SERVER_ERROR: Final = 500
_VERSIONS: Final = frozenset({HttpVersion10, HttpVersion11})
_CACHE_SIZE: Final = 1024


class Gateway:
    """The handler of the server.

    Args:
        supervisor: knows who is running.
        pool: connections to notebook servers.
        websockets: carries websockets.
        namespace: of every workspace, or a template (see `naming.namespace_of`).
        page_after: how long a navigation waits for a start before it is answered with a page.
        hold_timeout: how long everything else waits.
        trusted_proxies: networks whose `X-Forwarded-*` headers are believed.
        door: who may enter, and where; by default everyone, everywhere.
        sites: which pages may act; by default our own.
        identity_header: in which a trusted proxy says who asks; no notebook server gets to see it.
        identity_cookies: how the names of cookies begin, beside the usual ones, by which a proxy before this one knows
            people.
        frame_ancestors: whose pages may show ours in a frame, as Content Security Policy has it; by default nobody's.
        is_open: nobody is asked, wherever they come from; said on the dashboard.
        knows_hub: JupyterHub's addresses lead on; see `jupyterhub_paths`.
        hosting: sorts requests by host, where workspaces have hosts of their own.
        check_host: refuse every `Host` but this machine's names; off only where the operator has said so.
        scheme: what the listener speaks, `http` or `https`.
        activity: judges what counts.
        wake: judges what starts a workspace.
        clock: what time is measured by.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        pool: Pool,
        websockets: WebsocketRelay,
        *,
        namespace: str,
        page_after: timedelta,
        hold_timeout: timedelta,
        trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
        door: Door | None = None,
        sites: Sites | None = None,
        identity_header: str = "",
        identity_cookies: Sequence[str] = (),
        frame_ancestors: str = "",
        is_open: bool = False,
        knows_hub: bool = False,
        hosting: Hosting | None = None,
        check_host: bool = True,
        scheme: str = "http",
        activity: Activity | None = None,
        wake: Wake | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._counts = pool.counts
        self._namespace = namespace
        self._door = door or Door()
        self._sites = sites or Sites()
        self._frame_ancestors = frame_ancestors
        self._hosting = hosting
        self._check_host = origins.check_host if check_host else origins.check_authority
        if hosting is not None:
            self._check_host = hosting.check_host
        self._introduction = Introduction(trusted_proxies, scheme=scheme, identity_header=identity_header)
        self._key = lru_cache(maxsize=_CACHE_SIZE)(self._make_key)
        self._in_flight = InFlight()
        self.streams = Streams(self._in_flight)
        clock, activity = clock or SystemClock(), activity or Activity()
        sight = Sight(supervisor, self._in_flight, clock, self._key, self._door.access)
        actions = Actions(sight, patience=hold_timeout)
        wake = wake or Wake("any", activity)
        self._hold = Hold(sight, wake, page_after=page_after, timeout=hold_timeout)
        self._carriage = Carriage(
            supervisor,
            self._hold,
            pool,
            websockets,
            activity=activity,
            dropped=self._introduction.dropped,
            cookies=tuple(name.lower().encode() for name in identity_cookies),
            clock=clock,
        )
        self.express = ExpressWay(
            self._door,
            self._carriage,
            supervisor,
            pool,
            hosting=hosting,
            in_flight=self._in_flight,
            key_of=self._key,
        )
        self._reserved = Reserved(sight, actions, self.streams)
        self._admin = Admin(sight, actions, self.streams, is_open=is_open, knows_hub=knows_hub, door=self._door)

    @property
    def in_flight(self) -> int:
        """How many requests and websockets are being carried."""
        return len(self._in_flight)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request. Cancelled when the client goes away, which ends the relay but no start."""
        task = self._in_flight.enter()
        response: web.StreamResponse
        try:
            response = await self._answer(request)
        except ProxyError as error:
            self._note(request, error)
            response = answers.of_error(request, error)
        except ConnectionError:  # the client went away while it was written to
            response = RELAYED_CLOSE
        except Exception:
            logger.exception("request broke: method=%s request=%s", request.method, request_id(request))
            response = answers.of_error(request, ProxyError("This is a defect of the proxy; its log has the details."))
        finally:
            self._in_flight.leave(task)
        if isinstance(response, Relayed):
            return RELAYED_CLOSE if self._in_flight.is_ending else response
        answers.finish(request, response, self._frame_ancestors)
        if self._in_flight.is_draining or not is_read(request):
            response.force_close()
        self._counts.answered_itself(request.raw_path, response.status, is_upgrade=hdrs.UPGRADE in request.headers)
        return response

    async def shed(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer the one request of a connection for which there is no room."""
        error = TooManyConnections()
        self._counts.shed += 1
        self._counts.refused(error)
        response = answers.of_error(request, error)
        response.force_close()
        return response

    def begin_draining(self) -> None:
        """Let each answer that begins from now on be the last on its connection: its client finds another replica."""
        self._in_flight.begin_draining()

    async def drain(self, seconds: float) -> bool:
        """Wait until no request is in flight, for at most so long; tell whether that was reached.

        From now on, each answer is the last on its connection, those that have begun as well.
        """
        return await self._in_flight.drain(seconds)

    def cut_off(self) -> None:
        """End what is being carried, in a way that no client can take for the end of an answer."""
        self._in_flight.cut_off()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        begun = adopt(request)
        if begun is not None:  # it has been judged
            try:
                return await self._carry(request, begun.key, begun.target, begun.user, self._carriage.go_on(begun))
            finally:
                self._door.limits.leave(begun.user)
        if request.protocol.writing_paused:  # who sends requests without reading the answers gets no more of them
            await request.writer.drain()
        method, version, headers = request.method, request.version, request.headers
        host = headers.get(hdrs.HOST, "")
        origins.check_method(method)
        if version not in _VERSIONS:
            raise BadRequest("bad-version", "Only HTTP/1.0 and HTTP/1.1 are spoken here.")
        self._check_host(host)
        target = parse_target(request.raw_path, host)
        is_upgrade = hdrs.UPGRADE in headers and is_websocket(request)
        is_https = hdrs.ORIGIN in headers and self._introduction.is_https(request)
        self._sites.check(method, headers, host, is_upgrade=is_upgrade, is_https=is_https)
        if is_upgrade and request.body_exists:
            raise BadRequest("bad-handshake", "A websocket handshake must not have a body.")
        if hdrs.TRANSFER_ENCODING in headers:
            check_framing(request)
        if self._hosting is not None and (sent := self._hosting.astray(request, target)) is not None:
            return sent
        about = workspace_of(target)
        user = self._door.admitted(request, target, about)
        if user is None:
            entered = await self._door.enter(request, target, about)
            if not isinstance(entered, User):
                return entered
            user = entered
        self._door.limits.enter(user)
        try:
            return await self._route(request, host, target, user, is_upgrade=is_upgrade)
        finally:
            self._door.limits.leave(user)

    async def _route(
        self, request: web.BaseRequest, host: str, target: Target, user: User, *, is_upgrade: bool
    ) -> web.StreamResponse:
        """Answer who may enter, or relay for them."""
        if self._hosting is not None and (sent := self._hosting.elsewhere(request, target)) is not None:
            return sent
        if target.workspace_id is None:
            return await self._admin.answer(request, target, user)
        key = self._key(target.workspace_id)
        if target.is_bare:
            return answers.to(f"{target.path}/" + ("" if target.query is None else f"?{target.query}"), status=307)
        if is_reserved(target):
            return await self._reserved.answer(request, key, target, user)
        forwarded = self._introduction.lines(request, host, user)
        carried = self._carriage.relay(request, key, target, user, forwarded, is_upgrade=is_upgrade)
        return await self._carry(request, key, target, user, carried)

    async def _carry(
        self,
        request: web.BaseRequest,
        key: Key,
        target: Target,
        user: User,
        carried: Coroutine[Any, Any, web.StreamResponse],
    ) -> web.StreamResponse:
        """Count what is carried as long as it is, and tell the client of an error in a way that fits a start."""
        self._in_flight.carry(key)
        try:
            return await carried
        except ProxyError as error:
            self._note(request, error)
            return self._hold.answer(request, key, target, user, error)
        finally:
            self._in_flight.put_down(key)

    def _note(self, request: web.BaseRequest, error: ProxyError) -> None:
        """Log an error that a person may have to act on: not that somebody waits, nor what every open tab is told."""
        self._counts.errors.add(error.code)
        if error.status >= _SERVER_ERROR and not isinstance(error, NotRunning | StartTimeout):
            name = request_id(request)
            logger.warning("answered %d: code=%s request=%s: %s", error.status, error.code, name, error)

    def _make_key(self, workspace_id: str) -> Key:
        return Key(workspace_id, namespace_of(self._namespace, workspace_id))
