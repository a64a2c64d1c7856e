"""What is measured, and what this proxy must reach.

A case measures one contestant once; `__main__` repeats and interleaves.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tests.bench import load
from tests.bench.contestants import CHP, DIRECT, NAIVE, NGINX, ON_CLUSTER, OURS, TOKEN, WITH_AUTH, Contestant, Running
from tests.bench.fixed_rate import latencies_at, percentile
from tests.bench.notebook import SIZES
from tests.bench.programs import REPOSITORY
from tests.bench.sockets import WARM_UP, echoes, open_websocket, pushes
from tests.bench.stuck import p99_of_healthy, stuck

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Metrics = dict[str, float]

_MB: Final = 1 << 20
_PROXIES: Final = (OURS, NGINX, CHP, NAIVE)
RATE, THROUGHPUT, GROWTH = "requests/s", "MB/s", "RSS growth [MB]"
MESSAGES, CPU = "messages/s", "CPU each [µs]"
BESIDE_TO_ALONE: Final = "p99 beside to alone"
_FIRST: Final = 8  # websockets that are opened before memory is looked at


class Lane:
    """One contestant during one case: started when it is first needed, and again when a measurement wants it fresh."""

    def __init__(self, contestant: Contestant, directory: Path) -> None:
        self.contestant = contestant
        self._directory = directory
        self._starts = 0
        self._running: Running | None = None

    def running(self) -> Running:
        """Return it, serving."""
        return self._running or self.restart()

    def restart(self) -> Running:
        """Return it, just started."""
        self.stop()
        self._starts += 1
        self._running = self.contestant.start(self._directory / str(self._starts))
        return self._running

    def directory(self, name: str) -> Path:
        """Return where something that is measured beside it can write."""
        return self._directory / name

    def stop(self) -> None:
        """End it."""
        if self._running is not None:
            self._running.stop()
            self._running = None

    @property
    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        return self._running.program.cpu if self._running and self._running.program else 0.0


@dataclass(frozen=True)
class Bar:
    """What must be reached: a ratio to another contestant, or a value by itself."""

    metric: str
    bound: float
    against: str | None = None
    at_least: bool = True
    of: str = OURS


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Args:
        name: for `--case`.
        title: for people.
        measure: returns the metrics of one contestant, in about so many seconds.
        bars: what this proxy must reach.
        contestants: who takes part.
        added: metrics of which what is more than direct counts, in the same repetition.
        once: repeats by itself.
        is_saturating: the contestant is expected to have its core to the full.
    """

    name: str
    title: str
    measure: Callable[[Lane, float], Metrics]
    bars: tuple[Bar, ...] = ()
    contestants: tuple[str, ...] = (*_PROXIES, DIRECT)
    added: tuple[str, ...] = ()
    once: bool = False
    is_saturating: bool = True


def _small(connections: int, headers: dict[str, str] | None, lane: Lane, seconds: float) -> Metrics:
    port = lane.running().ports["static"]
    seconds, before = max(1, round(seconds)), lane.cpu  # wrk knows whole seconds only
    rate = load.small_gets(port, "/ws/static/api", connections, seconds, headers)
    return {RATE: rate, **_cpu_each(lane, before, rate * seconds)}


def _large_get(name: str, lane: Lane, seconds: float) -> Metrics:
    running = lane.running()
    return _with_growth(
        running, lambda: load.get(running.ports["static"], f"/ws/static/files/{name}", SIZES[name], seconds)
    )


def _large_post(lane: Lane, seconds: float) -> Metrics:
    running = lane.running()
    return _with_growth(running, lambda: load.post(running.ports["socket"], "/ws/socket/upload", 64 * _MB, seconds))


def _with_growth(running: Running, transfer: Callable[[], float]) -> Metrics:
    program = running.program
    if program is None:
        return {THROUGHPUT: transfer() / _MB}
    before = program.reset_peak()
    found = {THROUGHPUT: transfer() / _MB}
    return {**found, GROWTH: (program.peak - before) / _MB}


def _echo(connections: int, in_flight: int, lane: Lane, seconds: float) -> Metrics:
    port, before = lane.running().ports["socket"], lane.cpu
    rate = echoes(port, "/ws/socket/echo", connections, in_flight, seconds)
    return {MESSAGES: rate, **_cpu_each(lane, before, rate * (seconds + WARM_UP))}


