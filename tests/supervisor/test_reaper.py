"""Who is reaped, when, and what a reap never does."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.errors import StartFailed, StopFailed
from proxy.reaper import Reaper
from proxy.workspace import Key, Phase

from .fakes import KEY, settle
from .stage import IDLE_TTL, REAP_INTERVAL, Stage, reaping, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONCURRENCY = 20
MANY = [Key(f"ws-{number}", "default") for number in range(CONCURRENCY + 5)]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


async def start_all(stage: Stage, keys: list[Key]) -> None:
    for key in keys:
        await stage.supervisor.ensure_running(key)


async def pass_until(stage: Stage, elapsed: float) -> None:
    """Go on to this many seconds after the clock's beginning, at 1000 s."""
    await stage.clock.advance(1000 + elapsed - stage.clock.monotonic())


async def test_idle_workspace_is_stopped_at_the_first_tick_after_its_time(stage: Stage) -> None:
    await stage.clock.advance(1)
    await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):  # ticks at 1 + n * REAP_INTERVAL
        await pass_until(stage, IDLE_TTL + REAP_INTERVAL + 0.5)
        assert KEY in stage.backend.running
        await pass_until(stage, IDLE_TTL + REAP_INTERVAL + 1)

    assert stage.backend.running == {}
    assert stage.backend.stops[KEY] == 1
    assert stage.supervisor.phases() == {}


@pytest.mark.parametrize(("early", "reaped"), [(0.0, False), (0.5, True)])
async def test_workspace_is_reaped_only_when_it_is_idle_for_longer_than_its_time(
    stage: Stage, early: float, reaped: bool
) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(early)

    async with reaping(stage):  # the twelfth tick comes IDLE_TTL after this moment
        await stage.clock.advance(IDLE_TTL)

    assert (KEY not in stage.backend.running) is reaped


async def test_reaper_looks_every_reap_interval_and_not_at_once(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(2 * IDLE_TTL)

    async with reaping(stage):
        await stage.clock.advance(REAP_INTERVAL - 0.5)
        before = stage.backend.stops[KEY]
        await stage.clock.advance(0.5)

    assert (before, stage.backend.stops[KEY]) == (0, 1)


async def test_workspace_that_is_touched_now_and_then_is_never_reaped(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):
        for _ in range(10):
            await stage.clock.advance(IDLE_TTL)
            stage.supervisor.touch(KEY)

    assert stage.backend.stops[KEY] == 0


async def test_only_the_idle_ones_are_reaped(stage: Stage) -> None:
    await start_all(stage, MANY)
    await stage.clock.advance(IDLE_TTL)
    busy = set(MANY[::2])
    for key in busy:
        stage.supervisor.touch(key)

    async with reaping(stage):
        await stage.clock.advance(REAP_INTERVAL)

    assert set(stage.backend.running) == busy


@pytest.mark.parametrize("days", [1, -1])
async def test_wall_clock_that_jumps_neither_reaps_nor_spares(stage: Stage, days: int) -> None:
    await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):
        stage.clock.jump(timedelta(days=days))
        await stage.clock.advance(IDLE_TTL)
        before = stage.backend.stops[KEY]
        await stage.clock.advance(REAP_INTERVAL)

    assert (before, stage.backend.stops[KEY]) == (0, 1)


async def test_start_that_takes_long_is_not_reaped(stage: Stage) -> None:
    stage.backend.slow_starts = True
    caller = await stage.request()
    caller.cancel()

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + 2 * REAP_INTERVAL)

    assert stage.backend.stops[KEY] == 0
    assert stage.supervisor.phases().get(KEY) is Phase.STARTING


async def test_no_more_than_twenty_are_stopped_at_once(stage: Stage) -> None:
    stage.backend.slow_stops = True
    await start_all(stage, MANY)

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
        first = list(stage.backend.stopping)
        stage.backend.let_stop(first[0])
        await settle()
        then = list(stage.backend.stopping)
        while stage.backend.stopping:
            stage.backend.let_stop(next(iter(stage.backend.stopping)))
            await settle()

    assert (len(first), len(then)) == (CONCURRENCY, CONCURRENCY)
    assert stage.backend.most_stops_at_once == CONCURRENCY
    assert stage.backend.running == {}
    assert stage.supervisor.phases() == {}


