"""Keep what notebook servers say of their kernels and terminals: whether they work, and when they last did.

That is no use of a workspace, is stored nowhere and told to no other replica: whoever is about to stop it asks. What a
server says is believed as far as `max_busy` goes (see `due`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.backends.kernels import Work
    from proxy.clock import Clock
    from proxy.tracked import Tracked
    from proxy.walltime import WallTime
    from proxy.workspace import Handle, Key

Ask: TypeAlias = "Callable[[Key, Handle], Awaitable[Work | None]]"
"""See `backends.kernels.ask`."""


class Asking:
    """Asks, and notes the answer. One per supervisor.

    Args:
        ask: how.
        wall: what the server's times mean here.
        clock: what time is measured by.
    """

    def __init__(self, ask: Ask, wall: WallTime, clock: Clock) -> None:
        self._ask = ask
        self._wall = wall
        self._monotonic = clock.monotonic

    def look_at_the_clock(self) -> None:
        """Notice, and tell, whether somebody has set the wall clock; to be called now and then."""
        self._wall.look()

    async def ask(self, tracked: Tracked) -> None:
        """Ask the server of a workspace that runs; nothing where there is none any more."""
        handle = tracked.handle
        if handle is None:
            return
        work = await self._ask(tracked.key, handle)
        now = tracked.asked = self._monotonic()
        if work is None:
            # After use the time for which nothing is known begins anew.
            if tracked.unknown_since < tracked.touched:
                tracked.unknown_since = now
            return
        tracked.unknown_since = float("-inf")
        if work.busy:
            tracked.worked, tracked.work = now, "kernel busy"
        elif work.last_activity is not None and work.last_activity != tracked.work_seen:
            # The same time seen again is no news, whatever a clock that was set would make of it.
            at = self._wall.moment(work.last_activity)
            if at > tracked.worked:
                tracked.worked, tracked.work = at, f"{work.what} active"
        tracked.work_seen = work.last_activity
