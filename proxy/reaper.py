"""Stop what nobody uses.

A reap is fenced: marked, given `reap_grace` for others to object, looked at again, and only then stopped, on the
condition that nothing newer was stored meanwhile. A request always wins. Owns no workspace: the supervisor's map is
read here, and every change of phase is the supervisor's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from proxy.errors import Contested, ProxyError
from proxy.workspace import Phase

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    from proxy.backends import Backend, Mark
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.due import Judge
    from proxy.record import Record
    from proxy.tracked import Tracked
    from proxy.workspace import Key

CONCURRENCY: Final = 20


class Reaper:
    """Ends what is idle. One per supervisor.

    Args:
        begin_stop: moves a workspace to STOPPING now, and returns the work.
        tracked: the supervisor's map; only read.
        record: knows when each was last used.
        backend: marks.
        config: `reap_interval`, `reap_grace`.
        judge: says what is due.
        clock: what time is measured by.
        log: where reaps that break are reported.
    """

    def __init__(
        self,
        begin_stop: Callable[[Key, str, Mark | None], asyncio.Task[None]],
        tracked: Mapping[Key, Tracked],
        record: Record,
        backend: Backend,
        config: Config,
        *,
        judge: Judge,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._begin_stop = begin_stop
        self._tracked = tracked
        self._record = record
        self._judge = judge
        self._backend = backend
        self._clock = clock
        self._log = log
        self._interval = config.reap_interval.total_seconds()
        self._grace = config.reap_grace.total_seconds()

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
        """Whether it is running, still the one that is tracked, and idle."""
        return (
            tracked.phase is Phase.RUNNING
            and self._tracked.get(tracked.key) is tracked
            and self._judge.is_due(tracked, self._clock.monotonic())
        )

    async def _reap(self, tracked: Tracked, limit: asyncio.Semaphore) -> None:
        """Mark, wait, look again, stop. What is contested, or cannot be marked, lives until the next tick."""
        try:
            async with limit:
                if not self._is_due(tracked):
                    return
                mark = await self._backend.mark(tracked.key, self._record.last_active(tracked))
            if mark is not None:
                await self._clock.sleep(self._grace)
            async with limit:
                await self._carry_out(tracked, mark)
        except Contested as contested:
            if contested.last_active is not None:
                self._record.learn(tracked, contested.last_active)
            self._log.info("reap contested: id=%s: %s", tracked.key.workspace_id, contested)
        except ProxyError as error:
            self._log.warning("reap put off: id=%s: %s", tracked.key.workspace_id, error)
        except Exception:  # noqa: BLE001 - one workspace's defect must not keep all others running for ever
            self._log.exception("reap broke: id=%s", tracked.key.workspace_id)

    async def _carry_out(self, tracked: Tracked, mark: Mark | None) -> None:
        """Stop it if it is still due; withdraw the mark if it is not. From the look to STOPPING nothing awaits."""
        if self._is_due(tracked):
            idle = self._clock.monotonic() - tracked.touched
            await asyncio.wait((self._begin_stop(tracked.key, f"idle for {idle:.0f}s", mark),))
        elif mark is not None and tracked.phase is Phase.RUNNING:
            self._record.pardon(tracked)
