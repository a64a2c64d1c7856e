"""Whether the proxy is well: the tasks that must live while it serves, and what it still waits for.

A part that has such a task has it followed here; whoever is asked for the proxy's health reads it. Pure of any I/O.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio

logger = logging.getLogger(__name__)


class Vitals:
    """What is known of it. One per process."""

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], bool] = {}  # with each, whether it may end well
        self._awaited: dict[str, None] = {}
        self.is_draining = False
        """It is about to end: it is not ready any more, and its tasks may end."""

    def follow(self, task: asyncio.Task[Any], *, ends: bool = False) -> None:
        """Miss this task, by its name, once it is over, which is also logged.

        Args:
            task: somebody else's; it stays theirs.
            ends: whether it does well to return.
        """
        self._tasks[task] = ends
        task.add_done_callback(self._on_end)

    def expect(self, what: str) -> None:
        """Count as not ready until this is `met`."""
        self._awaited[what] = None

    def met(self, what: str) -> None:
        """Wait for this no longer."""
        self._awaited.pop(what, None)

    def dead(self) -> list[str]:
        """Return the names of the tasks that are over and should not be; none while it ends."""
        if self.is_draining:
            return []
        return [
            task.get_name() for task, ends in self._tasks.items() if task.done() and not (ends and _went_well(task))
        ]

    def unready(self) -> list[str]:
        """Return why no client should be sent here now, in words."""
        waiting = [f"waits for {what}" for what in self._awaited]
        return [*waiting, "is ending"] if self.is_draining else waiting

    def _on_end(self, task: asyncio.Task[Any]) -> None:
        if self.is_draining or (self._tasks[task] and _went_well(task)):
            return
        error = None if task.cancelled() else task.exception()
        logger.error("a task is over that must live: name=%s", task.get_name(), exc_info=error)


def _went_well(task: asyncio.Task[Any]) -> bool:
    return not task.cancelled() and task.exception() is None
