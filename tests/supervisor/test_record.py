"""When a workspace was last used: what is stored of it, what is adopted, and what is told of a start that stalls."""

from __future__ import annotations

import itertools
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.errors import ShuttingDown, StartFailed, StartStalled, StartTimeout, StopFailed
from proxy.workspace import Phase

from .fakes import KEY, settle
from .stage import IDLE_TTL, QUARTER, READY_TIMEOUT, REAP_GRACE, REAP_INTERVAL, Stage, reaping, replicated, staged

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator

DAY = 24 * 3600.0


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Stage, Stage]]:
    async with replicated() as pair:
        yield pair


@pytest.fixture
async def stage(pair: tuple[Stage, Stage]) -> Stage:
    """One of two replicas; nobody uses the other."""
    return pair[0]


def ago(stage: Stage, seconds: float) -> datetime:
    return stage.clock.now() - timedelta(seconds=seconds)


def idle_seconds(stage: Stage) -> float:
    last_active = stage.supervisor.last_active(KEY)
    assert last_active is not None
    return (stage.clock.now() - last_active).total_seconds()


# Storing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [7.0, 100.0, QUARTER, 1300.0])
async def test_use_is_stored_at_most_once_a_quarter_and_never_more_than_a_quarter_behind(
    stage: Stage, every: float
) -> None:
    await stage.supervisor.ensure_running(KEY)
    stored = stage.clock.now()  # with which the workspace was made

    for _ in range(int(2 * DAY / every)):
        await stage.clock.advance(every)
        stage.supervisor.touch(KEY)
        await settle()
        stored = stage.backend.cluster.last_active.get(KEY, stored)
        assert stage.clock.now() - stored < timedelta(seconds=QUARTER)

    times = [at for _, at, _ in stage.backend.stored]
    assert len(times) > DAY / max(QUARTER, every)
    assert all(later - at >= timedelta(seconds=QUARTER) for at, later in itertools.pairwise(times))


async def test_use_on_two_replicas_is_stored_at_most_once_a_quarter(pair: tuple[Stage, Stage]) -> None:
    await pair[0].supervisor.ensure_running(KEY)
    pair[1].backend.find()

    for step in range(int(DAY / 5)):
        await pair[0].clock.advance(5)
        pair[step % 2].supervisor.touch(KEY)
        if not step % 3:
            pair[0].supervisor.touch(KEY)
            pair[1].supervisor.touch(KEY)
        await settle()

    times = sorted(at for stage in pair for _, at, _ in stage.backend.stored)
    assert len(times) > DAY / QUARTER / 2
    assert all(later - at >= timedelta(seconds=QUARTER) for at, later in itertools.pairwise(times))


async def test_replica_stores_its_use_when_the_one_that_stored_before_is_idle(pair: tuple[Stage, Stage]) -> None:
    first, second = pair
    await first.supervisor.ensure_running(KEY)
    second.backend.find()
    await first.clock.advance(QUARTER)
    first.supervisor.touch(KEY)
    await settle()

    for _ in range(int(QUARTER / 5)):
        await second.clock.advance(5)
        second.supervisor.touch(KEY)
    before = list(second.backend.stored)
    await second.clock.advance(REAP_GRACE)
    second.supervisor.touch(KEY)
    await settle()

    assert before == []
    assert second.backend.stored == [(KEY, second.clock.now(), False)]


async def test_nothing_is_stored_while_it_is_idle(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)

    await stage.clock.advance(10 * DAY)

    assert stage.backend.stored == []


async def test_use_is_stored_also_where_nothing_is_reaped() -> None:
    async with staged(reaper=False) as stage:
        await stage.supervisor.ensure_running(KEY)
        await stage.begin(stage.supervisor.run_reaper())
        await stage.clock.advance(QUARTER)

        stage.supervisor.touch(KEY)
        await settle()

        assert stage.backend.stored == [(KEY, stage.clock.now(), False)]


async def test_start_that_took_longer_than_a_quarter_is_stored_when_it_ends(stage: Stage) -> None:
    stage.backend.slow_starts = True
    caller = await stage.request()
    caller.cancel()
    await stage.clock.advance(QUARTER)
    stage.supervisor.touch(KEY)
    await settle()
    assert stage.backend.stored == []

    stage.backend.let_start()
    await settle()

    assert stage.backend.stored == [(KEY, stage.clock.now(), False)]


