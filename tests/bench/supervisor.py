"""What the supervisor costs a request, and the reaper a tick, with so many workspaces tracked.

`python -m tests.bench.supervisor` prints JSON. Nothing is started: the backend only says where workspaces are.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from proxy import Config, Handle, Key, Supervisor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.backends import Mark, Observer
    from proxy.reaper import Reaper

_SIZES: Final = (10, 1_000, 100_000)
_IN_USE: Final = 1_000  # of those that are tracked, spread over all of them
_CALLS: Final = 100_000
_ROUNDS: Final = 7


class Nowhere:
    """A backend in which everything runs already."""

    def observe(self, observer: Observer) -> None: ...

    async def open(self) -> None: ...

    def running_for(self, user: str) -> list[Key]:
        return []

    async def start(self, key: Key, user: str = "") -> Handle:
        raise AssertionError(key)

    async def stop(self, key: Key, mark: Mark | None = None) -> None:
        raise AssertionError(key)

    async def mark(self, key: Key, last_active: datetime) -> None: ...

    async def store(self, key: Key, last_active: datetime, *, pardon: bool = False) -> None: ...

    async def extend(self, key: Key, until: datetime) -> None: ...

    async def note(self, key: Key, changes: Mapping[str, str | None]) -> None: ...

    async def log(self, key: Key, lines: int) -> str:
        return ""

    async def close(self) -> None: ...


def tracking(count: int) -> tuple[Supervisor, list[Key]]:
    """Return a supervisor that knows so many running workspaces, and their keys, as the gateway keeps them."""
    supervisor = Supervisor(Nowhere(), Config(log_level="error"))
    now = datetime.now(UTC)
    for number in range(count):
        key = Key(f"workspace-{number}", "default")
        supervisor.found(key, Handle(f"http://10.0.0.1:8888/ws/{key.workspace_id}/", {"Authorization": "token x"}), now)  # type: ignore[arg-type]
    return supervisor, list(supervisor.phases())


async def nanoseconds_per_request(supervisor: Supervisor, keys: list[Key]) -> float:
    """Return what `ensure_running` and one `touch` take together, less what the loop takes without them."""
    order = random.Random(1).choices(keys, k=_CALLS)
    best = []
    for _ in range(_ROUNDS):
        began = time.perf_counter_ns()
        for key in order:
            await supervisor.ensure_running(key)
            supervisor.touch(key)
        middle = time.perf_counter_ns()
        for _key in order:
            pass
        best.append((middle - began - (time.perf_counter_ns() - middle)) / _CALLS)
    return sorted(best)[_ROUNDS // 2]


async def milliseconds_per_tick(supervisor: Supervisor) -> float:
    """Return how long the reaper holds the event loop when nothing is idle."""
    reaper: Reaper = supervisor._reaper
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        await reaper.tick()
        times.append(time.perf_counter() - began)
    return sorted(times)[_ROUNDS // 2] * 1000


async def measure() -> dict[str, float]:
    """Return everything, by name."""
    found = {}
    for size in _SIZES:
        supervisor, keys = tracking(size)
        gc.collect()
        gc.freeze()
        in_use = random.Random(2).sample(keys, min(size, _IN_USE))
        found[f"hit and touch of {size:,} [ns]"] = await nanoseconds_per_request(supervisor, in_use)
        if size == max(_SIZES):
            found["each of them in use [ns]"] = await nanoseconds_per_request(supervisor, keys)
            found[f"reaper tick of {size:,} [ms]"] = await milliseconds_per_tick(supervisor)
        await supervisor.close()
    return found


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure())))
