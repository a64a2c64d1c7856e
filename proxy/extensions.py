"""Give a workspace more time, because somebody asks for it.

An extension only ever rises, and reaches `max_extend` from now at most. It is no use of the workspace: nothing else
that is measured by use changes.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from proxy.errors import ExtendRefused
from proxy.settings_types import format_value
from proxy.workspace import Phase

if TYPE_CHECKING:
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.due import Judge
    from proxy.ledger import Ledger
    from proxy.roster import Roster
    from proxy.workspace import Key

USUAL: Final = timedelta(hours=1)
"""What a person gets who asks for more time."""


class Extensions:
    """Extends. One per supervisor.

    Args:
        roster: what runs.
        judge: says when it is due.
        ledger: told of extensions.
        config: `max_extend`.
        clock: what time is measured by.
    """

    def __init__(self, roster: Roster, judge: Judge, ledger: Ledger, config: Config, clock: Clock) -> None:
        self._roster = roster
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
        tracked.extended = until
        self._ledger.note(key, "extended", f"Somebody asked for {format_value(by)} more.")
