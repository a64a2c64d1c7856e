"""Stop workspaces: because somebody asks, or because the reaper does.

A workspace has at most one stop in flight, which callers share; a start in flight is cancelled first. What could not be
stopped stays tracked while it may still run, so that it is stopped again.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from proxy.errors import Contested, ProxyError, ShuttingDown, StartFailed, StopFailed
from proxy.waiting import unless_cut_off
from proxy.workspace import Event, Phase

if TYPE_CHECKING:
    import logging

    from proxy.backends import Backend, Mark
    from proxy.clock import Clock
    from proxy.counts import SupervisorCounts
    from proxy.keeping import Keeping
    from proxy.record import Record
    from proxy.roster import Roster
    from proxy.starts import Starts
    from proxy.tracked import Tracked
    from proxy.workspace import Key


class Stops:
    """Stops. One per supervisor.

    Args:
        roster: what is tracked.
        backend: stops.
        record: learns of newer activity that contests a stop.
        starts: begins what was asked for while it was being stopped.
        keeping: stores how it ended.
        clock: its wall clock stamps that.
        log: where changes of state are logged.
        counts: of starts that are cut short.
    """

    def __init__(
        self,
        roster: Roster,
        backend: Backend,
        record: Record,
        starts: Starts,
        *,
        keeping: Keeping,
        clock: Clock,
        log: logging.Logger,
        counts: SupervisorCounts,
    ) -> None:
        self._roster = roster
        self._backend = backend
        self._record = record
        self._starts = starts
        self._keeping = keeping
        self._clock = clock
        self._log = log
        self._counts = counts

    async def stop(self, key: Key, reason: str) -> None:
        """Stop the workspace and return when it is gone; joins a stop in flight.

        Raises:
            ProxyError: see `Supervisor.stop`.
        """
        key.safe_deployment_name()
        while True:
            tracked = self._roster.get(key)
            in_flight = None
            if tracked is not None and tracked.phase is Phase.STOPPING:
                in_flight, tracked.is_wanted = tracked.task, False  # the last word holds
            task = in_flight or self.begin(key, reason)
            await asyncio.wait((task,))
            if task.cancelled():
                raise ShuttingDown
            try:
                return task.result()  # of this task: by the time it ends, the workspace may have another
            except Contested:
                if in_flight is None:
                    raise
                # It was a reap, which somebody's use called off; it does not call off this.

    def begin(self, key: Key, reason: str, mark: Mark | None = None) -> asyncio.Task[None]:
        """Move to STOPPING now, whatever the phase; the work is the task that is returned."""
        tracked = self._roster.get(key)
        if tracked is None:
            tracked = self._roster.add(key)
            tracked.is_known = False  # another replica may have started it
        starting = tracked.task
        if tracked.phase is Phase.STARTING:
            self._counts.starts.add("stopped")
        tracked.progress, tracked.is_wanted = None, False
        self._roster.move(tracked, Event.STOP, reason)
        tracked.fail(StartFailed("stopped", "It was stopped while it was starting.", retry_after=1))
        tracked.task = self._roster.spawn(self._stop(tracked, starting, reason, mark), f"stop {key.workspace_id}")
        # Its failure is logged where it happens; the callers may be gone.
        tracked.task.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        return tracked.task

    async def _stop(
        self, tracked: Tracked, starting: asyncio.Task[None] | None, reason: str, mark: Mark | None
    ) -> None:
        key, has_run = tracked.key, tracked.handle is not None  # whose end is told as a loss meanwhile
        if starting is not None:
            starting.cancel()
            await asyncio.wait((starting,))
        try:
            await unless_cut_off(self._backend.stop(key, mark))
        except Contested as contested:
            self._stuck(tracked, f"Not stopped: {contested}")
            self._log.info("stop contested: id=%s: %s", key.workspace_id, contested)
            if contested.last_active is not None:
                self._record.learn(tracked, contested.last_active)
            raise
        except Exception as error:
            self._stuck(tracked, f"It could not be stopped: {error}")
            self._log.exception("workspace could not be stopped: id=%s namespace=%s", key.workspace_id, key.namespace)
            if isinstance(error, StopFailed):
                raise
            raise StopFailed(f"Workspace {key.workspace_id!r} could not be stopped: {error}") from error
        last_used = self._record.last_active(tracked)
        self._roster.move(tracked, Event.GONE, reason)
        if has_run:
            self._keeping.stopped(key, last_used, reason, self._clock.now())
        self._log.info("workspace stopped: id=%s namespace=%s reason=%s", key.workspace_id, key.namespace, reason)
        self._start_anew(tracked)

    def _stuck(self, tracked: Tracked, reason: str) -> None:
        """It was not stopped: keep what may still run, so that it is stopped again; forget what is not known to run."""
        tracked.task = None
        if tracked.handle is not None:
            self._roster.move(tracked, Event.STUCK, reason)
        else:
            self._roster.move(tracked, Event.FAILED, reason)
            self._start_anew(tracked)

    def _start_anew(self, tracked: Tracked) -> None:
        """Start what somebody asked for while it was being stopped, unless it must not be tried now."""
        if tracked.is_wanted:
            with suppress(ProxyError):
                self._starts.begin(tracked.key, tracked.user)
