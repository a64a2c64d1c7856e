"""Judge at once what comes with headers that are known, and send it on its way without waiting for anything.

Asks the same questions as the gateway, of the same parts and each time anew: who asks, may they, does it run, does it
count. What the headers alone say is taken from the request that went the gateway's way before. Whatever cannot be said
at once, or needs more than to be carried, is left to the gateway; nothing has been done by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.errors import LimitReached, ProxyError
from proxy.relay.express import ExpressExchange
from proxy.relay.order import Order
from proxy.reserved import is_reserved
from proxy.target import parse_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from proxy.auth.door import Door
    from proxy.carriage import Carriage
    from proxy.hosting import Hosting
    from proxy.in_flight import InFlight
    from proxy.relay.precedent import Precedent
    from proxy.relay.upstream import Pool
    from proxy.supervisor import Supervisor
    from proxy.target import Target
    from proxy.workspace import Key

BUSY: Final = 4  # exchanges under way from which on writes are gathered


class Route(NamedTuple):
    """What a target means to who sends the headers of one precedent: nothing of it depends on when that is asked.

    Args:
        target: where it goes.
        key: the workspace.
        touch: tells that it is used, or not.
    """

    target: Target
    key: Key
    touch: Callable[[], None]


class ExpressWay:
    """The express way of one gateway.

    Args:
        door: who may enter.
        carriage: judges what a request means to its workspace.
        supervisor: knows who is running.
        pool: connections to notebook servers.
        hosting: sorts requests by host, where workspaces have hosts of their own.
        in_flight: counts what is carried.
        key_of: returns a workspace's key.
    """

    def __init__(
        self,
        door: Door,
        carriage: Carriage,
        supervisor: Supervisor,
        pool: Pool,
        *,
        hosting: Hosting | None,
        in_flight: InFlight,
        key_of: Callable[[str], Key],
    ) -> None:
        self._door = door
        self._supervisor = supervisor
        self._pool = pool
        self._hosting = hosting
        self._in_flight = in_flight
        self._key_of = key_of
        self._use_of = carriage.use_of

    def begin(self, precedent: Precedent, target: str) -> ExpressExchange | None:
        """Send a GET on its way, or return None: then nothing has been done, and it is to go the ordinary way.

        Args:
            precedent: what is known of its headers.
            target: in origin form, as it was sent.
        """
        try:
            found = parse_target(target, precedent.host)
            route = precedent.route
            if route is None or route.target is not found:
                route = precedent.route = self._route(precedent.request, found)
            if route is None or not self._is_let_in(precedent, route):
                return None
        except ProxyError:  # the ordinary way answers it
            return None
        _, key, touch = route
        handle, request, user = precedent.handle, precedent.request, precedent.user
        connection = self._pool.take(handle) if self._supervisor.running(key) is handle else None
        if connection is None:
            return None
        try:
            self._door.limits.enter(user)
        except LimitReached:
            self._pool.put_back(connection)
            return None
        order = Order(request, found.wire, handle, precedent.forwarded, touch, precedent.dropped, precedent.cookies)
        is_busy = len(self._in_flight) >= BUSY
        exchange = ExpressExchange(order, connection, self._pool, key=key, target=found, user=user, is_busy=is_busy)
        self._in_flight.begin(exchange, key)
        touch()
        if is_busy:
            connection.hold(order.head_of(precedent.lines), self._pool.outbox)
        else:
            connection.write(order.head_of(precedent.lines))
        return exchange

    def end(self, exchange: ExpressExchange) -> bool:
        """Let go of an exchange that is over; tell whether its client may send another request."""
        self.pass_on(exchange)
        self._door.limits.leave(exchange.user)
        return not self._in_flight.is_ending

    def pass_on(self, exchange: ExpressExchange) -> None:
        """Let go of an exchange that goes on the ordinary way: it has entered by the door, and is still to leave."""
        self._in_flight.end(exchange, exchange.key)

    def _route(self, request: web.BaseRequest, target: Target) -> Route | None:
        """Return what a target means that is to be carried; None for all others.

        Raises:
            ProxyError: it is to be refused.
        """
        workspace_id, hosting = target.workspace_id, self._hosting
        if workspace_id is None or target.is_bare or is_reserved(target):
            return None
        if hosting is not None and not (
            hosting.astray(request, target) is None and hosting.elsewhere(request, target) is None
        ):
            return None
        key = self._key_of(workspace_id)
        return Route(target, key, self._use_of(request, key, target, is_upgrade=False).touch)

    def _is_let_in(self, precedent: Precedent, route: Route) -> bool:
        """Tell whether who sent the precedent asks again, and may enter there now."""
        if self._in_flight.is_draining:
            return False
        user = self._door.admitted(precedent.request, route.target, route.key.workspace_id)
        return user is precedent.user or (user is not None and user == precedent.user)
