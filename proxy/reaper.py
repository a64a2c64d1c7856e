"""Stop what nobody uses.

A reap is fenced: its server is asked what its kernels do, it is marked, given `reap_grace` for others to object, asked
again, and only then stopped, on the condition that nothing newer was stored meanwhile. A request always wins. Owns no
workspace: the supervisor's map is read here, and every change of phase is the supervisor's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from proxy.errors import Contested, ProxyError
from proxy.report import Fate
from proxy.workspace import Phase

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Mapping

    from proxy.asking import Asking
    from proxy.backends import Backend, Mark
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.counts import SupervisorCounts
    from proxy.due import Judge, Verdict
    from proxy.record import Record
    from proxy.tracked import Tracked
    from proxy.workspace import Key


class Reaper:
    """Ends what is idle. One per supervisor.

    Args:
        begin_stop: moves a workspace to STOPPING now, and returns the work.
        tracked: the supervisor's map; only read.
        record: knows when each was last used.
        backend: marks.
        config: `reap_interval`, `reap_grace`, `reap_concurrency`, `dry_run_reaper`.
        judge: says what is due.
        asking: finds out what works.
        clock: what time is measured by.
        log: where reaps are reported.
        counts: of reaps, and of why there were none.
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
        asking: Asking,
        clock: Clock,
        log: logging.Logger,
        counts: SupervisorCounts,
    ) -> None:
        self._begin_stop = begin_stop
        self._tracked = tracked
        self._record = record
        self._judge = judge
        self._asking = asking
        self._backend = backend
        self._clock = clock
        self._log = log
        self._counts = counts
        self._interval = config.reap_interval.total_seconds()
        self._grace = config.reap_grace.total_seconds()
        self._concurrency = config.reap_concurrency
        self._is_dry = config.dry_run_reaper

    async def run(self) -> None:
        """Look for what is idle every `reap_interval`, until cancelled. Errors are logged and never end it.

        Nothing is reaped before the first interval is over: what was adopted may not have been told of all its use.
        """
        while True:
            await self._clock.sleep(self._interval)
            try:
                await self.tick()
            except Exception:  # noqa: BLE001 - the top of a task
                self._counts.reap_errors += 1
                self._log.exception("reaper tick broke")

    async def tick(self) -> None:
        """Stop each workspace of a snapshot that is due, a bounded number at once."""
        self._asking.look_at_the_clock()
        limit = asyncio.Semaphore(self._concurrency)
        now = self._clock.monotonic()
        unused = [each for each in self._tracked.values() if not self._judge.is_plainly_in_use(each, now)]
        some = [tracked for tracked in unused if self._is_candidate(tracked)]
        for tracked in set(unused).difference(some):
            if tracked.phase is Phase.RUNNING:
                self._spared(tracked)
        if some:
            async with asyncio.TaskGroup() as group:
                for tracked in some:
                    group.create_task(self._reap(tracked, limit))
        self._counts.looked_at = self._clock.monotonic()

    def _is_candidate(self, tracked: Tracked) -> bool:
        """Tell whether it is due, or may be: what gave no answer is asked again."""
        verdict = self._verdict(tracked)
        return verdict is not None and (verdict.due < self._clock.monotonic() or verdict.fate is Fate.UNKNOWN)

    def _verdict(self, tracked: Tracked) -> Verdict | None:
        """Return what becomes of it; None if it does not run, or is not the one that is tracked any more."""
        if tracked.phase is not Phase.RUNNING or self._tracked.get(tracked.key) is not tracked:
            return None
        return self._judge.verdict(tracked, self._clock.monotonic())

    def _due(self, tracked: Tracked) -> Verdict | None:
        """Return why it is to be stopped now; None if it is not."""
        verdict = self._verdict(tracked)
        return verdict if verdict is not None and verdict.due < self._clock.monotonic() else None

    async def _reap(self, tracked: Tracked, limit: asyncio.Semaphore) -> None:
        """Ask, mark, wait, look again, stop. What is contested, or cannot be marked, lives until the next tick."""
        mark: Mark | None = None
        try:
            async with limit:
                verdict = await self._ask(tracked) if self._is_candidate(tracked) else None
                if verdict is None:
                    self._spared(tracked)
                    return
                if self._is_dry:
                    self._tell(tracked, verdict)
                    self._counts.vetoes.add("dry-run")
                    return
                if verdict.fate is not Fate.TOO_OLD:  # to which nobody can object
                    mark = await self._backend.mark(tracked.key, self._record.last_active(tracked))
            if mark is not None:
                await self._clock.sleep(self._grace)
            async with limit:
                verdict = self._due(tracked)
                if mark is not None and verdict is not None:
                    verdict = await self._ask(tracked)
                await self._carry_out(tracked, verdict, mark)
        except Contested as contested:
            self._counts.vetoes.add("contested")
            if contested.last_active is not None:
                self._record.learn(tracked, contested.last_active)
            self._log.info("reap contested: id=%s: %s", tracked.key.workspace_id, contested)
        except ProxyError as error:
            self._counts.vetoes.add("backend")
            self._log.warning("reap put off: id=%s: %s", tracked.key.workspace_id, error)
        except Exception:  # noqa: BLE001 - one workspace's defect must not keep all others running for ever
            self._counts.reap_errors += 1
            self._log.exception("reap broke: id=%s", tracked.key.workspace_id)

    async def _ask(self, tracked: Tracked) -> Verdict | None:
        """Return why it is to be stopped, after its server was asked what its kernels do where that matters."""
        verdict = self._verdict(tracked)
        if verdict is not None and self._judge.is_askable(tracked, verdict):
            await self._asking.ask(tracked)
        return self._due(tracked)

    async def _carry_out(self, tracked: Tracked, verdict: Verdict | None, mark: Mark | None) -> None:
        """Stop it if it is still due; withdraw the mark if it is not. From the look to STOPPING nothing awaits."""
        if verdict is not None:
            self._tell(tracked, verdict)
            stop = self._begin_stop(tracked.key, verdict.why, mark)
            await asyncio.wait((stop,))
            error = None if stop.cancelled() else stop.exception()
            if isinstance(error, Contested):
                self._counts.vetoes.add("contested")
            elif error is not None:
                self._counts.vetoes.add("backend")
            elif not stop.cancelled():
                self._counts.reaps.add(verdict.fate.value)
            return
        self._spared(tracked)
        if mark is not None and tracked.phase is Phase.RUNNING:
            self._record.pardon(tracked)

    def _spared(self, tracked: Tracked) -> None:
        """Count what nobody uses and is not stopped now, by why."""
        verdict = self._verdict(tracked)
        self._counts.vetoes.add((verdict.fate if verdict is not None else Fate.NOT_RUNNING).value)

    def _tell(self, tracked: Tracked, verdict: Verdict) -> None:
        """Log why it is stopped, or would be, and what counted last; of what would be, once after each use."""
        if self._is_dry and tracked.told_dry >= tracked.touched:
            return
        tracked.told_dry = self._clock.monotonic()
        seen = self._record.counted(tracked)
        self._log.info(
            "workspace %s: id=%s namespace=%s why=%r counted=%r at=%s idle=%.0fs",
            "would be reaped" if self._is_dry else "reaped",
            tracked.key.workspace_id,
            tracked.key.namespace,
            verdict.why,
            seen.what if seen else "nothing that this replica saw",
            (seen.at if seen else self._record.last_active(tracked)).isoformat(timespec="seconds"),
            self._clock.monotonic() - tracked.touched,
        )
