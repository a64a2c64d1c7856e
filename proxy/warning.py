"""See that people are warned before what they use is stopped, and that nobody is warned for nothing.

Who is due soon is asked what its kernels do; one that works is not warned of. Sleeps until the next workspace comes
near its time, which use only ever puts off; but no longer than `reap_interval`, for there may be new ones by then.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from proxy.workspace import Phase

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator, Mapping

    from proxy.asking import Asking
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.due import Judge, Verdict
    from proxy.ledger import Ledger
    from proxy.tracked import Tracked
    from proxy.workspace import Key

_SOONEST: Final = 1.0  # seconds between two looks


class Warnings:
    """Warns. One per supervisor.

    Args:
        tracked: the supervisor's map; only read.
        judge: says what is due, and when that is soon.
        asking: finds out what works.
        ledger: told when a warning begins.
        config: `reap_interval`, `reap_concurrency`.
        clock: what time is measured by.
        log: where defects are reported.
    """

    def __init__(
        self,
        tracked: Mapping[Key, Tracked],
        judge: Judge,
        asking: Asking,
        ledger: Ledger,
        config: Config,
        *,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._tracked = tracked
        self._judge = judge
        self._asking = asking
        self._ledger = ledger
        self._clock = clock
        self._log = log
        self._longest = config.reap_interval.total_seconds()
        self._limit = asyncio.Semaphore(config.reap_concurrency)

    async def run(self) -> None:
        """Look whenever somebody may have to be warned, until cancelled. Errors are logged and never end it."""
        while True:
            await self._clock.sleep(self._pause())
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the top of a task
                self._log.exception("warning broke")

    async def look(self) -> None:
        """Ask those that are due soon and have not been asked for that; tell of those that remain due."""
        now = self._clock.monotonic()
        async with asyncio.TaskGroup() as group:
            for tracked, verdict in self._running(now):
                if self._judge.is_to_be_asked(tracked, verdict, now):
                    group.create_task(self._ask(tracked))
        now = self._clock.monotonic()
        for tracked, verdict in self._running(now):
            is_warned = self._judge.is_warned(tracked, verdict, now)
            if is_warned is not tracked.is_warned:
                tracked.is_warned = is_warned
                self._ledger.bump(tracked.key)

    async def _ask(self, tracked: Tracked) -> None:
        async with self._limit:
            await self._asking.ask(tracked)

    def _pause(self) -> float:
        """Return the seconds until a warning may begin, within bounds."""
        now = self._clock.monotonic()
        ahead = (self._judge.warned_in(tracked, verdict, now) for tracked, verdict in self._running(now))
        return max(_SOONEST, min((seconds for seconds in ahead if 0 < seconds < self._longest), default=self._longest))

    def _running(self, now: float) -> Iterator[tuple[Tracked, Verdict]]:
        for tracked in self._tracked.values():
            if tracked.phase is Phase.RUNNING:
                yield tracked, self._judge.verdict(tracked, now)
