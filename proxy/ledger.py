"""What happened to workspaces of late, and a number that rises with it, so that pages can wait for news.

A workspace that is tracked, or of which something is stored, is always remembered; of others the newest few thousand.
Memory is bounded: a waiter costs one future, which goes with it. Decides nothing.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from proxy.report import Happening, Seen, Trouble

if TYPE_CHECKING:
    from datetime import datetime

    from proxy.clock import Clock
    from proxy.notes import Notes
    from proxy.workspace import Key

HAPPENINGS: Final = 20  # per workspace
STARTS: Final = 50  # whose durations make the usual one
PAST: Final = 5_000  # workspaces that are remembered though nothing runs for them


@dataclass(slots=True, eq=False)
class Entry:
    """What is remembered of one workspace."""

    version: int = 0
    happenings: deque[Happening] = field(default_factory=lambda: deque(maxlen=HAPPENINGS))
    notes: Notes | None = None  # what is stored of it; None where nothing is known to be
    failure: Trouble | None = None
    stopped: Happening | None = None
    last_active: datetime | None = None  # this and the next two of what runs no longer
    counted: Seen | None = None
    ignored: Seen | None = None


class Ledger:
    """Remembers. One per supervisor.

    Args:
        clock: its wall clock stamps what happens.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._entries: dict[Key, Entry] = {}
        self._past: OrderedDict[Key, None] = OrderedDict()
        self._version = 0
        self._waiters: dict[Key | None, set[asyncio.Future[None]]] = {}
        self._starts: deque[float] = deque(maxlen=STARTS)

    @property
    def keys(self) -> list[Key]:
        """Every workspace that is remembered."""
        return list(self._entries)

    def find(self, key: Key) -> Entry | None:
        """Return what is remembered of a workspace."""
        return self._entries.get(key)

    def entry(self, key: Key) -> Entry:
        """Return what is remembered of a workspace, from now on."""
        self._past.pop(key, None)
        return self._entries.setdefault(key, Entry())

    def pass_on(self, key: Key) -> None:
        """Nothing runs for it any more: remember it for a while, or for as long as something is stored of it."""
        entry = self.entry(key)
        if entry.notes is not None:
            return
        if not entry.happenings:
            del self._entries[key]
            return
        self._past[key] = None
        self._past.move_to_end(key)
        while len(self._past) > PAST:
            del self._entries[self._past.popitem(last=False)[0]]

    def note(self, key: Key, what: str, reason: str = "") -> Happening:
        """Write down what happened, and tell those who wait for it."""
        happening = Happening(self._clock.now(), what, reason)
        self._entries.setdefault(key, Entry()).happenings.append(happening)
        self.bump(key)
        return happening

    def bump(self, key: Key) -> None:
        """Tell those who wait that something has changed."""
        self._version += 1
        entry = self._entries.get(key)
        if entry is not None:
            entry.version = self._version
        for place in (key, None):
            for waiter in self._waiters.get(place, ()):
                if not waiter.done():
                    waiter.set_result(None)

    async def changed(self, key: Key | None, than: int) -> int:
        """Return the version of a workspace, or the newest of all, once it is newer than that."""
        while (version := self.version_of(key)) <= than:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiters = self._waiters.setdefault(key, set())
            waiters.add(waiter)
            try:
                await waiter
            finally:
                waiters.discard(waiter)
                if not waiters and self._waiters.get(key) is waiters:
                    del self._waiters[key]
        return version

    def version_of(self, key: Key | None) -> int:
        """Return the version of a workspace, 0 where nothing is known of it; or the newest of all."""
        if key is None:
            return self._version
        entry = self._entries.get(key)
        return entry.version if entry is not None else 0

    def took(self, seconds: float) -> None:
        """Note how long a start took."""
        self._starts.append(seconds)

    @property
    def usual_start_seconds(self) -> float | None:
        """The median of recent starts; None before the first."""
        return median(self._starts) if self._starts else None
