"""What the supervisor is told by its backend: what runs, what ended, what others stored, how far a start has come.

A part of the supervisor, of which it alone is made. No method awaits or raises: news comes in the middle of anything.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.workspace import Event, Handle, Key, Phase

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    from proxy.backoff import BackOffs
    from proxy.clock import Clock
    from proxy.errors import StartStalled
    from proxy.extensions import Extensions
    from proxy.keeping import Keeping
    from proxy.ledger import Ledger
    from proxy.notes import Notes
    from proxy.record import Record
    from proxy.report import Progress
    from proxy.roster import Roster
    from proxy.walltime import WallTime


class News:
    """Takes it up. See `proxy.backends.Observer`.

    Args:
        roster: what is tracked.
        record: knows when each was last used.
        ledger: told of every change.
        back_offs: forgotten of what is found to run.
        extensions: learns of more time.
        keeping: learns what is stored.
        wall: what times that others wrote mean here.
        clock: what time is measured by.
        log: where changes of state are logged.
    """

    def __init__(
        self,
        roster: Roster,
        record: Record,
        ledger: Ledger,
        *,
        back_offs: BackOffs,
        extensions: Extensions,
        keeping: Keeping,
        wall: WallTime,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._roster = roster
        self._record = record
        self._ledger = ledger
        self._back_offs = back_offs
        self._extensions = extensions
        self._keeping = keeping
        self._wall = wall
        self._clock = clock
        self._monotonic = clock.monotonic
        self._log = log

    def lost(self, key: Key, handle: Handle, reason: str) -> None:
        """Drop a handle that is worth nothing any more: it refused a connection, or its server ended.

        Nothing happens if the workspace has another handle by now, so that news which comes late hurts nobody.
        """
        tracked = self._roster.get(key)
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
        tracked = self._roster.get(key)
        if tracked is None and not self._roster.is_closing:
            tracked = self._roster.add(key, None if last_active is None else -math.inf)
            tracked.handle = handle
            tracked.started = self._wall.moment(started) if started is not None else self._monotonic()
            self._roster.move(tracked, Event.FOUND, "It runs already; this proxy did not start it.")
            self._back_offs.clear(key)
            self._log.info("workspace found: id=%s namespace=%s", key.workspace_id, key.namespace)
        elif tracked is not None and tracked.phase is not Phase.STARTING:
            if handle is not tracked.handle and started is not None:
                tracked.started = self._wall.moment(started)
            tracked.handle, tracked.is_known = handle, True  # also of what is being stopped, should that fail
        else:
            return
        if last_active is not None:
            self._record.learn(tracked, last_active)

    def active(self, key: Key, at: datetime) -> None:
        """Raise its last activity to what somebody else has stored; never lowers it."""
        tracked = self._roster.get(key)
        if tracked is not None and tracked.phase is not Phase.STARTING:  # which counts as used when it is ready
            self._record.learn(tracked, at)

    def extended(self, key: Key, until: datetime) -> None:
        """Give it the time that somebody asked of another replica, or before a restart."""
        self._extensions.learn(key, until)

    def noted(self, key: Key, notes: Notes | None) -> None:
        """Take up what is stored of a workspace, whether it runs or not."""
        self._keeping.noted(key, notes)

    def profiled(self, key: Key, profile: str) -> None:
        """Note with which profile the server runs that starts or runs now."""
        tracked = self._roster.get(key)
        if tracked is not None and tracked.profile != profile:
            tracked.profile = profile
            self._ledger.bump(key)

    def condemned(self, key: Key) -> None:
        """Object to a reap if it has been used, now or as soon as it is."""
        tracked = self._roster.get(key)
        if tracked is not None and tracked.phase is Phase.RUNNING:
            self._record.condemn(tracked)

    def stalled(self, key: Key, trouble: StartStalled | None) -> None:
        """Tell those who wait for a start what is in its way; the start goes on."""
        tracked = self._roster.get(key)
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
        tracked = self._roster.get(key)
        if tracked is None or tracked.phase is not Phase.STARTING:
            return
        former = tracked.progress
        if former is not None and (former.step, former.words) == (progress.step, progress.words):
            return
        if tracked.times is not None:
            tracked.times.enter(progress.step, self._monotonic())
        tracked.progress = progress if progress.since else replace(progress, since=self._clock.now())
        self._ledger.bump(key)
