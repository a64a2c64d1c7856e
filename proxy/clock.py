"""Time, passed in: what the supervisor measures and waits by."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock for idle times, a wall clock for people, and a way to wait."""

    def monotonic(self) -> float:
        """Return seconds since some fixed moment; never goes back."""
        ...

    def now(self) -> datetime:
        """Return the wall-clock time, with its zone (UTC)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after that many seconds of this clock; cancelling ends it at once."""


class SystemClock:
    """The machine's own clock."""

    monotonic = staticmethod(time.monotonic)

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(UTC)

    async def sleep(self, seconds: float) -> None:
        """Wait in the running event loop."""
        await asyncio.sleep(seconds)
