"""What the supervisor is tested against: a clock that goes on by hand, and a backend that behaves.

Nothing here sleeps. `settle` runs the event loop until every task waits for something that only the test can bring
about, so a test says what happens and then looks at what came of it.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from yarl import URL

from proxy.config import Config
from proxy.supervisor import Supervisor
from proxy.workspace import Handle, Key

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Coroutine

    from proxy.backends import Listener

KEY = Key("demo", "default")
READY_TIMEOUT = 60.0
IDLE_TTL = 3600.0
REAP_INTERVAL = 300.0
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


class FakeBackend:
    """Runs notebook servers that are only entries in `running`.

    Starts and stops end at once; while `slow_starts` or `slow_stops` is set, they end when the test says so. What the
    protocol promises to a backend is checked on each call; a promise that was broken is a sentence in `violations`
    (an exception would be taken for a failed start).
    """

    def __init__(self) -> None:
        self.running: dict[Key, Handle] = {}
        self.half_done: set[Key] = set()
        self.given: dict[Key, Handle] = {}  # what `start` returned last
        self.starting: dict[Key, asyncio.Future[None]] = {}
        self.clearing: dict[Key, asyncio.Future[None]] = {}  # starts that were cancelled and have not ended yet
        self.stopping: dict[Key, asyncio.Future[None]] = {}
        self.slow_starts = self.slow_clearing = self.slow_stops = False
        self.deaf_starts = False  # a start that is cancelled ends at once, but as if it were not
        self.broken_starts: dict[Key, Exception] = {}
        self.broken_stops: dict[Key, Exception] = {}
        self.starts: Counter[Key] = Counter()
        self.stops: Counter[Key] = Counter()
        self.most_stops_at_once = 0
        self.violations: list[str] = []
        self._listener: Listener | None = None
        self._ports = itertools.count(40_000)

    # The protocol

    def listen(self, listener: Listener) -> None:
        self._listener = listener

    async def start(self, key: Key) -> Handle:
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
        return self.given[key]

    async def stop(self, key: Key) -> None:
        self._promise(key not in self.starting, f"a stop during a start of {key}")
        self._promise(key not in self.stopping, f"two stops at once of {key}")
        self.stops[key] += 1
        gate = self.stopping[key] = _gate(is_open=not self.slow_stops)
        self.most_stops_at_once = max(self.most_stops_at_once, len(self.stopping))
        try:
            await gate
            if key in self.broken_stops:
                raise self.broken_stops[key]
        finally:
            del self.stopping[key]
        self.running.pop(key, None)
        self.half_done.discard(key)

    async def close(self) -> None:
        self.running.clear()

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
        assert self._listener is not None
        self._listener(key, handle, "exit status 1")

    def _new_handle(self, key: Key) -> Handle:
        url = URL.build(scheme="http", host="127.0.0.1", port=next(self._ports), path=f"/ws/{key.workspace_id}/")
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


@dataclass
class Stage:
    """A supervisor with its surroundings; owns the tasks of its callers."""

    config: Config
    clock: FakeClock = field(default_factory=FakeClock)
    backend: FakeBackend = field(default_factory=FakeBackend)
    complaints: list[dict[str, Any]] = field(default_factory=list)
    logger: logging.Logger | None = None

    def __post_init__(self) -> None:
        self.supervisor = Supervisor(self.backend, self.config, self.logger, clock=self.clock)
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.complaints.append(context))

    async def begin(self, *work: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
        """Run each as a task of its own, as far as they go by themselves."""
        tasks = [asyncio.create_task(each) for each in work]
        await settle()
        return tasks

    async def request(self, key: Key = KEY) -> asyncio.Task[Handle]:
        """Let one caller ask for a workspace, and wait as long as that takes."""
        return (await self.begin(self.supervisor.ensure_running(key)))[0]

    async def leave(self) -> None:
        """Close the supervisor; it leaves no task, and broke no promise on the way."""
        self.backend.slow_clearing = False
        for gate in self.backend.clearing.values():
            gate.set_result(None)
        await self.supervisor.close()
        await settle()
        gc.collect(1)  # what was never retrieved is complained of when it is collected

        assert self.backend.violations == []
        assert self.complaints == []


@asynccontextmanager
async def staged(**settings: Any) -> AsyncIterator[Stage]:
    """Set the stage for one test, and see that nothing is left on it afterwards."""
    before = asyncio.all_tasks()
    times = {"ready_timeout": READY_TIMEOUT, "idle_ttl": IDLE_TTL, "reap_interval": REAP_INTERVAL}
    stage = Stage(Config(**{name: timedelta(seconds=seconds) for name, seconds in times.items()} | settings))
    yield stage
    await stage.leave()

    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
