"""Carry a request that has been judged to its workspace's notebook server, and once more where that was not there.

Owns what a request means to its workspace (`use`), and what is done about a notebook server that is gone. Knows nothing
of who may enter, nor of how an error is told.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from proxy.activity import Sender, sender_of
from proxy.auth.vigil import Visit
from proxy.errors import UpstreamLost, UpstreamRefused
from proxy.relay.downstream import RELAYED_KEEP
from proxy.relay.express import remember
from proxy.relay.http import relay_http
from proxy.relay.order import Order
from proxy.use import Use

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from proxy.activity import Activity
    from proxy.activity_rules import Verdict
    from proxy.auth.user import User
    from proxy.clock import Clock
    from proxy.hold import Hold
    from proxy.relay.express import ExpressExchange
    from proxy.relay.tunnel import Frames
    from proxy.relay.upstream import Pool
    from proxy.relay.websocket import WebsocketRelay
    from proxy.supervisor import Supervisor
    from proxy.target import Target
    from proxy.workspace import Key

_CACHE_SIZE: Final = 1024
_CACHED_LENGTH: Final = 256


class Carriage:
    """Carries. One per gateway.

    Args:
        supervisor: knows who is running.
        hold: waits for who is not.
        pool: connections to notebook servers.
        websockets: carries websockets.
        activity: judges what counts.
        dropped: names of headers in canonical form that no notebook server gets to see.
        cookies: how the names of cookies begin, in lower case, that none gets to see.
        clock: what time is measured by.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        hold: Hold,
        pool: Pool,
        websockets: WebsocketRelay,
        *,
        activity: Activity,
        dropped: frozenset[bytes],
        cookies: tuple[bytes, ...],
        clock: Clock,
    ) -> None:
        self._supervisor = supervisor
        self._hold = hold
        self._pool = pool
        self._websockets = websockets
        self._activity = activity
        self._dropped = dropped
        self._cookies = cookies
        self._clock = clock
        self._uses = lru_cache(maxsize=_CACHE_SIZE)(self._make_use)

    async def relay(
        self, request: web.BaseRequest, key: Key, target: Target, user: User, forwarded: bytes, *, is_upgrade: bool
    ) -> web.StreamResponse:
        """Relay to the workspace's notebook server, which is started or waited for if it does not run.

        Raises:
            ProxyError: it could not be; nothing has been answered.
        """
        handle = self._supervisor.running(key)
        if handle is None:
            handle = await self._hold.find(request, key, target, user, is_upgrade=is_upgrade)
        use = self.use_of(request, key, target, is_upgrade=is_upgrade)
        use.touch()
        order = Order(request, target.wire, handle, forwarded, use.touch, self._dropped, self._cookies)
        answer = await self._carry(order, key, target, user, use.open_frames if is_upgrade else None)
        if answer is RELAYED_KEEP:
            remember(order, user)
        return answer

    async def go_on(self, begun: ExpressExchange) -> web.StreamResponse:
        """Go on with what the express way has begun.

        Raises:
            ProxyError: as `relay` does.
        """
        begun.order.begun = begun
        return await self._carry(begun.order, begun.key, begun.target, begun.user, None)

    def use_of(self, request: web.BaseRequest, key: Key, target: Target, *, is_upgrade: bool) -> Use:
        """Judge what a request means to its workspace: by its method, its target and who sends it."""
        method = request.method
        verdict = self._activity.judge(method, target.below, target.query, is_websocket=is_upgrade)
        is_page = is_upgrade and sender_of(request.headers, target.base) is not Sender.PROGRAM
        make = self._uses if len(target.path) <= _CACHED_LENGTH else self._make_use
        return make(key, method, target.path, verdict, is_page)

    async def _carry(
        self, order: Order, key: Key, target: Target, user: User, open_frames: Callable[[], Frames] | None
    ) -> web.StreamResponse:
        for is_last in (False, True):
            try:
                if open_frames is not None:
                    visit = Visit(user, key.workspace_id) if user.name else None
                    return await self._websockets.relay(order, open_frames, visit)
                return await relay_http(order, self._pool)
            except (UpstreamRefused, UpstreamLost) as error:
                if is_last:
                    raise  # it was found well in between; it stays known, so that it can be reaped
                self._supervisor.lost(key, order.handle, error.code)
                self._pool.forget(order.handle)
                is_upgrade = open_frames is not None
                order.handle = await self._hold.find(order.request, key, target, user, is_upgrade=is_upgrade)
        raise AssertionError("unreachable")

    def _make_use(self, key: Key, method: str, path: str, verdict: Verdict, is_page: bool) -> Use:
        return Use(
            self._supervisor,
            key,
            method,
            path,
            verdict,
            is_page=is_page,
            is_everything=self._activity.is_traffic,
            clock=self._clock,
        )
