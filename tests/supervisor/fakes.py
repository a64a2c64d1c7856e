"""What the supervisor is tested against: a clock that goes on by hand, and a backend that behaves.

Nothing here sleeps. `settle` runs the event loop until every task waits for something that only the test can bring
about, so a test says what happens and then looks at what came of it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from yarl import URL

from proxy.clock import SystemClock
from proxy.errors import Contested
from proxy.notes import read_notes
from proxy.workspace import Handle, Key

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.backends import Observer

KEY = Key("demo", "default")
_ROUNDS = 10_000


async def settle() -> None:
    """Run the loop until nothing in it can go on by itself.

    Raises:
        AssertionError: something spins.
    """
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    for _ in range(_ROUNDS):
        await asyncio.sleep(0)
        if not ready:
            return
    raise AssertionError("the tasks never come to rest")


class FakeClock:
    """Time that stands still until `advance`. Steps in halves of seconds keep its arithmetic exact."""

    def __init__(self) -> None:
        self._elapsed = 1000.0
        self._wall = datetime(2024, 2, 29, 12, tzinfo=UTC)
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self._elapsed

    def now(self) -> datetime:
        return self._wall

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        over = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed + seconds, next(self._order), over))
        await over

    async def advance(self, seconds: float) -> None:
        """Go on, and wake each sleeper at its own moment, in order, each after the last has done what it had to."""
        end = self._elapsed + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            moment, _, over = heapq.heappop(self._sleepers)
            if not over.done():
                self._go_on_to(moment)
                over.set_result(None)
                await settle()
        self._go_on_to(end)

    def jump(self, by: timedelta) -> None:
        """Set the wall clock, as an administrator or NTP does; the monotonic clock does not notice."""
        self._wall += by

    def _go_on_to(self, moment: float) -> None:
        self._wall += timedelta(seconds=moment - self._elapsed)
        self._elapsed = moment


@dataclass
class FakeCluster:
    """What replicas share: what runs, what is stored about its use, and who is about to reap it."""

    running: dict[Key, Handle] = field(default_factory=dict)
    last_active: dict[Key, datetime] = field(default_factory=dict)
    extended: dict[Key, datetime] = field(default_factory=dict)
    users: dict[Key, str] = field(default_factory=dict)  # for whom it runs
    notes: dict[Key, dict[str, str | None]] = field(default_factory=dict)  # outlives what runs
    marks: dict[Key, FakeBackend] = field(default_factory=dict)
    replicas: list[FakeBackend] = field(default_factory=list)
    ports: itertools.count[int] = field(default_factory=lambda: itertools.count(40_000))
    ended: list[Key] = field(default_factory=list)  # each stop that stopped something

    def end(self, key: Key) -> None:
        for kept in (self.running, self.last_active, self.extended, self.marks, self.users):
            kept.pop(key, None)


class FakeBackend:
    """Runs notebook servers that are only entries in `running`.

    Starts and stops end at once; while `slow_starts` or `slow_stops` is set, they end when the test says so. With a
    cluster it is one of the replicas there: it stores and marks, and tells its observer what the others did, as soon as
    they did it. Without, it is alone, and marks nothing.

    What the protocol promises to a backend is checked on each call; a promise that was broken is a sentence in
    `violations` (an exception would be taken for a failed start).
    """

    def __init__(self, cluster: FakeCluster | None = None) -> None:
        self.is_replica = cluster is not None
        self.cluster = cluster or FakeCluster()
        self.cluster.replicas.append(self)
        self.running = self.cluster.running
        self.half_done: set[Key] = set()
        self.given: dict[Key, Handle] = {}  # what `start` returned, or was reported as found, last
        self.starting: dict[Key, asyncio.Future[None]] = {}
        self.clearing: dict[Key, asyncio.Future[None]] = {}  # starts that were cancelled and have not ended yet
        self.stopping: dict[Key, asyncio.Future[None]] = {}
        self.slow_starts = self.slow_clearing = self.slow_stops = self.slow_stores = False
        self.deaf_starts = False  # a start that is cancelled ends at once, but as if it were not
        self.broken_starts: dict[Key, Exception] = {}
        self.broken_stops: dict[Key, Exception] = {}
        self.broken_marks: dict[Key, Exception] = {}
        self.broken_stores: dict[Key, Exception] = {}
        self.broken_notes: dict[Key, Exception] = {}
        self.starts: Counter[Key] = Counter()
        self.stops: Counter[Key] = Counter()
        self.marked: list[tuple[Key, datetime]] = []
        self.stop_marks: list[object] = []
        self.stored: list[tuple[Key, datetime, bool]] = []  # each that was asked for: key, when, whether it pardons
        self.storing: list[asyncio.Future[None]] = []
        self.most_stops_at_once = 0
        self.violations: list[str] = []
        self.started: dict[Key, datetime] = {}  # when what is found was made, where that is known
        self.now = SystemClock().now
        self._observer: Observer | None = None

    # The protocol

    def observe(self, observer: Observer) -> None:
        self._observer = observer

    @property
    def observer(self) -> Observer:
        assert self._observer is not None
        return self._observer

    async def open(self) -> None:
        for key in self.running:
            self.find(key)

    def running_for(self, user: str) -> list[Key]:
        return [key for key, name in self.cluster.users.items() if name == user]

    async def start(self, key: Key, user: str = "") -> Handle:
        self._promise(key not in self.starting, f"two starts at once of {key}")
        self._promise(key not in self.stopping, f"a start during a stop of {key}")
        self.starts[key] += 1
        gate = self.starting[key] = _gate(is_open=not self.slow_starts)
        try:
            try:
                await gate
            except asyncio.CancelledError:
                if not self.deaf_starts:
                    raise
            if key in self.broken_starts:
                raise self.broken_starts[key]
        except asyncio.CancelledError:
            self.half_done.add(key)
            if self.slow_clearing and _is_cancelled():
                self.clearing[key] = _gate(is_open=False)
                try:
                    await self.clearing[key]
                finally:
                    del self.clearing[key]
            raise
        finally:
            del self.starting[key]
        self.half_done.discard(key)
        self.given[key] = self.running.setdefault(key, self._new_handle(key))
        self.cluster.users[key] = user
        return self.given[key]

    async def stop(self, key: Key, mark: object = None) -> None:
        self._promise(key not in self.starting, f"a stop during a start of {key}")
        self._promise(key not in self.stopping, f"two stops at once of {key}")
        self.stops[key] += 1
        self.stop_marks.append(mark)
        gate = self.stopping[key] = _gate(is_open=not self.slow_stops)
        self.most_stops_at_once = max(self.most_stops_at_once, len(self.stopping))
        try:
            await gate
            if key in self.broken_stops:
                raise self.broken_stops[key]
            if mark is not None and key in self.running:
                self._refuse_if_newer(key, self._last_marked(key))
                if self.cluster.marks.get(key) is not self:
                    raise Contested("Its mark was withdrawn.", self.cluster.last_active.get(key))
        finally:
            del self.stopping[key]
        handle = self.running.get(key)
        self.cluster.end(key)
        self.half_done.discard(key)
        if handle is not None:
            self.cluster.ended.append(key)
            for other in self._others():
                other.observer.lost(key, other.given.get(key, handle), "it was deleted")

    async def mark(self, key: Key, last_active: datetime) -> object | None:
        self.marked.append((key, last_active))
        await asyncio.sleep(0)
        if key in self.broken_marks:
            raise self.broken_marks[key]
        if not self.is_replica:
            return None
        self._refuse_if_newer(key, last_active)
        if self.cluster.marks.get(key, self) is not self:
            raise Contested("Another replica is about to stop it.")
        self.cluster.marks[key] = self
        for other in self._others():
            other.observer.condemned(key)
        return (self, key)

    async def store(self, key: Key, last_active: datetime, *, pardon: bool = False) -> None:
        self.stored.append((key, last_active, pardon))
        if self.slow_stores:
            self.storing.append(_gate(is_open=False))
            await self.storing[-1]
        if key in self.broken_stores:
            raise self.broken_stores[key]
        if not self.is_replica or key not in self.running:
            return
        if pardon:
            self.cluster.marks.pop(key, None)
        former = self.cluster.last_active.get(key)
        if former is None or former < last_active:
            self.cluster.last_active[key] = last_active
            for replica in self.cluster.replicas:  # itself included: a write is seen by who made it
                replica.observer.active(key, last_active)

    async def extend(self, key: Key, until: datetime) -> None:
        if key in self.broken_stores:
            raise self.broken_stores[key]
        if not self.is_replica or key not in self.running:
            return
        self.cluster.marks.pop(key, None)
        self.cluster.extended[key] = max(until, self.cluster.extended.get(key, until))
        for replica in self.cluster.replicas:
            replica.observer.extended(key, self.cluster.extended[key])

    async def note(self, key: Key, changes: Mapping[str, str | None]) -> None:
        if key in self.broken_notes:
            raise self.broken_notes[key]
        self.cluster.notes.setdefault(key, {}).update(changes)
        for replica in self.cluster.replicas:
            replica.observer.noted(key, read_notes(self.cluster.notes[key]))

    async def log(self, key: Key, lines: int) -> str:
        return ""

    async def close(self) -> None:
        self.running.clear()

    def _refuse_if_newer(self, key: Key, last_active: datetime) -> None:
        stored = self.cluster.last_active.get(key)
        if stored is not None and last_active < stored <= self.now():
            raise Contested("Newer activity is stored.", stored)
        if self.cluster.extended.get(key, self.now()) > self.now():
            raise Contested("Somebody asked for more time.")

    def _last_marked(self, key: Key) -> datetime:
        return [last_active for marked, last_active in self.marked if marked == key][-1]

    def _others(self) -> list[FakeBackend]:
        return [replica for replica in self.cluster.replicas if replica is not self]

    # What the test decides

    def let_start(self, key: Key = KEY) -> None:
        self.starting[key].set_result(None)

    def fail_start(self, error: Exception, key: Key = KEY) -> None:
        self.starting[key].set_exception(error)

    def cut_off_start(self, key: Key = KEY) -> None:
        """Let the start end with a `CancelledError` that nobody asked for."""
        self.starting[key].cancel()

    def let_clear(self, key: Key = KEY) -> None:
        self.clearing[key].set_result(None)

    def let_stop(self, key: Key = KEY) -> None:
        self.stopping[key].set_result(None)

    def fail_stop(self, error: Exception, key: Key = KEY) -> None:
        self.stopping[key].set_exception(error)

    def cut_off_stop(self, key: Key = KEY) -> None:
        """Let the stop end with a `CancelledError` that nobody asked for."""
        self.stopping[key].cancel()

    def die(self, key: Key = KEY) -> None:
        """Let a notebook server end by itself, and report it."""
        self.report(key, self.running.pop(key))

    def report(self, key: Key, handle: Handle) -> None:
        """Report an end, true or not."""
        self.observer.lost(key, handle, "exit status 1")

    def find(self, key: Key = KEY, last_active: datetime | None = None) -> Handle:
        """Report what runs; should nothing run, somebody has started it."""
        handle = self.given[key] = self.running.setdefault(key, self._new_handle(key))
        self.observer.found(key, handle, last_active or self.cluster.last_active.get(key), self.started.get(key))
        if key in self.cluster.extended:
            self.observer.extended(key, self.cluster.extended[key])
        return handle

    def replace(self, key: Key = KEY, last_active: datetime | None = None) -> Handle:
        """Let somebody put another server in the place of this one, and report that."""
        self.running.pop(key, None)
        return self.find(key, last_active)

    def _new_handle(self, key: Key) -> Handle:
        port = next(self.cluster.ports)
        url = URL.build(scheme="http", host="127.0.0.1", port=port, path=f"/ws/{key.workspace_id}/")
        return Handle(url, {"Authorization": "token secret"})

    def _promise(self, kept: bool, otherwise: str) -> None:
        if not kept:
            self.violations.append(otherwise)


def _gate(*, is_open: bool) -> asyncio.Future[None]:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    if is_open:
        gate.set_result(None)
    return gate


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
