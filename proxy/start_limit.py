"""Let so many starts run at once; the others wait for their turn in the order in which they came.

A workspace has one start in flight, so nobody gets ahead by asking more often. No method awaits: whoever enters gets a
turn to wait for, and gives it back whatever came of it.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from proxy.errors import TooManyStarts

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.workspace import Key


class Turn:
    """One start's place: `granted` is done when it may run."""

    __slots__ = ("_waiting", "granted", "key", "number")

    def __init__(self, key: Key, number: int, waiting: Mapping[int, Turn]) -> None:
        self.key = key
        self.number = number
        self.granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting = waiting

    @property
    def ahead(self) -> int:
        """How many others get their turn before it, at most."""
        return self.number - next(iter(self._waiting)) if self.number in self._waiting else 0


class StartLimit:
    """Gives turns. One per supervisor.

    Args:
        at_once: how many starts run at once.
        most_waiting: how many more may wait.
        on_move: called with each workspace that has come nearer to its turn.
    """

    def __init__(self, at_once: int, most_waiting: int, on_move: Callable[[Key], None]) -> None:
        self._at_once = at_once
        self._most_waiting = most_waiting
        self._on_move = on_move
        self._running = 0
        self._waiting: dict[int, Turn] = {}  # by number, and so in order
        self._numbers = itertools.count()

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._waiting)

    def enter(self, key: Key) -> Turn:
        """Return a turn, granted already where there is room.

        Raises:
            TooManyStarts: as many wait as may.
        """
        if self._running >= self._at_once and len(self._waiting) >= self._most_waiting:
            raise TooManyStarts(len(self._waiting))
        turn = Turn(key, next(self._numbers), self._waiting)
        self._waiting[turn.number] = turn
        self._grant()
        return turn

    def leave(self, turn: Turn) -> None:
        """Give a turn back: its start has ended, or will not be."""
        if self._waiting.pop(turn.number, None) is None:
            self._running -= 1
        self._grant()
        for each in self._waiting.values():
            self._on_move(each.key)

    def _grant(self) -> None:
        while self._running < self._at_once:
            # One whose start was cancelled is about to leave.
            turn = next((turn for turn in self._waiting.values() if not turn.granted.done()), None)
            if turn is None:
                return
            del self._waiting[turn.number]
            self._running += 1
            turn.granted.set_result(None)
