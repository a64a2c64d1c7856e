"""Who starts, runs or stops: the map of the supervisor's parts, and the tasks that work on it.

The only place where a phase changes, so that no change goes unrecorded. No method awaits but `close`, so no two of them
interleave. Decides nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from proxy.notes import Notes
from proxy.tracked import Tracked
from proxy.workspace import Event, Phase

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from proxy.clock import Clock
    from proxy.counts import SupervisorCounts
    from proxy.ledger import Ledger
    from proxy.preferences import Preferences
    from proxy.record import Record
    from proxy.workspace import Key

_WORDS: Final = {
    Event.WAKE: "starting",
    Event.FOUND: "found",
    Event.READY: "running",
    Event.FAILED: "failed",
    Event.STOP: "stopping",
    Event.GONE: "stopped",
    Event.STUCK: "stuck",
    Event.LOST: "lost",
}


class Roster:
    """Holds what is tracked. One per supervisor; owns the tasks of starts and stops until `close`.

    Args:
        ledger: told of every change.
        record: knows when each was last used.
        preferences: what holds for each.
        clock: what time is measured by.
        counts: of changes.
    """

    def __init__(
        self, ledger: Ledger, record: Record, preferences: Preferences, clock: Clock, counts: SupervisorCounts
    ) -> None:
        self.tracked: dict[Key, Tracked] = {}
        self.is_closing = False
        """Nothing is started any more."""
        self._ledger = ledger
        self._record = record
        self._preferences = preferences
        self._clock = clock
        self._counts = counts
        self._tasks: set[asyncio.Task[None]] = set()  # every start and stop that has not ended

    def get(self, key: Key) -> Tracked | None:
        """Return what is known of a workspace that starts, runs or stops."""
        return self.tracked.get(key)

    def add(self, key: Key, touched: float | None = None) -> Tracked:
        """Track a workspace; by default it counts as used now."""
        now = self._clock.monotonic()
        touched = now if touched is None else touched
        tracked = self.tracked[key] = Tracked(key, touched=touched, stored=touched, since=now)
        self._preferences.apply(tracked, self._ledger.entry(key).notes or Notes())
        return tracked

    def move(self, tracked: Tracked, event: Event, reason: str = "") -> None:
        """Go on to the phase that follows, and write that down. What is stopped is not tracked any more.

        Raises:
            IllegalTransition: the table has none.
        """
        tracked.move(event)
        self._counts.moves.add(event.value)
        tracked.since = self._clock.monotonic()
        key, entry = tracked.key, self._ledger.entry(tracked.key)
        if tracked.phase is Phase.STOPPED:
            del self.tracked[key]
            if tracked.is_known:
                entry.last_active = self._record.last_active(tracked)
            entry.counted = self._record.counted(tracked) or entry.counted
            entry.ignored = self._record.ignored(tracked) or entry.ignored
        happening = self._ledger.note(key, _WORDS[event], reason)
        if event is Event.GONE and (tracked.is_known or entry.stopped is None):
            entry.stopped = happening
        if tracked.phase is Phase.STOPPED:
            self._ledger.pass_on(key)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run work that outlives its caller; `close` ends it."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """End the work in flight."""
        for task in self._tasks:
            if not task.cancelling():  # a start that a stop has cancelled clears up in peace
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