def _cpu_each(lane: Lane, before: float, count: float) -> Metrics:
    """Return what each request or message took of the contestant's CPU: it hardly depends on what else runs."""
    used = lane.cpu - before
    return {CPU: used / count * 1e6} if used else {}


def _push(lane: Lane, seconds: float) -> Metrics:
    return {THROUGHPUT: pushes(lane.running().ports["socket"], "/ws/socket/push", 4, seconds) / _MB}


def _fixed_rate(lane: Lane, seconds: float) -> Metrics:
    port = lane.running().ports["static"]
    gc.disable()  # a pause of the load's would be taken for the proxy's
    try:
        found = latencies_at(port, "/ws/static/api", 200, 2000, 2 * seconds)
    finally:
        gc.enable()
    return {f"p{share * 100:g} [ms]": percentile(found, share) * 1000 for share in (0.5, 0.99, 0.999)}


def _stuck(lane: Lane, seconds: float) -> Metrics:
    port = lane.running().ports["static"]
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    alone = p99_of_healthy(port, seconds)
    with stuck(port, core, lane.directory("stuck")):
        beside = p99_of_healthy(port, seconds)
    time.sleep(1)  # what they leave behind ends
    again = p99_of_healthy(port, seconds)
    found = {"p99 alone [ms]": alone, "p99 beside them [ms]": beside, "p99 alone again [ms]": again}
    return {**found, BESIDE_TO_ALONE: beside / alone, "p99 alone again to alone": again / alone}


def _restart(lane: Lane, seconds: float) -> Metrics:
    count, restarts = (500, 5) if seconds >= 2 else (20, 1)  # else it is `--quick`
    argv = [sys.executable, "-m", "tests.bench.restart", f"--workspaces={count}", f"--restarts={restarts}"]
    found: Metrics = json.loads(subprocess.run(argv, check=True, cwd=REPOSITORY, capture_output=True).stdout)
    return found


def _idle(count: int, lane: Lane, seconds: float) -> Metrics:
    running = lane.restart()
    program = running.program
    assert program is not None
    room = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 500  # a proxy needs two descriptors each
    count = min(count, room)
    with ExitStack() as stack:
        for _ in range(_FIRST):
            stack.enter_context(open_websocket(running.ports["socket"], "/ws/socket/idle"))
        time.sleep(0.2)
        before = program.rss
        for _ in range(count):
            stack.enter_context(open_websocket(running.ports["socket"], "/ws/socket/idle"))
        time.sleep(1)  # what each handshake leaves behind ends
        grown, cpu, began = program.rss - before, program.cpu, time.perf_counter()
        time.sleep(2 * seconds)
        used, passed = program.cpu - cpu, time.perf_counter() - began
    return {"kB each": grown / count / 1024, "CPU each and minute [µs]": used / count * 60 / passed * 1e6}


def _start(lane: Lane, seconds: float) -> Metrics:
    running = lane.restart()
    assert running.program is not None
    time.sleep(seconds)
    return {"to first answer [ms]": running.started_in * 1000, "RSS at rest [MB]": running.program.rss / _MB}


def _supervisor(lane: Lane, seconds: float) -> Metrics:
    out = subprocess.run(
        [sys.executable, "-m", "tests.bench.supervisor"], check=True, cwd=REPOSITORY, capture_output=True
    ).stdout
    found: Metrics = json.loads(out)
    few, _, many = [value for name, value in found.items() if name.startswith("hit")]
    return {**found, "at 100,000 to at 10": many / few}


def _cold_start(lane: Lane, seconds: float) -> Metrics:
    starts = 9 if seconds >= 2 else 2  # else it is `--quick`
    argv = [sys.executable, "-m", "tests.bench.cold_start", f"--starts={starts}"]
    out = subprocess.run(argv, check=True, cwd=REPOSITORY, capture_output=True, text=True).stdout
    found = json.loads(out.splitlines()[-1])["backends"]
    return {f"{name}, held request [ms]": each["proxied"]["median"] for name, each in found.items()}


def _versus(metric: str, **bounds: float) -> tuple[Bar, ...]:
    names = {"nginx": NGINX, "chp": CHP, "naive": NAIVE}
    return tuple(Bar(metric, bound, names[name]) for name, bound in bounds.items())


