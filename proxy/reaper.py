"""Stop what nobody uses, and keep the record of use: the supervisor's clockwork.

A reap is fenced: marked, given `reap_grace` for others to object, looked at again, and only then stopped, on the
condition that nothing newer was stored meanwhile. A request always wins. Owns no workspace: the supervisor's map is
read here, and every change of phase is the supervisor's.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from proxy.errors import Contested, ProxyError
from proxy.workspace import Phase

if TYPE_CHECKING:
    import logging
    from collections.abc import Coroutine, Mapping
    from datetime import datetime
    from typing import Any

    from proxy.backends import Backend, Mark
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.tracked import Tracked
    from proxy.workspace import Key

CONCURRENCY: Final = 20
_SAME: Final = 1.0  # seconds by which what is stored may differ from what was sent, for clocks are read one by one
STORED_PARTS: Final = 4  # activity is stored when it would otherwise be a quarter of idle_ttl behind


class Keeper(Protocol):
    """What the reaper asks of the supervisor."""

    def begin_stop(self, key: Key, reason: str, mark: Mark | None) -> asyncio.Task[None]:
        """Move it to STOPPING now, and return the work."""
        ...

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run work that outlives its caller; it is ended with the supervisor."""
        ...


class Reaper:
    """Ends what is idle. One per supervisor.

    Args:
        keeper: the supervisor.
        tracked: its map; only read.
        backend: marks and stores.
        config: `idle_ttl`, `reap_interval`, `reap_grace`.
        clock: what time is measured by.
        log: where ticks that break are reported.
    """

    def __init__(
        self,
        keeper: Keeper,
        tracked: Mapping[Key, Tracked],
        backend: Backend,
        config: Config,
        *,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._keeper = keeper
        self._tracked = tracked
        self._backend = backend
        self._clock = clock
        self._log = log
        self._idle_ttl = config.idle_ttl.total_seconds()
        self._interval = config.reap_interval.total_seconds()
        self._grace = config.reap_grace.total_seconds()
        self._quarter = self._idle_ttl / STORED_PARTS
        self._agenda: list[tuple[float, int, Tracked]] = []  # when a workspace's record is looked at next
        self._serial = itertools.count()

    # Reaping --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look for what is idle every `reap_interval`, until cancelled. Errors are logged and never end it."""
        while True:
            await self._clock.sleep(self._interval)
            try:
                await self.tick()
            except Exception:  # noqa: BLE001 - the top of a task
                self._log.exception("reaper tick broke")

    async def tick(self) -> None:
        """Stop each workspace of a snapshot that is due, a bounded number at once."""
        limit = asyncio.Semaphore(CONCURRENCY)
        due = [tracked for tracked in self._tracked.values() if self._is_due(tracked)]
        if due:
            async with asyncio.TaskGroup() as group:
                for tracked in due:
                    group.create_task(self._reap(tracked, limit))

    def _is_due(self, tracked: Tracked) -> bool:
        """Whether it is running, still the one that is tracked, and idle for longer than `idle_ttl`."""
        return (
            tracked.phase is Phase.RUNNING
            and self._tracked.get(tracked.key) is tracked
            and tracked.touched + self._idle_ttl < self._clock.monotonic()
        )

    async def _reap(self, tracked: Tracked, limit: asyncio.Semaphore) -> None:
        """Mark, wait, look again, stop. What is found contested, or cannot be marked, lives until the next tick."""
        try:
            async with limit:
                if not self._is_due(tracked):
                    return
                mark = await self._backend.mark(tracked.key, self._last_active(tracked))
            if mark is not None:
                await self._clock.sleep(self._grace)
            async with limit:
                await self._carry_out(tracked, mark)
        except Contested as contested:
            if contested.last_active is not None:
                self.learn(tracked, contested.last_active)
            self._log.info("reap contested: id=%s: %s", tracked.key.workspace_id, contested)
        except ProxyError as error:
            self._log.warning("reap put off: id=%s: %s", tracked.key.workspace_id, error)

    async def _carry_out(self, tracked: Tracked, mark: Mark | None) -> None:
        """Stop it if it is still due; withdraw the mark if it is not. From the look to STOPPING nothing awaits."""
        if self._is_due(tracked):
            idle = self._clock.monotonic() - tracked.touched
            await asyncio.wait((self._keeper.begin_stop(tracked.key, f"idle for {idle:.0f}s", mark),))
        elif mark is not None and tracked.phase is Phase.RUNNING:
            await self._backend.store(tracked.key, self._last_active(tracked), pardon=True)

    def _last_active(self, tracked: Tracked) -> datetime:
        return self._clock.now() - timedelta(seconds=self._clock.monotonic() - tracked.touched)

    # What others say of it ------------------------------------------------------------------------------------------

    def learn(self, tracked: Tracked, at: datetime) -> None:
        """Raise its last activity to what is stored, which counts as a quarter of `idle_ttl` newer; never lowers it."""
        now = self._clock.monotonic()
        when = now - max((self._clock.now() - at).total_seconds(), 0)  # what is in the future is now
        if when > tracked.stored + _SAME:  # else it is older, or was stored from here
            tracked.stored = when
            tracked.touched = max(tracked.touched, min(now, when + self._quarter))

    def condemn(self, tracked: Tracked) -> None:
        """Object to somebody's reap if it has been used, now or as soon as it is."""
        tracked.is_condemned = True
        if tracked.touched + self._idle_ttl >= self._clock.monotonic():
            self.pardon(tracked)

    def pardon(self, tracked: Tracked) -> None:
        """Withdraw the mark of whoever is about to reap it; in a task of its own, for a touch never awaits."""
        tracked.is_condemned = False
        self._keeper.spawn(self._store(tracked, pardon=True), f"pardon {tracked.key.workspace_id}")

    # Keeping the record ---------------------------------------------------------------------------------------------

    def keep_record(self, tracked: Tracked) -> None:
        """Look at its record from now on, for as long as it is tracked."""
        heapq.heappush(self._agenda, (self._clock.monotonic() + self._quarter, next(self._serial), tracked))

    async def run_record(self) -> None:
        """Store activity when it would otherwise be a quarter of `idle_ttl` behind, until cancelled.

        Each workspace is looked at once a quarter, so that it is written at most once a quarter, whatever happens.
        """
        while True:
            wait = self._agenda[0][0] - self._clock.monotonic() if self._agenda else self._quarter
            if wait > 0:
                await self._clock.sleep(wait)
                continue
            _, serial, tracked = heapq.heappop(self._agenda)
            if self._tracked.get(tracked.key) is not tracked:
                continue
            now = self._clock.monotonic()
            if tracked.stored + self._quarter > now:  # somebody else has stored it since
                heapq.heappush(self._agenda, (tracked.stored + self._quarter, serial, tracked))
                continue
            heapq.heappush(self._agenda, (now + self._quarter, serial, tracked))
            if tracked.phase is Phase.RUNNING and tracked.touched > tracked.stored:
                await self._store(tracked)

    async def _store(self, tracked: Tracked, *, pardon: bool = False) -> None:
        tracked.stored = tracked.touched
        try:
            await self._backend.store(tracked.key, self._last_active(tracked), pardon=pardon)
        except Exception as error:  # noqa: BLE001 - the next quarter tries again, and a reap looks once more itself
            self._log.warning("activity not stored: id=%s: %s", tracked.key.workspace_id, error)
