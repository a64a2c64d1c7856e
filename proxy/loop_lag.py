"""How late the event loop is: by how much it runs a timer after its time.

Whatever holds the loop holds every workspace's traffic, and is seen here first.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from proxy.counts import LAG_SECONDS, Histogram

_EVERY: Final = 0.5  # seconds


class LoopLag:
    """Measures from its making until `close`, in the running event loop.

    Attributes:
        seconds: by how much each timer was late.
    """

    def __init__(self) -> None:
        self.seconds = Histogram(LAG_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._set()

    def close(self) -> None:
        """Measure no more."""
        self._timer.cancel()

    def _set(self) -> None:
        # The loop's own clock stands still while the loop is held.
        self._due = time.monotonic() + _EVERY
        self._timer = self._loop.call_later(_EVERY, self._ring)

    def _ring(self) -> None:
        self.seconds.observe(max(time.monotonic() - self._due, 0.0))
        self._set()
