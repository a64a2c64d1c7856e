"""Find the monotonic moment that a wall-clock time means, although somebody may have set the wall clock.

Times that others wrote down (a kernel's last activity, say) are of a clock that may have jumped since. Until a jump is
old, such a time is read by the clock of before and of after, and the newer of both is believed: nothing is idle because
a clock was set, or because the machine slept.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from proxy.clock import Clock

_JUMP: Final = 1.0  # seconds; what is less is how clocks are slewed, and does not matter here
_TOLD: Final = 60.0  # seconds; a jump that people are told of
_MOST: Final = 16  # jumps that are remembered

logger = logging.getLogger(__name__)


class WallTime:
    """Reads times of the wall clock. One per supervisor.

    Args:
        clock: both clocks.
        keep: seconds for which a jump matters.
    """

    def __init__(self, clock: Clock, keep: float) -> None:
        self._clock = clock
        self._keep = keep
        self._offsets: deque[tuple[float, float]] = deque(maxlen=_MOST)  # since when, and wall minus monotonic seconds
        self.look()

    def look(self) -> None:
        """Notice whether the wall clock was set; to be called now and then."""
        now = self._clock.monotonic()
        offset = self._clock.now().timestamp() - now
        by = offset - self._offsets[-1][1] if self._offsets else 0.0
        if not self._offsets or abs(by) > _JUMP:
            self._offsets.append((now, offset))
        if abs(by) > _TOLD:
            logger.warning("the wall clock jumped: seconds=%.0f; idle times are measured by another clock", by)
        while len(self._offsets) > 1 and now - self._offsets[1][0] > self._keep:
            self._offsets.popleft()

    def moment(self, at: datetime) -> float:
        """Return the monotonic moment that is meant; what is in the future is now."""
        self.look()
        newest = max(at.timestamp() - offset for _, offset in self._offsets)
        return min(newest, self._clock.monotonic())
