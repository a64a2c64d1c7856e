"""End what takes too long, with one timer for all of it.

Everything in one `Deadlines` has the same time, so what began first is late first: to begin and to end cost a
dictionary's entry, and nothing runs while nothing is waited for.
"""

from __future__ import annotations

import asyncio
from itertools import takewhile
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class Deadlines(Generic[T]):
    """Calls `expire` with each thing that was started and not stopped within so many seconds.

    Args:
        seconds: how long each has; None for ever.
        expire: takes what is late; it is stopped by then, and may be started again.
    """

    def __init__(self, seconds: float | None, expire: Callable[[T], None]) -> None:
        self._seconds = seconds
        self._expire = expire
        self._since: dict[T, float] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, item: T) -> bool:
        return item in self._since

    def start(self, item: T) -> None:
        """Give it its time, from now on."""
        if self._seconds is None:
            return
        loop = asyncio.get_running_loop()
        self._since.pop(item, None)
        self._since[item] = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._look)

    def stop(self, item: T) -> None:
        """Forget it; what is not there is no error."""
        self._since.pop(item, None)
        if not self._since and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """End what is late, and come again when the next one will be."""
        assert self._seconds is not None
        loop = asyncio.get_running_loop()
        now = loop.time()
        latest = now - self._seconds
        late = [item for item, _ in takewhile(lambda pair: pair[1] <= latest, self._since.items())]
        for item in late:
            del self._since[item]
        oldest = next(iter(self._since.values()), None)
        self._timer = None if oldest is None else loop.call_at(oldest + self._seconds, self._look)
        for item in late:
            self._expire(item)