async def test_use_during_a_stop_is_not_stored(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.slow_stops = True
    [stopper] = await stage.begin(stage.supervisor.stop(KEY))
    await stage.clock.advance(QUARTER)

    stage.supervisor.touch(KEY)
    await settle()

    assert stage.backend.stored == []
    stage.backend.let_stop()
    await stopper


@pytest.mark.parametrize("error", [StopFailed("Kubernetes does not answer."), KeyError("metadata")])
async def test_write_that_fails_is_logged_and_tried_again_much_sooner_than_a_quarter_later(
    stage: Stage, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_stores[KEY] = error

    for _ in range(int(1.5 * QUARTER / 10)):
        await stage.clock.advance(10)
        stage.supervisor.touch(KEY)
        await settle()

    tries = [at for _, at, _ in stage.backend.stored]
    gaps = [(later - at).total_seconds() for at, later in itertools.pairwise(tries)]
    assert len(tries) >= 3
    assert all(QUARTER / 10 < gap < QUARTER / 4 for gap in gaps)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.levelname for record in warnings] == ["WARNING"] * len(tries)
    del stage.backend.broken_stores[KEY]
    await stage.clock.advance(QUARTER / 4)
    stage.supervisor.touch(KEY)
    await settle()
    assert stage.backend.cluster.last_active[KEY] == stage.clock.now()


async def test_touch_does_not_wait_for_the_write_which_ends_with_close(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.slow_stores = True
    await stage.clock.advance(QUARTER)

    stage.supervisor.touch(KEY)
    await settle()
    assert len(stage.backend.storing) == 1
    await stage.supervisor.close()

    assert stage.backend.storing[0].cancelled()


async def test_nothing_is_stored_after_close(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(QUARTER)
    await stage.supervisor.close()

    stage.supervisor.touch(KEY)
    stage.backend.observer.condemned(KEY)
    await stage.supervisor.ensure_running(KEY)
    await settle()

    assert stage.backend.stored == []


async def test_no_more_than_twenty_writes_are_under_way_at_once(stage: Stage) -> None:
    keys = [type(KEY)(f"ws-{number}", "default") for number in range(25)]
    for key in keys:
        await stage.supervisor.ensure_running(key)
    stage.backend.slow_stores = True
    await stage.clock.advance(QUARTER)

    for key in keys:
        stage.supervisor.touch(key)
    await settle()
    first = len(stage.backend.storing)
    stage.backend.storing[0].set_result(None)
    await settle()

    assert (first, len(stage.backend.storing)) == (20, 21)


# What others stored ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("used_ago", [0.0, 100.0, 1800.0])
async def test_what_others_stored_counts_a_quarter_newer(stage: Stage, used_ago: float) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(IDLE_TTL / 2)

    stage.backend.observer.active(KEY, ago(stage, used_ago) + timedelta(seconds=0.5))

    async with reaping(stage):  # its ticks come at multiples of REAP_INTERVAL from now on, and so do these times
        await stage.clock.advance(IDLE_TTL + QUARTER - used_ago)
        before = stage.backend.marked.copy()
        await stage.clock.advance(REAP_INTERVAL)
    assert before == []
    assert len(stage.backend.marked) == 1


async def test_what_others_stored_never_lowers(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(60)
    stage.supervisor.touch(KEY)

    stage.backend.observer.active(KEY, ago(stage, 30))
    stage.backend.observer.active(KEY, ago(stage, DAY))

    assert idle_seconds(stage) == 0


async def test_what_was_stored_from_here_does_not_extend_when_it_comes_back(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(QUARTER)
    stage.supervisor.touch(KEY)
    await settle()
    [(_, stored, _)] = stage.backend.stored

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL / 2)
        stage.clock.jump(timedelta(seconds=-5))  # as NTP does: what was stored looks newer than it is
        stage.backend.observer.active(KEY, stored)
        await stage.clock.advance(IDLE_TTL / 2 + REAP_INTERVAL)

    assert len(stage.backend.marked) == 1


async def test_values_from_the_future_are_now(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(60)

    stage.backend.observer.active(KEY, ago(stage, -DAY))

    assert idle_seconds(stage) == 0
    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + QUARTER + REAP_INTERVAL)
    assert len(stage.backend.marked) == 1


async def test_what_others_store_during_a_start_counts_no_more_than_the_start(stage: Stage) -> None:
    stage.backend.slow_starts = True
    caller = await stage.request()
    stage.backend.observer.active(KEY, stage.clock.now())  # such as that it was made
    stage.backend.let_start()
    await caller

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)

    assert len(stage.backend.marked) == 1


async def test_news_of_what_is_not_known_here_does_nothing(stage: Stage) -> None:
    stage.backend.observer.active(KEY, stage.clock.now())
    stage.backend.observer.stalled(KEY, StartStalled("unschedulable", "There is no room."))

    assert stage.supervisor.phases() == {}


# Adoption -------------------------------------------------------------------------------------------------------------


async def test_found_workspace_runs_with_what_was_stored(stage: Stage) -> None:
    handle = stage.backend.find(KEY, ago(stage, 1000))

    assert stage.supervisor.phases() == {KEY: Phase.RUNNING}
    assert idle_seconds(stage) == 1000
    assert await stage.supervisor.ensure_running(KEY) is handle
    assert stage.backend.starts[KEY] == 0


async def test_found_workspace_is_not_reaped_before_its_time_and_a_quarter(stage: Stage) -> None:
    stage.backend.find(KEY, ago(stage, IDLE_TTL))

    async with reaping(stage):
        await stage.clock.advance(QUARTER)
        before = stage.backend.marked.copy()
        await stage.clock.advance(REAP_INTERVAL + REAP_GRACE)

    assert before == []
    assert stage.backend.running == {}


async def test_found_workspace_that_was_idle_for_long_is_reaped_at_the_first_tick_and_not_before(stage: Stage) -> None:
    stage.backend.find(KEY, ago(stage, 10 * DAY))

    async with reaping(stage):
        await stage.clock.advance(REAP_INTERVAL - 0.5)
        before = stage.backend.marked.copy()
        await stage.clock.advance(0.5 + REAP_GRACE)

    assert before == []
    assert stage.backend.running == {}


async def test_found_workspace_of_which_nothing_is_stored_counts_as_used_now(stage: Stage) -> None:
    stage.backend.find()

    assert idle_seconds(stage) == 0
    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL)
        assert stage.backend.marked == []
        await stage.clock.advance(REAP_INTERVAL)
    assert len(stage.backend.marked) == 1


async def test_found_workspace_stores_its_next_use_if_what_is_stored_is_old(stage: Stage) -> None:
    stage.backend.find(KEY, ago(stage, 2 * QUARTER))

    stage.supervisor.touch(KEY)
    await settle()

    assert stage.backend.stored == [(KEY, stage.clock.now(), False)]


async def test_what_is_found_during_a_start_is_left_to_the_start(stage: Stage) -> None:
    stage.backend.slow_starts = True
    caller = await stage.request()

    stage.backend.find(KEY, ago(stage, DAY))

    assert stage.supervisor.phases() == {KEY: Phase.STARTING}
    assert idle_seconds(stage) == 0
    stage.backend.let_start()
    assert await caller is stage.backend.running[KEY]


async def test_new_handle_replaces_the_one_that_was_known(stage: Stage) -> None:
    old = await stage.supervisor.ensure_running(KEY)

    new = stage.backend.replace()

    assert await stage.supervisor.ensure_running(KEY) is new
    stage.supervisor.lost(KEY, old, "connection refused")
    assert stage.supervisor.phases() == {KEY: Phase.RUNNING}
    stage.supervisor.lost(KEY, new, "connection refused")
    assert stage.supervisor.phases() == {}


async def test_age_of_a_server_that_was_replaced_counts_from_when_the_new_one_was_made() -> None:
    async with staged(max_age=timedelta(hours=2)) as stage:
        await stage.supervisor.ensure_running(KEY)
        await stage.clock.advance(2 * IDLE_TTL - 60)
        stage.backend.started[KEY] = stage.clock.now()

        stage.backend.replace(KEY, stage.clock.now())

        report = stage.supervisor.report(KEY)
        assert report is not None
        assert report.due_at is not None
        assert report.due_at >= stage.clock.now() + timedelta(seconds=IDLE_TTL)


async def test_nothing_is_adopted_after_close(stage: Stage) -> None:
    await stage.supervisor.close()

    stage.backend.find()

    assert stage.supervisor.phases() == {}


async def test_adoption_ends_the_back_off(stage: Stage) -> None:
    stage.backend.broken_starts[KEY] = StartFailed("image-pull", "There is no such image.")
    with pytest.raises(StartFailed):
        await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_starts.clear()
    stage.backend.find()
    stage.backend.die()

    handle = await stage.supervisor.ensure_running(KEY)

    assert handle is stage.backend.running[KEY]


# Starts that stall ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def slow(stage: Stage) -> Stage:
    stage.backend.slow_starts = True
    return stage


def stall(stage: Stage, code: str = "unschedulable") -> None:
    stage.backend.observer.stalled(KEY, StartStalled(code, "There is no room."))


def code_of(task: asyncio.Task[object]) -> str:
    error = task.exception()
    assert isinstance(error, StartStalled)
    return error.code


async def test_stalled_start_tells_all_who_wait_and_goes_on(slow: Stage) -> None:
    callers = [await slow.request() for _ in range(3)]

    stall(slow)
    await settle()

    assert [code_of(caller) for caller in callers] == ["unschedulable"] * 3
    assert len({id(caller.exception()) for caller in callers}) == 3
    assert slow.supervisor.phases() == {KEY: Phase.STARTING}


async def test_who_joins_a_stalled_start_is_told_at_once(slow: Stage) -> None:
    first = await slow.request()
    stall(slow)
    stall(slow, "image-pull")

    caller = await slow.request()

    assert code_of(caller) == "image-pull"
    assert code_of(first) == "unschedulable"


async def test_start_that_goes_on_is_waited_for_again_and_succeeds(slow: Stage) -> None:
    first = await slow.request()
    stall(slow)
    await settle()

    slow.backend.observer.stalled(KEY, None)
    second = await slow.request()
    assert not second.done()
    slow.backend.let_start()

    assert await second is slow.backend.running[KEY]
    assert code_of(first) == "unschedulable"
    assert slow.backend.starts[KEY] == 1


async def test_trouble_that_is_over_before_anybody_could_be_told_breaks_nothing(slow: Stage) -> None:
    caller = await slow.request()

    stall(slow)
    slow.backend.observer.stalled(KEY, None)
    await settle()

    assert code_of(caller) == "unschedulable"
    again = await slow.request()
    slow.backend.let_start()
    assert await again is slow.backend.running[KEY]


async def test_start_that_stalls_with_nothing_in_its_way_changes_nothing(slow: Stage) -> None:
    caller = await slow.request()

    slow.backend.observer.stalled(KEY, None)
    await settle()

    assert not caller.done()
    await slow.clock.advance(READY_TIMEOUT)
    assert isinstance(caller.exception(), StartTimeout)


async def test_start_that_succeeds_in_the_moment_in_which_it_stalls_succeeds(slow: Stage) -> None:
    caller = await slow.request()

    slow.backend.let_start()
    await settle()
    stall(slow)

    assert await caller is slow.backend.running[KEY]


@pytest.mark.parametrize("end", ["fails", "stopped", "closed"])
async def test_stalled_start_that_ends_otherwise_is_told_as_such_to_who_waits_again(slow: Stage, end: str) -> None:
    first = await slow.request()
    stall(slow)
    await settle()
    assert code_of(first) == "unschedulable"
    slow.backend.observer.stalled(KEY, None)
    caller = await slow.request()

    if end == "fails":
        slow.backend.fail_start(StartFailed("quota", "There is no room."))
    elif end == "stopped":
        await slow.supervisor.stop(KEY)
    else:
        await slow.supervisor.close()
    await settle()

    assert isinstance(caller.exception(), ShuttingDown if end == "closed" else StartFailed)
