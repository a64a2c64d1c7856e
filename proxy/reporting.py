"""Put together what can be told of a workspace, from what is tracked of it and what is remembered.

Reads, and changes nothing. Monotonic seconds become moments of the wall clock here.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from proxy.notes import Notes
from proxy.report import Happening, Progress, Report, Step, Trouble
from proxy.workspace import Phase

if TYPE_CHECKING:
    from proxy.clock import Clock
    from proxy.due import Judge
    from proxy.ledger import Entry, Ledger
    from proxy.preferences import Preferences
    from proxy.record import Record
    from proxy.roster import Roster
    from proxy.tracked import Tracked
    from proxy.workspace import Key


class Reporting:
    """Reports. One per supervisor.

    Args:
        roster: what starts, runs or stops.
        record: when it was last used; its wall clock is what people read.
        ledger: what is remembered.
        judge: when it is due.
        preferences: what of its settings holds.
        clock: what time is measured by.
    """

    def __init__(
        self, roster: Roster, record: Record, ledger: Ledger, *, judge: Judge, preferences: Preferences, clock: Clock
    ) -> None:
        self._roster = roster
        self._record = record
        self._ledger = ledger
        self._judge = judge
        self._preferences = preferences
        self._clock = clock

    def report(self, key: Key) -> Report | None:
        """Return what is known of a workspace now; None where nothing is."""
        entry = self._ledger.find(key)
        if entry is None:
            return None
        tracked = self._roster.get(key)
        now, notes = self._clock.monotonic(), entry.notes or Notes()
        running = tracked.profile if tracked is not None else None
        facts: dict[str, Any] = self._of_past(entry) if tracked is None else self._of_present(tracked, entry, now)
        return Report(
            key=key,
            version=entry.version,
            usual_start_seconds=self._ledger.usual_start_seconds,
            failure=entry.failure,
            happenings=tuple(entry.happenings),
            stopped=entry.stopped or _stop_of(notes),
            settings=notes.settings,
            owner=notes.owner,
            profile=self._preferences.profile_of(notes),
            running_profile=running,
            warnings=tuple(self._preferences.warnings(notes, running)),
            **facts,
        )

    def reports(self) -> list[Report]:
        """Return what is known of every workspace."""
        found = map(self.report, self._ledger.keys)
        return [report for report in found if report is not None]

    def _of_past(self, entry: Entry) -> dict[str, Any]:
        last = entry.happenings[-1] if entry.happenings else None
        return {
            "phase": Phase.STOPPED,
            "since": last.at if last else None,
            "last_active": entry.last_active or (entry.notes.last_used if entry.notes else None),
            "counted": entry.counted,
            "ignored": entry.ignored,
            "why": "It does not run.",
        }

    def _of_present(self, tracked: Tracked, entry: Entry, now: float) -> dict[str, Any]:
        facts: dict[str, Any] = {
            "phase": tracked.phase,
            "since": self._record.moment(tracked.since),
            "progress": _progress(tracked),
            "trouble": self._trouble(tracked),
            "last_active": self._record.last_active(tracked) if tracked.is_known else entry.last_active,
            "counted": self._record.counted(tracked) or entry.counted,
            "ignored": self._record.ignored(tracked) or entry.ignored,
            "extended_until": self._record.moment(tracked.extended) if tracked.extended > now else None,
            "why": "It does not run.",
        }
        if tracked.phase is Phase.RUNNING:
            verdict = self._judge.verdict(tracked, now)
            facts["due_at"] = self._record.moment(verdict.due) if verdict.due < math.inf else None
            facts["fate"], facts["why"] = verdict.fate, verdict.why
            facts["is_warned"] = self._judge.is_warned(tracked, verdict, now)
        return facts

    def _trouble(self, tracked: Tracked) -> Trouble | None:
        future = tracked.trouble
        if tracked.phase is not Phase.STARTING or future is None or not future.done():
            return None
        told = future.result()
        return Trouble(told.code, str(told), self._record.moment(tracked.trouble_since))


def _stop_of(notes: Notes) -> Happening | None:
    """Return how it ended, as it is stored."""
    return Happening(notes.stopped_at, "stopped", notes.stop_reason) if notes.stopped_at else None


def _progress(tracked: Tracked) -> Progress | None:
    """Return how far a start has come; of one that waits for its turn, how many are before it."""
    progress, turn = tracked.progress, tracked.turn
    if progress is None or progress.step is not Step.QUEUED or turn is None:
        return progress
    words = f"It waits for its turn to start; {turn.ahead} others are before it." if turn.ahead else "It starts next."
    return replace(progress, words=words)
