"""When a workspace is due to be stopped, and why it is not yet.

Pure: facts in, a verdict out; nothing here awaits, reads a clock or changes anything. Times are monotonic seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.report import Fate
from proxy.settings_types import format_value

if TYPE_CHECKING:
    from proxy.config import Config
    from proxy.tracked import Tracked


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a workspace that runs.

    Args:
        due: from then on it is to be stopped; infinite where it never is.
        fate: what that rests on.
        why: the same for people.
    """

    due: float
    fate: Fate
    why: str


class Judge:
    """Judges what runs. One per supervisor.

    Args:
        config: `idle_ttl`, `reap_warning`, `reaper`.
    """

    def __init__(self, config: Config) -> None:
        self._is_reaping = config.reaper
        self._idle_ttl = config.idle_ttl.total_seconds()
        self._in_use = f"It was used within the last {format_value(config.idle_ttl)}."
        self._idle = f"It has not been used for {format_value(config.idle_ttl)}."
        self._warning = min(config.reap_warning.total_seconds(), self._idle_ttl / 2)

    def verdict(self, tracked: Tracked, now: float) -> Verdict:
        """Return what becomes of it, as far as is known now."""
        if not self._is_reaping:
            return Verdict(math.inf, Fate.REAPER_OFF, "Nothing is stopped for being idle: the reaper is off.")
        due = max(tracked.touched, tracked.spared) + self._idle_ttl
        if due < tracked.extended:
            due = tracked.extended
            if now <= due:
                return Verdict(due, Fate.EXTENDED, "Somebody asked for more time.")
        if now <= due:
            return Verdict(due, Fate.IN_USE, self._in_use)
        return Verdict(due, Fate.IDLE, self._idle)

    def is_due(self, tracked: Tracked, now: float) -> bool:
        """Tell whether it is to be stopped now."""
        return self.verdict(tracked, now).due < now

    def is_warned(self, verdict: Verdict, now: float) -> bool:
        """Tell whether people are to be told that it is due soon."""
        return verdict.due - now <= self._warning
