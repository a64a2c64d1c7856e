"""What the supervisor counts: how starts end and where their time goes, reaps, and why there were none."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.backends.kernels import Work
from proxy.errors import Contested, StartFailed, StopFailed
from proxy.report import Progress, Step
from proxy.workspace import Key

from .fakes import KEY, settle
from .stage import IDLE_TTL, REAP_GRACE, REAP_INTERVAL, Stage, reaping, replicated, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.counts import Histogram, Tally

OTHER = Key("other", "default")
TICK = IDLE_TTL + REAP_INTERVAL


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


@pytest.fixture
async def replica() -> AsyncIterator[Stage]:
    """One that has others beside it, and so announces a reap."""
    async with replicated() as (stage, _):
        yield stage


def seen(tally: Tally) -> dict[str, int]:
    return {" ".join(labels): count for labels, count in tally.counts.items() if count}


def spent(phases: dict[str, Histogram]) -> dict[str, float]:
    return {name: histogram.total for name, histogram in phases.items() if sum(histogram.counts)}


async def test_start_is_counted_once_with_its_time_whoever_waits_for_it(stage: Stage) -> None:
    stage.backend.slow_starts = True
    callers = [await stage.request() for _ in range(3)]
    await stage.clock.advance(4.0)
    stage.backend.let_start(KEY)
    for caller in callers:
        await caller

    counts = stage.supervisor.counts
    assert seen(counts.starts) == {"ready": 1}
    assert (sum(counts.start_seconds.counts), counts.start_seconds.total) == (1, 4.0)
    assert seen(counts.moves) == {"wake": 1, "ready": 1}


async def test_time_of_a_start_is_divided_into_what_it_waited_for() -> None:
    async with staged(max_concurrent_starts=1, ready_timeout=timedelta(minutes=5)) as stage:
        stage.backend.slow_starts = True
        first, second = await stage.request(OTHER), await stage.request(KEY)
        await stage.clock.advance(1.0)
        assert stage.supervisor.waiting == 1
        stage.backend.let_start(OTHER)
        await first

        steps = {Step.SCHEDULED: 2.0, Step.PULLING: 4.0, Step.CREATING: 8.0, Step.STARTING: 16.0, Step.ANSWERING: 32.0}
        await stage.clock.advance(0.5)
        for step, seconds in steps.items():
            stage.supervisor.progress(KEY, Progress(step, step.value))
            await stage.clock.advance(seconds / 2)
            stage.supervisor.progress(KEY, Progress(step, "the same in other words"))
            await stage.clock.advance(seconds / 2)
        stage.backend.let_start(KEY)
        await second

        counts = stage.supervisor.counts
        assert spent(counts.phase_seconds) == {
            "queued": 1.0, "scheduled": 1.0 + 0.5, "pulled": 6.0, "started": 8.0, "answering": 16.0, "ready": 32.0,
        }  # fmt: skip
        assert counts.start_seconds.total == 1.0 + 62.5  # without the queue
        assert stage.supervisor.waiting == 0


async def test_failure_is_counted_by_its_code_and_takes_no_time(stage: Stage) -> None:
    stage.backend.broken_starts[KEY] = StartFailed("image-pull", "There is no such image.")
    stage.backend.broken_starts[OTHER] = ZeroDivisionError()
    for key in (KEY, OTHER):
        with pytest.raises(StartFailed):
            await stage.supervisor.ensure_running(key)

    counts = stage.supervisor.counts
    assert seen(counts.starts) == {"image-pull": 1, "internal": 1}
    assert sum(counts.start_seconds.counts) == 0
    assert spent(counts.phase_seconds) == {}


async def test_start_that_is_stopped_is_counted_as_that(stage: Stage) -> None:
    stage.backend.slow_starts = True
    caller = await stage.request()

    await stage.supervisor.stop(KEY)

    with pytest.raises(StartFailed):
        await caller
    assert seen(stage.supervisor.counts.starts) == {"stopped": 1}
    assert seen(stage.supervisor.counts.reaps) == {}


async def test_reap_is_counted_by_why(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):
        await stage.clock.advance(TICK)

    assert seen(stage.supervisor.counts.reaps) == {"idle": 1}
    assert seen(stage.supervisor.counts.vetoes) == {}


async def test_kernel_that_works_is_counted_as_what_spared_it(stage: Stage) -> None:
    stage.work[KEY] = Work(busy=True)
    await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):
        await stage.clock.advance(TICK)

    assert seen(stage.supervisor.counts.reaps) == {}
    assert seen(stage.supervisor.counts.vetoes) == {"busy": 1}


async def test_use_within_the_grace_is_counted_as_what_spared_it(replica: Stage) -> None:
    await replica.supervisor.ensure_running(KEY)

    async with reaping(replica):
        await replica.clock.advance(TICK + REAP_GRACE / 2)
        replica.supervisor.touch(KEY)
        await replica.clock.advance(REAP_GRACE)

    assert seen(replica.supervisor.counts.vetoes) == {"in-use": 1}


@pytest.mark.parametrize(
    ("error", "veto"), [(Contested("newer use is stored"), "contested"), (StopFailed("no answer"), "backend")]
)
async def test_reap_that_cannot_be_announced_is_counted(replica: Stage, error: Exception, veto: str) -> None:
    await replica.supervisor.ensure_running(KEY)
    replica.backend.broken_marks[KEY] = error

    async with reaping(replica):
        await replica.clock.advance(TICK)

    assert seen(replica.supervisor.counts.vetoes) == {veto: 1}


@pytest.mark.parametrize(
    ("error", "veto"), [(Contested("newer use is stored"), "contested"), (StopFailed("no answer"), "backend")]
)
async def test_reap_that_does_not_come_through_is_counted(stage: Stage, error: Exception, veto: str) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_stops[KEY] = error

    async with reaping(stage):
        await stage.clock.advance(TICK)

    assert seen(stage.supervisor.counts.reaps) == {}
    assert seen(stage.supervisor.counts.vetoes) == {veto: 1}


async def test_dry_run_counts_no_reap() -> None:
    async with staged(dry_run_reaper=True) as stage:
        await stage.supervisor.ensure_running(KEY)

        async with reaping(stage):
            await stage.clock.advance(TICK)

        assert seen(stage.supervisor.counts.reaps) == {}
        assert seen(stage.supervisor.counts.vetoes) == {"dry-run": 1}


async def test_look_of_the_reaper_is_noted_and_a_defect_in_one_counted(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_marks[KEY] = ZeroDivisionError()
    stage.backend.is_replica = True

    async with reaping(stage):
        before = stage.supervisor.counts.looked_at
        await stage.clock.advance(REAP_INTERVAL)
        looked = stage.supervisor.counts.looked_at
        await stage.clock.advance(IDLE_TTL)

    assert (before, looked) == (None, 1000 + REAP_INTERVAL)
    assert stage.supervisor.counts.reap_errors == 1


async def test_what_is_no_use_is_counted_and_use_is_not(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)

    stage.supervisor.touch(KEY, "GET /ws/demo/lab")
    stage.supervisor.ignored(KEY, "GET /ws/demo/api/me")
    stage.supervisor.ignored(OTHER, "GET /ws/other/api/me")
    await settle()

    assert stage.supervisor.counts.ignored == 1
