"""Give a workspace more time, because somebody asks for it.

An extension only ever rises, and reaches `max_extend` from now at most. It is stored with the notebook server, so that
it holds on every replica and over a restart of the proxy. It is no use of the workspace: nothing that is measured by
use changes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from proxy.errors import ExtendRefused, ProxyError
from proxy.settings_types import format_value
from proxy.workspace import Phase

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    from proxy.backends import Backend
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.due import Judge
    from proxy.ledger import Ledger
    from proxy.record import Record
    from proxy.roster import Roster
    from proxy.workspace import Key

USUAL: Final = timedelta(hours=1)
"""What a person gets who asks for more time."""
_SAME: Final = timedelta(seconds=2)  # by which two readings of one moment may differ


class Extensions:
    """Extends. One per supervisor.

    Args:
        roster: what runs; owns the writes.
        record: translates moments.
        backend: stores.
        ledger: told of extensions.
        config: `max_extend`.
        judge: says when it is due.
        clock: what time is measured by.
        log: where writes that fail are reported.
    """

    def __init__(
        self,
        roster: Roster,
        record: Record,
        backend: Backend,
        ledger: Ledger,
        config: Config,
        *,
        judge: Judge,
        clock: Clock,
        log: logging.Logger,
    ) -> None:
        self._roster = roster
        self._record = record
        self._backend = backend
        self._log = log
        self._now = clock.now
        self._judge = judge
        self._ledger = ledger
        self._longest = config.max_extend
        self._monotonic = clock.monotonic

    def extend(self, key: Key, by: timedelta | None) -> None:
        """Let it run for so much longer than it would: not idle before the moment at which it is due now, and `by`.

        Raises:
            ExtendRefused: see `Supervisor.extend`.
        """
        by = min(USUAL, self._longest) if by is None else by
        if not timedelta() < by <= self._longest:
            raise ExtendRefused("too-long", f"More time is given up to {format_value(self._longest)} from now.")
        tracked = self._roster.get(key)
        if tracked is None or tracked.phase is not Phase.RUNNING:
            raise ExtendRefused("not-running", "It does not run; start it, and it runs until nobody uses it.")
        now = self._monotonic()
        due = self._judge.verdict(tracked, now).due
        until = min(max(due, now) + by.total_seconds(), now + self._longest.total_seconds())
        if until <= max(due, tracked.extended):
            raise ExtendRefused("enough-time", f"It has as much time as is given: {format_value(self._longest)}.")
        if self._judge.end(tracked) <= max(due, now):
            raise ExtendRefused("max-age", "No more time is given: no workspace runs for longer than max_age.")
        tracked.extended = until
        tracked.is_warned = False
        self._ledger.note(key, "extended", f"Somebody asked for {format_value(by)} more.")
        self._roster.spawn(self._store(key, self._record.moment(until)), f"extend {key.workspace_id}")

    def learn(self, key: Key, until: datetime) -> None:
        """Raise it to what is stored. What is further ahead than anybody may ask for is not believed."""
        tracked = self._roster.get(key)
        ahead = until - self._now()
        if tracked is None or not timedelta() < ahead <= self._longest + _SAME:
            return
        at = self._monotonic() + ahead.total_seconds()
        if at > tracked.extended + _SAME.total_seconds():
            tracked.extended = at
            tracked.is_warned = False
            self._ledger.note(key, "extended", "Somebody asked for more time, of another replica or before a restart.")

    async def _store(self, key: Key, until: datetime) -> None:
        try:
            await self._backend.extend(key, until)
        except ProxyError as error:
            self._log.warning("extension not stored: id=%s: %s", key.workspace_id, error)
        except Exception:  # noqa: BLE001 - the top of a task
            self._log.exception("extension not stored: id=%s", key.workspace_id)
