"""Start, keep and stop notebook servers: the only owner of who is running.

A workspace has at most one start or stop in flight; concurrent callers share it, and one caller's cancellation never
cancels it for others. Look-up, join, change of phase and touch never await, so no two of them interleave.
Knows nothing of HTTP or Kubernetes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.asking import Asking
from proxy.backoff import BackOffs
from proxy.clock import Clock, SystemClock
from proxy.due import Judge
from proxy.errors import ShuttingDown, StartStalled
from proxy.extensions import Extensions
from proxy.ledger import Ledger
from proxy.reaper import Reaper
from proxy.record import Record
from proxy.reporting import Reporting
from proxy.roster import Roster
from proxy.starts import Starts
from proxy.stops import Stops
from proxy.walltime import WallTime
from proxy.warning import Warnings
from proxy.workspace import Event, Handle, Key, Phase

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from proxy.asking import Ask
    from proxy.backends import Backend
    from proxy.config import Config
    from proxy.report import Progress, Report


class Supervisor:
    """Keeps notebook servers running while they are used.

    One per event loop; its methods are called from that loop alone.

    Args:
        backend: what starts and stops them.
        config: `ready_timeout`, `idle_ttl`, `reaper`, `reap_interval` and `reap_grace` are read; empty values are the
            defaults.
        logger: where state changes are logged; by default this module's.
        clock: what time is measured by.
        ask: asks a notebook server what its kernels and terminals do; by default over HTTP, as Jupyter answers.
    """

    def __init__(
        self,
        backend: Backend,
        config: Config,
        logger: logging.Logger | None = None,
        *,
        clock: Clock | None = None,
        ask: Ask | None = None,
    ) -> None:
        config = config.with_defaults()
        self._log = log = logger or logging.getLogger(__name__)
        self._clock = clock = clock or SystemClock()
        self._monotonic = clock.monotonic
        self._is_reaping = config.reaper
        self._back_offs = BackOffs(self._monotonic)
        self._ledger = ledger = Ledger(clock)
        self._record = record = Record(backend, config, clock=clock, log=log)
        self._roster = roster = Roster(ledger, record, clock)
        self._tracked = roster.tracked
        self._starts = Starts(roster, backend, record, ledger, config, back_offs=self._back_offs, clock=clock, log=log)
        self._stops = Stops(roster, backend, record, self._starts, log=log)
        self._judge = judge = Judge(config)
        self._wall = WallTime(clock, config.idle_ttl.total_seconds())
        asking = Asking(ask or _ask_jupyter(), self._wall, clock)
        self._reaper = Reaper(
            self._stops.begin, self._tracked, record, backend, config, judge=judge, asking=asking, clock=clock, log=log
        )
        self._warnings = Warnings(self._tracked, judge, asking, ledger, config, clock=clock, log=log)
        self._reporting = Reporting(roster, record, ledger, judge, clock)
        self._extensions = Extensions(roster, record, backend, ledger, config, judge=judge, clock=clock, log=log)
        backend.observe(self)

    # What a request needs -------------------------------------------------------------------------------------------

    async def ensure_running(self, key: Key, timeout: float | None = None) -> Handle:  # noqa: ASYNC109 - of its clock
        """Return the handle of a running workspace, starting it if it is not there. Touches it.

        A workspace that runs is answered without awaiting any I/O; one that is being stopped is waited for and started
        anew. Cancelling one caller does not cancel a start that others share, nor the start itself.

        Args:
            key: which.
            timeout: seconds that this caller waits for; by default `ready_timeout`.

        Raises:
            InvalidKey: the id is not a DNS-1123 label, or too long (63 characters with its prefix).
            StartTimeout: not ready in that time; the start goes on, and a retry joins it.
            StartFailed: it cannot become ready, or failed so recently that it is not tried again yet; carries the
                reason for people, the code for programs, and the seconds to wait.
            StartStalled: something is in its way that may heal; the start goes on, and a retry joins it.
            TooManyStarts: so many others wait for their turn to start that it may not.
            ShuttingDown: `close` was called.
        """
        tracked = self._tracked.get(key)
        if tracked is not None and tracked.phase is Phase.RUNNING:
            self._record.touch(tracked, "")
            assert tracked.handle is not None  # RUNNING has a handle
            return tracked.handle
        return await self._starts.wake(key, timeout)

    def running(self, key: Key) -> Handle | None:
        """Return the handle of a workspace that runs, else None. Starts nothing and does not touch."""
        tracked = self._tracked.get(key)
        return tracked.handle if tracked is not None and tracked.phase is Phase.RUNNING else None

    def is_starting(self, key: Key) -> bool:
        """Tell whether a start is in flight, which `ensure_running` would join."""
        tracked = self._tracked.get(key)
        return tracked is not None and tracked.phase is Phase.STARTING

    def touch(self, key: Key, what: str = "") -> None:
        """Record activity now. Never blocks, never awaits, never fails; nothing where the key is not tracked.

        `what` it was is kept for people: a request line without its query, or which websocket's frame.
        """
        tracked = self._tracked.get(key)
        if tracked is not None:
            self._record.touch(tracked, what)
            if tracked.is_warned:
                tracked.is_warned = False
                self._ledger.bump(key)

    def ignored(self, key: Key, what: str) -> None:
        """Remember what was seen and does not count, for people. It never raises the last activity."""
        tracked = self._tracked.get(key)
        if tracked is not None:
            tracked.ignored, tracked.ignored_at = what, self._monotonic()

    def last_active(self, key: Key) -> datetime | None:
        """Return when the workspace was last used (UTC), here or elsewhere, or None where it is not tracked."""
        tracked = self._tracked.get(key)
        return None if tracked is None else self._record.last_active(tracked)

    def phases(self) -> dict[Key, Phase]:
        """Return a snapshot of the workspaces that are starting, running or stopping."""
        return {key: tracked.phase for key, tracked in self._tracked.items()}

    def begin(self, key: Key) -> None:
        """Start it in the background, without waiting. What runs or starts is left alone, and not touched.

        What is being stopped is started when it is gone.

        Raises:
            InvalidKey: the id cannot name a workspace.
            StartFailed: it failed so recently that it is not tried again yet.
            TooManyStarts: so many others wait for their turn to start that it may not.
            ShuttingDown: `close` was called.
        """
        self._starts.begin(key)

    async def stop(self, key: Key, reason: str = "asked to") -> None:
        """Stop the workspace and return when it is gone; already gone is success. Files stay.

        Joins a stop in flight. A start in flight is cancelled, and those who wait for it get `StartFailed`. Cancelling
        the caller does not cancel the stop.

        Raises:
            InvalidKey: the id cannot name a workspace.
            StopFailed: it may still be running; a running workspace stays tracked, so that it is stopped again.
            ShuttingDown: `close` ended the stop half way.
        """
        await self._stops.stop(key, reason)

    def refuse_starts(self) -> None:
        """Start nothing any more: who asks for what does not run gets `ShuttingDown`. What runs is still served."""
        self._roster.is_closing = True

    async def close(self) -> None:
        """Start nothing any more, and end the starts and stops in flight. Notebook servers go on running.

        Those who wait for a start get `ShuttingDown`. Called again, it does nothing.
        """
        self.refuse_starts()
        for tracked in self._tracked.values():
            if tracked.phase is Phase.STARTING:
                tracked.fail(ShuttingDown())
        await self._roster.close()
        await self._record.close()

    # What people and programs are told ------------------------------------------------------------------------------

    def report(self, key: Key) -> Report | None:
        """Return what is known of a workspace now, also of one that is stopped; None where nothing is."""
        return self._reporting.report(key)

    def reports(self) -> list[Report]:
        """Return what is known of every workspace that runs, or that something is remembered of."""
        return self._reporting.reports()

    def known(self) -> list[Key]:
        """Return every workspace that runs, or that something is remembered of, without what is known of it."""
        return self._ledger.keys

    async def changed(self, key: Key | None, than: int) -> int:
        """Return the version of a workspace's report, or the newest of all, once that is newer than `than`.

        Use alone is no change: whoever shows when it was last used looks again now and then. Cancelling is free.
        """
        return await self._ledger.changed(key, than)

    def extend(self, key: Key, by: timedelta | None = None) -> Report:
        """Give a workspace more time before it is stopped for being idle; by default an hour.

        Returns:
            What is known of it then; `extended_until` is at most `max_extend` away.

        Raises:
            ExtendRefused: it does not run, has as much time already, or `by` is more than is allowed.
        """
        self._extensions.extend(key, by)
        report = self.report(key)
        assert report is not None  # of what runs
        return report

    # What others report ---------------------------------------------------------------------------------------------

    def lost(self, key: Key, handle: Handle, reason: str) -> None:
        """Drop a handle that is worth nothing any more: it refused a connection, or its server ended.

        Nothing happens if the workspace has another handle by now, so that news which comes late hurts nobody.
        """
        tracked = self._tracked.get(key)
        if tracked is None or tracked.handle is not handle:
            return
        tracked.handle = None  # so that a stop which fails does not bring it back
        if tracked.phase is Phase.RUNNING:
            self._roster.move(tracked, Event.LOST, reason)
            self._log.warning("workspace lost: id=%s namespace=%s reason=%s", key.workspace_id, key.namespace, reason)

    def found(self, key: Key, handle: Handle, last_active: datetime | None, started: datetime | None = None) -> None:
        """Adopt what runs without having been started here, or take its new handle; a start gets its own.

        Where nothing is stored it counts as used now.
        """
        tracked = self._tracked.get(key)
        if tracked is None and not self._roster.is_closing:
            tracked = self._roster.add(key, None if last_active is None else -math.inf)
            tracked.handle = handle
            tracked.started = self._wall.moment(started) if started is not None else self._monotonic()
            self._roster.move(tracked, Event.FOUND, "It runs already; this proxy did not start it.")
            self._back_offs.clear(key)
            self._log.info("workspace found: id=%s namespace=%s", key.workspace_id, key.namespace)
        elif tracked is not None and tracked.phase is not Phase.STARTING:
            tracked.handle = handle  # also of what is being stopped, should that fail
        else:
            return
        if last_active is not None:
            self._record.learn(tracked, last_active)

    def active(self, key: Key, at: datetime) -> None:
        """Raise its last activity to what somebody else has stored; never lowers it."""
        tracked = self._tracked.get(key)
        if tracked is not None and tracked.phase is not Phase.STARTING:  # which counts as used when it is ready
            self._record.learn(tracked, at)

    def extended(self, key: Key, until: datetime) -> None:
        """Give it the time that somebody asked of another replica, or before a restart."""
        self._extensions.learn(key, until)

    def condemned(self, key: Key) -> None:
        """Object to a reap if it has been used, now or as soon as it is."""
        tracked = self._tracked.get(key)
        if tracked is not None and tracked.phase is Phase.RUNNING:
            self._record.condemn(tracked)

    def stalled(self, key: Key, trouble: StartStalled | None) -> None:
        """Tell those who wait for a start what is in its way; the start goes on."""
        tracked = self._tracked.get(key)
        if tracked is None or tracked.phase is not Phase.STARTING or tracked.trouble is None:
            return
        if tracked.trouble.done():
            tracked.trouble = asyncio.get_running_loop().create_future()
        if trouble is None:
            self._ledger.bump(key)
            return
        tracked.trouble.set_result(trouble)
        tracked.trouble_since = self._monotonic()
        self._ledger.note(key, "stalled", f"{trouble.code}: {trouble}")
        self._log.warning("workspace stalled: id=%s code=%s: %s", key.workspace_id, trouble.code, trouble)

    def progress(self, key: Key, progress: Progress) -> None:
        """Note how far a start has come."""
        tracked = self._tracked.get(key)
        if tracked is None or tracked.phase is not Phase.STARTING:
            return
        former = tracked.progress
        if former is not None and (former.step, former.words) == (progress.step, progress.words):
            return
        tracked.progress = progress if progress.since else replace(progress, since=self._clock.now())
        self._ledger.bump(key)

    # Reaping --------------------------------------------------------------------------------------------------------

    async def run_reaper(self) -> None:
        """Stop what has been idle for `idle_ttl`, every `reap_interval`, until cancelled. Errors are logged.

        Returns at once where the `reaper` setting is off; the record of use is kept all the same.
        """
        if self._is_reaping:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reaper.run())
                group.create_task(self._warnings.run())


def _ask_jupyter() -> Ask:
    from proxy.backends.kernels import ask  # noqa: PLC0415 - whoever only wants --help does without its parser

    return ask
