"""Close the websockets of those who may not be there any more: their credential is over, or `authorize_url` says no.

A request is judged when it comes, a websocket again and again. Kernels do not notice; a page that may come back
connects anew. Looks at each user and workspace once, however many websockets they have.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from proxy.auth.access import Access
    from proxy.auth.user import User
    from proxy.clock import Clock
    from proxy.relay.tunnel import Tunnel
    from proxy.relay.websocket import WebsocketRelay

logger = logging.getLogger(__name__)

LOOK_EVERY: Final = 15.0  # seconds; with the age of an answer and the time for one it makes less than a minute
NOT_ALLOWED: Final = 4401  # RFC 6455 section 7.4.2: for private use; Jupyter's pages take it as any other end
_AT_ONCE: Final = 32


class Visit(NamedTuple):
    """Who has opened a websocket, and where."""

    user: User
    workspace_id: str


class Vigil:
    """Looks. One per gateway.

    Args:
        access: judges.
        websockets: those that are open; each says whose `Visit` it is.
        clock: what the looks are paced by.
    """

    def __init__(self, access: Access, websockets: WebsocketRelay, clock: Clock) -> None:
        self._access = access
        self._websockets = websockets
        self._clock = clock
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Look now and then, until cancelled. A service that is slow to answer holds up no credential's end."""
        judging: asyncio.Task[None] | None = None
        try:
            while True:
                await self._clock.sleep(LOOK_EVERY)
                self.end_expired()
                if judging is None or judging.done():
                    judging = asyncio.create_task(self._look_on(), name="judge open websockets")
        finally:
            if judging is not None:
                judging.cancel()
                await asyncio.wait([judging])

    def end_expired(self) -> None:
        """Close those whose credential is over; nobody is asked."""
        for visit, tunnels in self._websockets.visits().items():
            assert isinstance(visit, Visit)
            if self._access.has_expired(visit.user):
                _close(visit, tunnels)

    async def look(self) -> None:
        """Judge every visit once."""
        self.end_expired()
        async with asyncio.TaskGroup() as group:
            for visit, tunnels in self._websockets.visits().items():
                assert isinstance(visit, Visit)
                if not (self._access.has_expired(visit.user) or self._access.surely_goes_on(*visit)):
                    group.create_task(self._judge(visit, tunnels))

    async def _look_on(self) -> None:
        try:
            await self.look()
        except Exception:
            logger.exception("open websockets were not judged; they are in %g s", LOOK_EVERY)

    async def _judge(self, visit: Visit, tunnels: list[Tunnel]) -> None:
        async with self._turns:
            if await self._access.goes_on(*visit):
                return
        _close(visit, tunnels)


def _close(visit: Visit, tunnels: list[Tunnel]) -> None:
    for tunnel in tunnels:
        tunnel.close(NOT_ALLOWED)
    logger.info("websockets closed, not allowed any more: workspace=%s count=%d", visit.workspace_id, len(tunnels))
