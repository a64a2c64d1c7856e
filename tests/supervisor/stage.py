"""A supervisor on its stage: a clock and a backend that behave, and callers; nothing may be left on it afterwards."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from proxy.backends.kernels import Work
from proxy.config import Config
from proxy.supervisor import Supervisor

from .fakes import KEY, FakeBackend, FakeClock, FakeCluster, settle

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Callable, Coroutine

    from proxy.workspace import Handle, Key

READY_TIMEOUT = 60.0
IDLE_TTL = 3600.0
REAP_INTERVAL = 300.0
REAP_GRACE = 10.0
QUARTER = IDLE_TTL / 4


@dataclass
class Stage:
    """A supervisor with its surroundings; owns the tasks of its callers."""

    config: Config
    clock: FakeClock = field(default_factory=FakeClock)
    backend: FakeBackend = field(default_factory=FakeBackend)
    complaints: list[dict[str, Any]] = field(default_factory=list)
    logger: logging.Logger | None = None
    work: dict[Key, Work | None] = field(default_factory=dict)  # what servers say of their kernels; else none
    asked: Counter[Key] = field(default_factory=Counter)
    answer: Callable[[], Work | None] | None = None  # then every server says this instead
    slow_answers: dict[Key, asyncio.Future[None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.backend.now = self.clock.now
        self.supervisor = Supervisor(self.backend, self.config, self.logger, clock=self.clock, ask=self._answer)
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.complaints.append(context))

    async def _answer(self, key: Key, handle: Handle) -> Work | None:
        """Be the notebook server that is asked what its kernels do."""
        assert handle == self.backend.given[key]
        self.asked[key] += 1
        if key in self.slow_answers:
            await self.slow_answers[key]
        return self.answer() if self.answer is not None else self.work.get(key, Work())

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


def make_config(**settings: Any) -> Config:
    """Return the settings of a test; durations of its own are in seconds."""
    times = {
        "ready_timeout": READY_TIMEOUT,
        "idle_ttl": IDLE_TTL,
        "reap_interval": REAP_INTERVAL,
        "reap_grace": REAP_GRACE,
    }
    return Config(**{name: timedelta(seconds=seconds) for name, seconds in times.items()} | settings)


@asynccontextmanager
async def staged(**settings: Any) -> AsyncIterator[Stage]:
    """Set the stage for one test, and see that nothing is left on it afterwards."""
    before = asyncio.all_tasks()
    stage = Stage(make_config(**settings))
    yield stage
    await stage.leave()

    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


@asynccontextmanager
async def replicated(**settings: Any) -> AsyncIterator[tuple[Stage, Stage]]:
    """Set two stages that share one cluster and one clock."""
    before = asyncio.all_tasks()
    clock, cluster = FakeClock(), FakeCluster()
    first, second = (Stage(make_config(**settings), clock, FakeBackend(cluster)) for _ in range(2))
    yield first, second
    await first.leave()
    await second.leave()

    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()


@asynccontextmanager
async def reaping(*stages: Stage) -> AsyncIterator[asyncio.Task[None]]:
    """Run the reapers meanwhile; they go on until they are cancelled."""
    reapers = [(await stage.begin(stage.supervisor.run_reaper()))[0] for stage in stages]
    yield reapers[0]
    await settle()
    for reaper in reapers:
        assert not reaper.done()
        reaper.cancel()
    await settle()
    assert all(reaper.cancelled() for reaper in reapers)
