"""Which requests are being carried, and for which workspace: what a shutdown waits for, and what it cuts off.

One per gateway. A stream of events is not waited for: it has no end of its own, and is ended by whoever serves it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from proxy.workspace import Key


class InFlight:
    """The requests and websockets that are under way."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._carried: Counter[Key] = Counter()
        self._is_quiet = asyncio.Event()
        self._is_quiet.set()
        self.is_draining = False
        """Each answer is the last on its connection."""

    def __len__(self) -> int:
        return len(self._tasks)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Count the request of the current task for as long as the context lasts."""
        task = asyncio.current_task()
        assert task is not None  # the server runs each request as a task
        self._tasks.add(task)
        self._is_quiet.clear()
        try:
            yield
        finally:
            self._leave(task)

    @contextmanager
    def carried(self, key: Key) -> Iterator[None]:
        """Count what is relayed to a workspace for as long as the context lasts."""
        self._carried[key] += 1
        try:
            yield
        finally:
            self._carried[key] -= 1
            if not self._carried[key]:
                del self._carried[key]

    def connections(self, key: Key) -> int:
        """Return how many requests and websockets are being relayed to a workspace."""
        return self._carried.get(key, 0)

    def exempt(self) -> None:
        """Count the request of the current task no more: nobody waits for its end."""
        task = asyncio.current_task()
        assert task is not None
        self._leave(task)

    async def drain(self, seconds: float) -> bool:
        """Wait until nothing is under way, for at most so long; tell whether that was reached."""
        self.is_draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._is_quiet.wait()
        except TimeoutError:
            return False
        return True

    def cut_off(self) -> None:
        """End what is under way, in a way that no client can take for the end of an answer."""
        for task in self._tasks:
            task.cancel()

    def _leave(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not self._tasks:
            self._is_quiet.set()
