"""Know when each workspace was last used, and keep that stored, so that a crash or another replica reaps nobody early.

What is stored is at most a quarter of `idle_ttl` behind, and written at most once in that time; therefore what others
stored spares a workspace for that quarter longer. This allowance is not activity: it is never stored, and no objection
to a reap rests on it, else two replicas would keep a workspace running for ever by believing each other. Whoever stored
last stores next, if it is used there: the others leave it a moment.
"""

from __future__ import annotations

import asyncio
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from proxy.report import Seen
from proxy.workspace import Phase

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    from proxy.backends import Backend
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.tracked import Tracked

CONCURRENCY: Final = 20
OBJECTIONS: Final = 4  # how often within `reap_grace` a mark is withdrawn that cannot be: the workspace is at stake
PRECEDENCE: Final = 1 / 8  # of that time, or `reap_grace` if that is less: how much later others store
STORED_PARTS: Final = 4  # activity is stored when it would otherwise be a quarter of idle_ttl behind


class Record:
    """When workspaces were last used. One per supervisor; owns its writes until `close`.

    Args:
        backend: stores.
        config: `reap_grace`.
        clock: what time is measured by.
        log: where writes that fail are reported.
    """

    def __init__(self, backend: Backend, config: Config, *, clock: Clock, log: logging.Logger) -> None:
        self._backend = backend
        self._clock = clock
        self._log = log
        self._grace = config.reap_grace.total_seconds()
        self._pause = self._grace / OBJECTIONS
        self._limit = asyncio.Semaphore(CONCURRENCY)
        self._writes: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def touch(self, tracked: Tracked, what: str) -> None:
        """Record activity now; store it if what is stored is a quarter of `idle_ttl` behind, or somebody must know."""
        now = tracked.touched = tracked.counted_at = self._clock.monotonic()
        tracked.counted = what
        if tracked.phase is not Phase.RUNNING:
            return
        quarter = tracked.idle_ttl / STORED_PARTS
        if tracked.is_recorded_elsewhere:
            quarter += min(self._grace, quarter * PRECEDENCE)
        if tracked.is_condemned:
            self.pardon(tracked)
        elif now - tracked.stored >= quarter:
            self._store(tracked)

    def last_active(self, tracked: Tracked) -> datetime:
        """Return when it was last used, never less than what is stored.

        Two readings of the clocks differ by what passes between them, and more when somebody sets the wall clock. A
        reap that was announced with less than what is stored would be contested by the record itself.
        """
        now = self._clock.now()
        at = now - timedelta(seconds=self._clock.monotonic() - tracked.touched)
        if tracked.recorded is not None and at < tracked.recorded <= now:
            return tracked.recorded
        return at

    def counted(self, tracked: Tracked) -> Seen | None:
        """Return the newest of what keeps it, as this replica saw it: use, or what its kernels do."""
        if tracked.worked > tracked.counted_at:
            return self._seen(tracked.work, tracked.worked)
        return self._seen(tracked.counted, tracked.counted_at)

    def ignored(self, tracked: Tracked) -> Seen | None:
        """Return what this replica saw last that does not keep it."""
        return self._seen(tracked.ignored, tracked.ignored_at)

    def moment(self, at: float) -> datetime:
        """Return what the wall clock shows, or will show, at a monotonic moment."""
        return self._clock.now() + timedelta(seconds=at - self._clock.monotonic())

    def _seen(self, what: str, at: float) -> Seen | None:
        return Seen(what, self.moment(at)) if at > -math.inf else None

    def learn(self, tracked: Tracked, at: datetime) -> None:
        """Raise its last activity to what is stored; never lowers it. What was stored from here is not news."""
        if tracked.recorded is not None and at <= tracked.recorded:
            return
        tracked.recorded = at
        # What is in the future is now.
        when = self._clock.monotonic() - max((self._clock.now() - at).total_seconds(), 0)
        if when > tracked.stored:
            tracked.stored, tracked.is_recorded_elsewhere = when, True
            tracked.spared = when + tracked.idle_ttl / STORED_PARTS
            tracked.touched = max(tracked.touched, when)

    def condemn(self, tracked: Tracked) -> None:
        """Object to somebody's reap if it has been used, now or as soon as it is."""
        tracked.is_condemned = True
        if tracked.touched + tracked.idle_ttl >= self._clock.monotonic():
            self.pardon(tracked)

    def pardon(self, tracked: Tracked) -> None:
        """Withdraw the mark of whoever is about to reap it."""
        tracked.is_condemned = False
        self._store(tracked, pardon=True)

    async def close(self) -> None:
        """End the writes in flight, and begin none any more."""
        self._is_closed = True
        for task in self._writes:
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)

    def _store(self, tracked: Tracked, *, pardon: bool = False) -> None:
        """Store when it was last used, in a task of its own: a touch never awaits."""
        if self._is_closed:
            return
        tracked.stored, tracked.is_recorded_elsewhere = tracked.touched, False
        task = asyncio.create_task(self._write(tracked, pardon=pardon), name=f"store {tracked.key.workspace_id}")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, tracked: Tracked, *, pardon: bool) -> None:
        for attempt in range(OBJECTIONS if pardon else 1):
            if attempt:
                await self._clock.sleep(self._pause)
            try:
                async with self._limit:
                    tracked.stored = tracked.touched
                    tracked.recorded = self.last_active(tracked)
                    await self._backend.store(tracked.key, tracked.recorded, pardon=pardon)
            except Exception as error:  # noqa: BLE001 - the next use tries again, and a reap looks once more itself
                self._log.warning("activity not stored: id=%s: %s", tracked.key.workspace_id, error)
                # It must not pass for stored for a whole quarter; but an outage is not asked at every touch.
                tracked.stored = min(
                    tracked.stored, self._clock.monotonic() - tracked.idle_ttl / STORED_PARTS * (1 - PRECEDENCE)
                )
            else:
                return