_GROWS_LITTLE: Final = Bar(GROWTH, 8, at_least=False)

_PAIR: Final = (WITH_AUTH, OURS)
_COSTS_LITTLE: Final = (Bar(RATE, 0.92, OURS, of=WITH_AUTH), Bar(CPU, 1.08, OURS, at_least=False, of=WITH_AUTH))
_BEARER: Final = {"Authorization": f"Bearer {TOKEN}"}
_COOKIE: Final = {**load.JUPYTERLAB, "Cookie": f"{load.JUPYTERLAB['Cookie']}; notebook-proxy={TOKEN}"}

CASES: Final = (
    Case("get-1", "small GET, 1 connection", partial(_small, 1, None)),
    Case("get-32", "small GET, 32 connections", partial(_small, 32, None), _versus(RATE, nginx=0.45, chp=6, naive=2.5)),
    Case("get-256", "small GET, 256 connections", partial(_small, 256, None)),
    Case("get-jupyterlab", "small GET with JupyterLab's headers, 32 connections", partial(_small, 32, load.JUPYTERLAB)),
    # Both are sent the same; what differs is whether it is asked for.
    Case("auth", "small GET with a bearer token, 32 connections", partial(_small, 32, _BEARER), _COSTS_LITTLE, _PAIR),
    Case(
        "auth-cookie", "the same with JupyterLab's headers and the cookie", partial(_small, 32, _COOKIE),
        _COSTS_LITTLE, _PAIR,
    ),
    Case("get-1m", "GET of 1 MB", partial(_large_get, "1m"), (*_versus(THROUGHPUT, nginx=1), _GROWS_LITTLE)),
    Case("get-256m", "GET of 256 MB", partial(_large_get, "256m"), (*_versus(THROUGHPUT, nginx=1), _GROWS_LITTLE)),
    Case("post-64m", "POST of 64 MB", _large_post, (*_versus(THROUGHPUT, nginx=1), _GROWS_LITTLE)),
    Case("ws-32", "websocket echo, 300 B, 32 connections", partial(_echo, 32, 1), _versus(MESSAGES, nginx=1, chp=1.2)),
    Case("ws-64", "websocket echo, 300 B, 64 in flight", partial(_echo, 1, 64), _versus(MESSAGES, nginx=1)),
    Case("ws-push", "websocket, 1 MB frames on 4 connections", _push, _versus(THROUGHPUT, nginx=2, chp=1.5)),
    Case(
        "rate", "GET at 2,000 requests/s on 200 connections", _fixed_rate,
        (Bar("added p99 [ms]", 1.5, NGINX, at_least=False),), added=("p50 [ms]", "p99 [ms]", "p99.9 [ms]"),
        is_saturating=False,
    ),
    Case(
        "stuck", "the same beside workspaces that are stuck", _stuck,
        (Bar(BESIDE_TO_ALONE, 1.2, at_least=False),), (OURS,), is_saturating=False,
    ),
    Case(
        "idle", "5,000 idle websockets", partial(_idle, 5000),
        (Bar("kB each", 14, at_least=False), Bar("kB each", 1, NGINX, at_least=False)), _PROXIES, is_saturating=False,
    ),
    Case(
        "start", "start of the process, and its memory at rest", _start,
        (
            Bar("to first answer [ms]", 700, at_least=False), Bar("RSS at rest [MB]", 60, at_least=False),
            Bar("RSS at rest [MB]", 100, at_least=False, of=ON_CLUSTER),
        ),
        (*_PROXIES, ON_CLUSTER), is_saturating=False,
    ),
    Case(
        "supervisor", "the supervisor's part of a request", _supervisor,
        (
            Bar("hit and touch of 10 [ns]", 2000, at_least=False),
            Bar("hit and touch of 100,000 [ns]", 2000, at_least=False),
            Bar("at 100,000 to at 10", 1.3, at_least=False),
        ),
        (OURS,), is_saturating=False,
    ),
    Case(
        "restart", "restart where 500 workspaces run", _restart,
        (Bar("ready at the latest [s]", 10, at_least=False), Bar("reaped", 0, at_least=False)), (OURS,),
        once=True, is_saturating=False,
    ),
    Case(
        "cold-start", "cold start, after the notebook listens", _cold_start, (), (OURS,),
        once=True, is_saturating=False,
    ),
)  # fmt: skip
