"""Start, keep and stop notebook servers: the only owner of who is running.

A workspace has at most one start or stop in flight; concurrent callers share it, and one caller's cancellation never
cancels it for others. Look-up, join, change of phase and touch never await, so no two of them interleave.
Knows nothing of HTTP or Kubernetes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from proxy.asking import Asking
from proxy.backoff import BackOffs
from proxy.clock import Clock, SystemClock
from proxy.counts import SupervisorCounts
from proxy.due import Judge
from proxy.errors import ShuttingDown
from proxy.extensions import Extensions
from proxy.keeping import Keeping
from proxy.ledger import Ledger
from proxy.news import News
from proxy.preferences import Preferences
from proxy.quota import Quota
from proxy.reaper import Reaper
from proxy.record import Record
from proxy.reporting import Reporting
from proxy.roster import Roster
from proxy.starts import Starts
from proxy.stops import Stops
from proxy.walltime import WallTime
from proxy.warning import Warnings
from proxy.workspace import Handle, Key, Phase

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from proxy.asking import Ask
    from proxy.backends import Backend
    from proxy.config import Config
    from proxy.profiles import Profile
    from proxy.report import Report
    from proxy.workspace_settings import WorkspaceSettings


class Supervisor(News):
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
        self.counts = counts = SupervisorCounts()
        """What has happened, in numbers."""
        log, clock = logger or logging.getLogger(__name__), clock or SystemClock()
        self._is_reaping = config.reaper
        self._preferences = preferences = Preferences(config)
        back_offs, ledger, judge = BackOffs(clock.monotonic), Ledger(clock), Judge(config)
        wall = WallTime(clock, config.idle_ttl.total_seconds())
        record = Record(backend, config, clock=clock, log=log)
        roster = Roster(ledger, record, preferences, clock, counts)
        keeping = Keeping(roster, backend, ledger, preferences, log=log)
        extensions = Extensions(roster, record, backend, ledger, config, judge=judge, clock=clock, log=log)
        super().__init__(
            roster,
            record,
            ledger,
            back_offs=back_offs,
            extensions=extensions,
            keeping=keeping,
            wall=wall,
            clock=clock,
            log=log,
        )
        self._tracked = tracked = roster.tracked
        self._read_log = backend.log
        self._starts = starts = Starts(
            roster,
            backend,
            record,
            ledger,
            config,
            back_offs=back_offs,
            quota=Quota(backend, tracked, config, clock.monotonic),
            keeping=keeping,
            clock=clock,
            log=log,
            counts=counts,
        )
        self._stops = stops = Stops(
            roster, backend, record, starts, keeping=keeping, clock=clock, log=log, counts=counts
        )
        asking = Asking(ask or _ask_jupyter(), wall, clock)
        self._reaper = Reaper(
            stops.begin,
            tracked,
            record,
            backend,
            config,
            judge=judge,
            asking=asking,
            clock=clock,
            log=log,
            counts=counts,
        )
        self._warnings = Warnings(tracked, judge, asking, ledger, config, clock=clock, log=log)
        self._reporting = Reporting(roster, record, ledger, judge=judge, preferences=preferences, clock=clock)
        backend.observe(self)

    # What a request needs -------------------------------------------------------------------------------------------

    async def ensure_running(self, key: Key, timeout: float | None = None, *, user: str = "") -> Handle:  # noqa: ASYNC109 - of its clock
        """Return the handle of a running workspace, starting it if it is not there. Touches it.

        A workspace that runs is answered without awaiting any I/O; one that is being stopped is waited for and started
        anew. Cancelling one caller does not cancel a start that others share, nor the start itself.

        Args:
            key: which.
            timeout: seconds that this caller waits for; by default `ready_timeout`.
            user: for whom it would be started; nobody has no limits.

        Raises:
            InvalidKey: the id is not a DNS-1123 label, or too long (63 characters with its prefix).
            StartTimeout: not ready in that time; the start goes on, and a retry joins it.
            StartFailed: it cannot become ready, or failed so recently that it is not tried again yet; carries the
                reason for people, the code for programs, and the seconds to wait.
            StartStalled: something is in its way that may heal; the start goes on, and a retry joins it.
            TooManyStarts: so many others wait for their turn to start that it may not.
            LimitReached: the user has started, or runs, as many as one user may.
            ShuttingDown: `close` was called.
        """
        tracked = self._tracked.get(key)
        if tracked is not None and tracked.phase is Phase.RUNNING:
            self._record.touch(tracked, "")
            assert tracked.handle is not None  # RUNNING has a handle
            return tracked.handle
        return await self._starts.wake(key, timeout, user=user)

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
            self.counts.ignored += 1
            tracked.ignored, tracked.ignored_at = what, self._monotonic()

    def last_active(self, key: Key) -> datetime | None:
        """Return when the workspace was last used (UTC), here or elsewhere, or None where it is not tracked."""
        tracked = self._tracked.get(key)
        return None if tracked is None else self._record.last_active(tracked)

    def phases(self) -> dict[Key, Phase]:
        """Return a snapshot of the workspaces that are starting, running or stopping."""
        return {key: tracked.phase for key, tracked in self._tracked.items()}

    @property
    def waiting(self) -> int:
        """How many starts wait for their turn."""
        return self._starts.waiting

    def begin(self, key: Key, user: str = "") -> None:
        """Start it in the background, without waiting. What runs or starts is left alone, and not touched.

        What is being stopped is started when it is gone.

        Raises:
            InvalidKey: the id cannot name a workspace.
            StartFailed: it failed so recently that it is not tried again yet.
            TooManyStarts: so many others wait for their turn to start that it may not.
            LimitReached: the user has started, or runs, as many as one user may.
            ShuttingDown: `close` was called.
        """
        self._starts.begin(key, user)

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

    async def log(self, key: Key, lines: int) -> str:
        """Return the last lines that its notebook server has written, without its token.

        Raises:
            NoLog: there is none.
            BackendUnavailable: it cannot be read just now.
        """
        return await self._read_log(key, lines)

    async def set_settings(self, key: Key, settings: WorkspaceSettings) -> Report:
        """Store a workspace's own settings in place of those that it has; a profile takes effect at its next start.

        Raises:
            InvalidKey: the id cannot name a workspace.
            SettingsRefused: they go beyond what the operator allows.
            NotKept: they could not be stored; nothing has changed.
        """
        await self._keeping.set_settings(key, settings)
        report = self.report(key)
        assert report is not None  # of what is stored
        return report

    @property
    def profiles(self) -> list[Profile]:
        """What the operator offers, in order."""
        return list(self._preferences.profiles.values())

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