async def test_workspace_that_is_touched_before_its_turn_is_spared(stage: Stage) -> None:
    stage.backend.slow_stops = True
    await start_all(stage, MANY)
    touched, requested = MANY[-1], MANY[-2]

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
        stage.supervisor.touch(touched)
        await stage.supervisor.ensure_running(requested)
        while stage.backend.stopping:
            stage.backend.let_stop(next(iter(stage.backend.stopping)))
            await settle()

    assert set(stage.backend.running) == {touched, requested}
    assert stage.backend.stops[touched] == stage.backend.stops[requested] == 0


async def test_workspace_that_is_lost_and_started_anew_before_its_turn_is_spared(stage: Stage) -> None:
    stage.backend.slow_stops = True
    await start_all(stage, MANY)

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
        stage.backend.die(MANY[-1])
        new = await stage.supervisor.ensure_running(MANY[-1])
        stage.backend.die(MANY[-2])
        while stage.backend.stopping:
            stage.backend.let_stop(next(iter(stage.backend.stopping)))
            await settle()

    assert stage.backend.running == {MANY[-1]: new}
    assert stage.backend.stops[MANY[-2]] == 0


async def test_workspace_that_is_stopped_by_somebody_before_its_turn_is_stopped_once(stage: Stage) -> None:
    stage.backend.slow_stops = True
    await start_all(stage, MANY)

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
        [stopper] = await stage.begin(stage.supervisor.stop(MANY[-1]))
        while stage.backend.stopping:
            stage.backend.let_stop(next(iter(stage.backend.stopping)))
            await settle()
        await stopper

    assert stage.backend.stops[MANY[-1]] == 1


async def test_request_during_a_reap_waits_for_it_and_starts_anew(stage: Stage) -> None:
    old = await stage.supervisor.ensure_running(KEY)
    stage.backend.slow_stops = True

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
        caller = await stage.request()
        assert not caller.done()
        stage.backend.let_stop()
        new = await caller

    assert new is stage.backend.running[KEY]
    assert new is not old


async def test_stop_during_a_reap_joins_it(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.slow_stops = True

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
        [stopper] = await stage.begin(stage.supervisor.stop(KEY))
        stage.backend.let_stop()
        await stopper

    assert stage.backend.stops[KEY] == 1


@pytest.mark.parametrize("error", [StopFailed("It does not end."), OSError("no route")])
async def test_failed_reap_is_logged_and_tried_again_at_the_next_tick(
    stage: Stage, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    await start_all(stage, MANY)
    stage.backend.broken_stops[MANY[3]] = error

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
        left = set(stage.backend.running)
        logged = [record for record in caplog.records if record.levelno == logging.ERROR]
        del stage.backend.broken_stops[MANY[3]]
        await stage.clock.advance(REAP_INTERVAL)

    assert left == {MANY[3]}
    assert [MANY[3].workspace_id in record.getMessage() for record in logged] == [True]
    assert stage.backend.running == {}
    assert stage.backend.stops[MANY[3]] == 2


async def test_reaper_outlives_its_own_defects(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(2 * IDLE_TTL)

    def defect(*_: object) -> None:
        raise ZeroDivisionError

    async with reaping(stage):
        with monkeypatch.context() as patched:
            patched.setattr(Reaper, "_is_candidate", defect)
            await stage.clock.advance(REAP_INTERVAL)
        broken = stage.backend.stops[KEY]
        await stage.clock.advance(REAP_INTERVAL)

    assert (broken, stage.backend.stops[KEY]) == (0, 1)
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


async def test_cancelled_reaper_leaves_the_stops_that_it_began_running(stage: Stage) -> None:
    await start_all(stage, MANY)
    stage.backend.slow_stops = True

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)

    assert len(stage.backend.stopping) == CONCURRENCY
    for key in list(stage.backend.stopping):
        stage.backend.let_stop(key)
    await settle()
    assert set(stage.backend.running) == set(MANY[CONCURRENCY:])


async def test_close_during_a_reap_ends_it_and_not_the_reaper(stage: Stage) -> None:
    await start_all(stage, MANY)
    stage.backend.slow_stops = True

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
        await stage.supervisor.close()

    assert set(stage.backend.running) == set(MANY)


async def test_workspace_whose_start_failed_is_not_reaped(stage: Stage) -> None:
    stage.backend.broken_starts[KEY] = StartFailed("exited", "It ended at once.")
    with pytest.raises(StartFailed):
        await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)

    assert stage.backend.stops[KEY] == 0


async def test_reaper_that_is_switched_off_does_nothing() -> None:
    async with staged(reaper=False) as stage:
        await stage.supervisor.ensure_running(KEY)

        [reaper] = await stage.begin(stage.supervisor.run_reaper())

        await stage.clock.advance(10 * IDLE_TTL)
        assert reaper.result() is None
        assert KEY in stage.backend.running
