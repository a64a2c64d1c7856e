"""When a workspace is due to be stopped, and why it is not yet.

Pure: facts in, a verdict out; nothing here awaits, reads a clock or changes anything. Times are monotonic seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from proxy.report import Fate
from proxy.settings_types import format_value

if TYPE_CHECKING:
    from collections.abc import Iterator

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
        config: `reaper`, `max_busy`, `max_unknown`, `reap_warning`.
    """

    def __init__(self, config: Config) -> None:
        self._is_reaping = config.reaper
        self._max_busy = config.max_busy.total_seconds()
        self._max_unknown = config.max_unknown.total_seconds()
        self._warning = config.reap_warning.total_seconds()

    def verdict(self, tracked: Tracked, now: float) -> Verdict:
        """Return what becomes of it, as far as is known now."""
        if not self._is_reaping:
            return Verdict(math.inf, Fate.REAPER_OFF, "Nothing is stopped for being idle: the reaper is off.")
        kept = max(self._kept(tracked), key=lambda each: each.due)
        end = self.end(tracked)
        if end < kept.due:
            return Verdict(end, Fate.TOO_OLD, f"No workspace runs for longer than {_words(tracked.max_age)}.")
        if now <= kept.due:
            return kept
        return Verdict(kept.due, Fate.IDLE, self._idle_words(tracked, kept, now))

    def is_plainly_in_use(self, tracked: Tracked, now: float) -> bool:
        """Tell whether a glance shows that its verdict is neither due nor unknown: a tick looks at every workspace."""
        return (
            now <= max(tracked.touched, tracked.spared) + tracked.idle_ttl
            and now <= tracked.started + tracked.max_age
            and tracked.unknown_since < tracked.touched
        )

    def end(self, tracked: Tracked) -> float:
        """Return when it is stopped whatever it does; infinite where it never is."""
        return tracked.started + tracked.max_age

    def _kept(self, tracked: Tracked) -> Iterator[Verdict]:
        """Yield each reason for which it is kept, and until when."""
        used, idle = max(tracked.touched, tracked.spared), _words(tracked.idle_ttl)
        yield Verdict(used + tracked.idle_ttl, Fate.IN_USE, f"It was used within the last {idle}.")
        yield Verdict(tracked.extended, Fate.EXTENDED, "Somebody asked for more time.")
        if tracked.protect_busy:
            # What it says of itself is believed for so long, since a kernel that waits for input is busy for ever.
            until = min(tracked.worked + tracked.idle_ttl, used + self._max_busy)
            yield Verdict(until, Fate.BUSY, f"A kernel or terminal works, or did within the last {idle}.")
            if tracked.unknown_since >= tracked.touched:
                # What says nothing now and then is kept no longer than what works for ever.
                most = max(self._max_busy, tracked.idle_ttl + self._max_unknown)
                until = min(tracked.unknown_since + self._max_unknown, max(used, tracked.extended) + most)
                yield Verdict(until, Fate.UNKNOWN, "It does not say what its kernels do.")

    def _idle_words(self, tracked: Tracked, kept: Verdict, now: float) -> str:
        if kept.fate is Fate.EXTENDED:
            return "The time that somebody asked for is over, and nobody used it."
        if kept.fate is Fate.UNKNOWN:
            return f"Nobody uses it, and for {_words(self._max_unknown)} it has not said what its kernels do."
        if tracked.protect_busy and tracked.worked + tracked.idle_ttl >= now:
            return f"Its kernels have worked for {_words(self._max_busy)} without any other use."
        return f"It has not been used for {_words(tracked.idle_ttl)}."

    def is_askable(self, tracked: Tracked, verdict: Verdict) -> bool:
        """Tell whether it matters what its kernels do."""
        return tracked.protect_busy and verdict.fate not in (Fate.REAPER_OFF, Fate.TOO_OLD)

    def is_to_be_asked(self, tracked: Tracked, verdict: Verdict, now: float) -> bool:
        """Tell whether its server must say what its kernels do before people can be warned."""
        return self.warned_in(tracked, verdict, now) <= 0 and not self._is_known(tracked, verdict)

    def is_warned(self, tracked: Tracked, verdict: Verdict, now: float) -> bool:
        """Tell whether people are to be told that it is due soon."""
        return self.warned_in(tracked, verdict, now) <= 0 and self._is_known(tracked, verdict)

    def warned_in(self, tracked: Tracked, verdict: Verdict, now: float) -> float:
        """Return after how many seconds the warning begins; nothing or less where it has begun."""
        return self._warned_at(tracked, verdict) - now

    def _warned_at(self, tracked: Tracked, verdict: Verdict) -> float:
        return verdict.due - min(self._warning, tracked.idle_ttl / 2)

    def _is_known(self, tracked: Tracked, verdict: Verdict) -> bool:
        """Tell whether its server has been asked since the warning is due, or need not be."""
        return not self.is_askable(tracked, verdict) or tracked.asked >= self._warned_at(tracked, verdict)


@lru_cache(maxsize=256)  # a tick judges every workspace, and nearly all have the same settings
def _words(seconds: float) -> str:
    return format_value(timedelta(seconds=seconds))
