"""What is told of a workspace: while it starts, runs and stops, after it failed, and to those who wait for news."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.errors import ExtendRefused, ShuttingDown, StartFailed, StartStalled, StartTimeout, StopFailed
from proxy.ledger import HAPPENINGS, PAST, Ledger
from proxy.report import Fate, Progress, Report, Step
from proxy.workspace import Key, Phase

from .fakes import KEY, FakeClock, settle
from .stage import IDLE_TTL, REAP_INTERVAL, Stage, reaping, replicated, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OTHER = Key("other", "default")
WARNING = 600.0
DAY = 24 * 3600.0


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


@pytest.fixture
async def slow() -> AsyncIterator[Stage]:
    async with staged() as stage:
        stage.backend.slow_starts = stage.backend.slow_stops = True
        yield stage


def report(stage: Stage, key: Key = KEY) -> Report:
    found = stage.supervisor.report(key)
    assert found is not None
    return found


def words(stage: Stage) -> list[str]:
    return [happening.what for happening in report(stage).happenings]


# Its life -------------------------------------------------------------------------------------------------------------


async def test_nothing_is_told_of_a_workspace_that_nobody_asked_for(stage: Stage) -> None:
    assert stage.supervisor.report(KEY) is None
    assert stage.supervisor.reports() == []


async def test_start_is_told_with_its_steps_and_the_moment_each_began(slow: Stage) -> None:
    caller = await slow.request()
    began = slow.clock.now()
    await slow.clock.advance(3)
    slow.backend.observer.progress(KEY, Progress(Step.PULLING, "pulling the image"))
    pulling = slow.clock.now()
    await slow.clock.advance(5)
    slow.backend.observer.progress(KEY, Progress(Step.PULLING, "pulling the image"))

    told = report(slow)

    assert (told.phase, told.since) == (Phase.STARTING, began)
    assert told.progress == Progress(Step.PULLING, "pulling the image", pulling)
    assert (told.due_at, told.fate, told.is_warned) == (None, Fate.NOT_RUNNING, False)
    slow.backend.let_start()
    await caller
    assert report(slow).progress is None


async def test_progress_that_comes_late_is_not_told(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)

    stage.supervisor.progress(KEY, Progress(Step.ANSWERING, "it answers"))
    stage.supervisor.progress(OTHER, Progress(Step.ANSWERING, "it answers"))

    assert report(stage).progress is None
    assert stage.supervisor.report(OTHER) is None


async def test_what_is_in_the_way_of_a_start_is_told_until_it_is_out_of_the_way(slow: Stage) -> None:
    caller = await slow.request()
    at = slow.clock.now()
    slow.backend.observer.stalled(KEY, StartStalled("unschedulable", "No node can take it now."))
    await slow.clock.advance(5)
    trouble = report(slow).trouble
    slow.backend.observer.stalled(KEY, None)

    assert trouble is not None
    assert (trouble.code, trouble.message, trouble.at) == ("unschedulable", "No node can take it now.", at)
    assert report(slow).trouble is None
    with pytest.raises(StartStalled):
        await caller


async def test_failure_is_told_with_its_log_and_the_time_of_the_next_try_until_a_start_succeeds(stage: Stage) -> None:
    stage.backend.broken_starts[KEY] = StartFailed("exited", "It ended at once.", detail="Traceback")
    with pytest.raises(StartFailed):
        await stage.supervisor.ensure_running(KEY)
    failure = report(stage).failure
    failed_at = stage.clock.now()
    phase = report(stage).phase
    await stage.clock.advance(1)
    del stage.backend.broken_starts[KEY]
    await stage.supervisor.ensure_running(KEY)

    assert phase is Phase.STOPPED
    assert failure is not None
    assert (failure.code, failure.detail, failure.at) == ("exited", "Traceback", failed_at)
    assert failure.retry_at == failed_at + timedelta(seconds=1)
    assert report(stage).failure is None


async def test_life_is_told_in_order_with_reasons(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.die()
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_stops[KEY] = StopFailed("It does not end.")
    with pytest.raises(StopFailed):
        await stage.supervisor.stop(KEY)
    del stage.backend.broken_stops[KEY]
    await stage.supervisor.stop(KEY, "asked to by ada")

    assert words(stage) == [
        "starting", "running", "lost", "starting", "running", "stopping", "stuck", "stopping", "stopped",
    ]  # fmt: skip
    reasons = [happening.reason for happening in report(stage).happenings]
    assert reasons[2] == "exit status 1"
    assert "It does not end." in reasons[6]
    assert reasons[-2:] == ["asked to by ada", "asked to by ada"]
    assert report(stage).stopped == report(stage).happenings[-1]


async def test_only_the_last_twenty_changes_are_remembered(stage: Stage) -> None:
    for _ in range(HAPPENINGS):
        await stage.supervisor.ensure_running(KEY)
        await stage.supervisor.stop(KEY)

    assert len(report(stage).happenings) == HAPPENINGS
    assert words(stage)[-2:] == ["stopping", "stopped"]


async def test_what_was_reaped_is_known_with_its_last_use_and_the_reason(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.supervisor.touch(KEY, "GET /ws/demo/lab")
    stage.supervisor.ignored(KEY, "GET /ws/demo/api/kernels")
    used = stage.clock.now()

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)

    told = report(stage)
    assert (told.phase, told.last_active) == (Phase.STOPPED, used)
    assert told.counted is not None
    assert (told.counted.what, told.counted.at) == ("GET /ws/demo/lab", used)
    assert told.ignored is not None
    assert told.ignored.what == "GET /ws/demo/api/kernels"
    assert told.stopped is not None
    assert told.stopped.reason == "It has not been used for 1h."
    assert stage.supervisor.reports() == [told]


async def test_stop_of_what_does_not_run_is_neither_use_nor_a_new_reason(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    used = stage.clock.now()
    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
    before = report(stage)
    await stage.clock.advance(60)

    await stage.supervisor.stop(KEY)

    after = report(stage)
    assert (before.last_active, after.last_active) == (used, used)
    assert after.stopped == before.stopped
    assert stage.backend.stops[KEY] == 2  # another replica may have started it


async def test_stop_of_what_never_ran_is_no_use(stage: Stage) -> None:
    await stage.supervisor.stop(KEY)

    assert report(stage).last_active is None


async def test_usual_start_is_the_median_of_recent_ones(slow: Stage) -> None:
    usual = []
    for seconds in (9.0, 2.0, 4.0):
        caller = await slow.request()
        await slow.clock.advance(seconds)
        slow.backend.let_start()
        await caller
        usual.append(report(slow).usual_start_seconds)
        slow.backend.die()

    assert usual == [9.0, 5.5, 4.0]


# When it is due -------------------------------------------------------------------------------------------------------


async def test_due_time_follows_use_and_the_last_minutes_are_warned_of(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    used = stage.clock.now()
    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL - WARNING - 0.5)
        early = report(stage)
        await stage.clock.advance(1.5)
        warned = report(stage)
        stage.supervisor.touch(KEY)
        again = report(stage)

    assert early.due_at == warned.due_at == used + timedelta(seconds=IDLE_TTL)
    assert [each.is_warned for each in (early, warned, again)] == [False, True, False]
    assert {each.fate for each in (early, warned, again)} == {Fate.IN_USE}
    assert early.version < warned.version < again.version  # a warning is news, and so is its end
    assert again.due_at == stage.clock.now() + timedelta(seconds=IDLE_TTL)


async def test_what_is_due_says_so_until_it_is_reaped(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(IDLE_TTL + 0.5)

    assert (report(stage).fate, report(stage).why) == (Fate.IDLE, "It has not been used for 1h.")


async def test_warning_is_never_more_than_half_of_the_time_that_it_may_be_idle() -> None:
    async with staged(idle_ttl=timedelta(minutes=4)) as stage:
        await stage.supervisor.ensure_running(KEY)
        async with reaping(stage):
            await stage.clock.advance(119.5)
            before = report(stage).is_warned
            await stage.clock.advance(1)

            assert (before, report(stage).is_warned) == (False, True)


async def test_nothing_is_due_where_the_reaper_is_off() -> None:
    async with staged(reaper=False) as stage:
        await stage.supervisor.ensure_running(KEY)
        await stage.clock.advance(10 * IDLE_TTL)

        assert (report(stage).due_at, report(stage).fate) == (None, Fate.REAPER_OFF)


# Extending ------------------------------------------------------------------------------------------------------------


async def test_extended_workspace_is_reaped_after_the_time_that_it_was_given(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(IDLE_TTL - 60)
    until = stage.clock.now() + timedelta(seconds=60 + 3600)

    told = stage.supervisor.extend(KEY)
    async with reaping(stage):
        await stage.clock.advance(3600 + 60 - 0.5)
        before = stage.backend.stops[KEY]
        await stage.clock.advance(REAP_INTERVAL + 0.5)

    assert (told.extended_until, told.due_at) == (until, until)
    assert not told.is_warned
    assert (before, stage.backend.stops[KEY]) == (0, 1)


async def test_extension_is_no_use_and_use_is_no_extension(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    used = stage.clock.now()
    await stage.clock.advance(60)

    told = stage.supervisor.extend(KEY, timedelta(minutes=1))
    stage.supervisor.touch(KEY)
    await stage.clock.advance(2 * 60)

    assert told.last_active == used
    assert told.due_at == used + timedelta(seconds=IDLE_TTL + 60)
    assert report(stage).due_at == used + timedelta(seconds=60 + IDLE_TTL)


async def test_extensions_add_up_to_what_is_allowed_and_no_further() -> None:
    async with staged(max_extend=timedelta(hours=3)) as stage:
        await stage.supervisor.ensure_running(KEY)
        now = stage.clock.now()

        until = [stage.supervisor.extend(KEY).extended_until for _ in range(2)]
        with pytest.raises(ExtendRefused) as refused:
            stage.supervisor.extend(KEY)

        assert until == [now + timedelta(hours=2), now + timedelta(hours=3)]
        assert refused.value.code == "enough-time"


@pytest.mark.parametrize("by", [timedelta(), timedelta(seconds=-1), timedelta(hours=24, seconds=1)])
async def test_more_time_than_is_allowed_is_refused(stage: Stage, by: timedelta) -> None:
    await stage.supervisor.ensure_running(KEY)

    with pytest.raises(ExtendRefused) as refused:
        stage.supervisor.extend(KEY, by)

    assert (refused.value.code, refused.value.status) == ("too-long", 409)


async def test_what_does_not_run_is_not_extended(slow: Stage) -> None:
    with pytest.raises(ExtendRefused) as stopped:
        slow.supervisor.extend(KEY)
    caller = await slow.request()
    with pytest.raises(ExtendRefused) as starting:
        slow.supervisor.extend(KEY)

    assert stopped.value.code == starting.value.code == "not-running"
    slow.backend.let_start()
    await caller


async def test_extension_ends_with_the_notebook_server(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.supervisor.extend(KEY, timedelta(hours=10))
    await stage.supervisor.stop(KEY)

    await stage.supervisor.ensure_running(KEY)

    assert report(stage).extended_until is None


async def test_extension_holds_on_every_replica_and_over_a_restart() -> None:
    async with replicated() as (first, second):
        await first.supervisor.ensure_running(KEY)
        second.backend.find()
        until = first.supervisor.extend(KEY, timedelta(hours=10)).extended_until
        await settle()
        second.backend.die()  # and is found anew, as after a restart

        second.backend.find()

        assert until is not None
        assert report(second).extended_until == until
        async with reaping(first, second):
            await first.clock.advance(10 * 3600)
            assert [first.backend.stops[KEY], second.backend.stops[KEY]] == [0, 0]
            await first.clock.advance(2 * 3600)
        assert sum((first.backend.stops + second.backend.stops).values()) == 1


async def test_extension_on_another_replica_calls_off_a_reap_that_was_announced() -> None:
    async with replicated() as (first, second):
        await first.supervisor.ensure_running(KEY)
        second.backend.find()
        async with reaping(first):
            await first.clock.advance(IDLE_TTL + REAP_INTERVAL)
            assert KEY in first.backend.cluster.marks

            second.supervisor.extend(KEY)
            await first.clock.advance(2 * REAP_INTERVAL)

        assert KEY in first.backend.running
        assert report(first).fate is Fate.EXTENDED


@pytest.mark.parametrize("hours", [-1, 25])
async def test_extension_that_nobody_can_have_asked_for_is_not_believed(stage: Stage, hours: int) -> None:
    await stage.supervisor.ensure_running(KEY)

    stage.backend.observer.extended(KEY, stage.clock.now() + timedelta(hours=hours))
    stage.backend.observer.extended(OTHER, stage.clock.now() + timedelta(hours=1))

    assert report(stage).extended_until is None


@pytest.mark.parametrize("error", [StopFailed("Kubernetes does not answer."), ZeroDivisionError()])
async def test_extension_that_cannot_be_stored_holds_here_and_is_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_stores[KEY] = error

    stage.supervisor.extend(KEY, timedelta(hours=10))
    async with reaping(stage):
        await stage.clock.advance(10 * 3600)

    assert KEY in stage.backend.running
    assert ["extension not stored" in record.getMessage() for record in caplog.records] == [True]


async def test_no_more_time_is_given_to_what_max_age_ends() -> None:
    async with staged(max_age=timedelta(minutes=30)) as stage:
        await stage.supervisor.ensure_running(KEY)

        with pytest.raises(ExtendRefused) as refused:
            stage.supervisor.extend(KEY)

        assert refused.value.code == "max-age"


async def test_age_of_what_is_found_counts_from_when_it_was_made() -> None:
    async with staged(max_age=timedelta(hours=10)) as stage:
        stage.backend.started[KEY] = stage.clock.now() - timedelta(hours=8)
        stage.backend.find()

        assert report(stage).due_at == stage.clock.now() + timedelta(hours=1)
        await stage.clock.advance(3600 + 1)
        stage.supervisor.touch(KEY)
        assert (report(stage).fate, report(stage).due_at) == (
            Fate.TOO_OLD,
            stage.clock.now() + timedelta(seconds=3600 - 1),
        )


async def test_short_idle_time_is_warned_of_though_another_workspace_was_given_a_day() -> None:
    async with staged() as stage, reaping(stage):
        await stage.supervisor.ensure_running(OTHER)
        stage.supervisor.extend(OTHER, timedelta(hours=24))
        await stage.clock.advance(REAP_INTERVAL)
        await stage.supervisor.ensure_running(KEY)

        await stage.clock.advance(IDLE_TTL - 1)

        assert report(stage).is_warned


# Beginning without waiting --------------------------------------------------------------------------------------------


async def test_begin_starts_once_and_returns_at_once(slow: Stage) -> None:
    slow.supervisor.begin(KEY)
    slow.supervisor.begin(KEY)
    await settle()

    assert report(slow).phase is Phase.STARTING
    caller = await slow.request()
    slow.backend.let_start()
    await caller
    slow.supervisor.begin(KEY)
    await settle()
    assert slow.backend.starts[KEY] == 1


@pytest.mark.parametrize("ends", [True, False])
async def test_what_was_begun_during_a_stop_starts_when_it_is_gone(slow: Stage, ends: bool) -> None:
    caller = await slow.request()
    slow.backend.let_start()
    await caller
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    slow.supervisor.begin(KEY)
    waiting = await slow.request()

    slow.backend.let_stop() if ends else slow.backend.fail_stop(StopFailed("It does not end."))
    await settle()

    assert slow.backend.starts[KEY] == 1 + ends
    assert report(slow).phase is (Phase.STARTING if ends else Phase.RUNNING)
    if ends:
        slow.backend.let_start()
    await waiting
    await asyncio.gather(stopper, return_exceptions=True)


async def test_what_was_begun_during_a_stop_that_failed_is_not_started_after_the_next_one(slow: Stage) -> None:
    caller = await slow.request()
    slow.backend.let_start()
    await caller
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    slow.supervisor.begin(KEY)
    slow.backend.fail_stop(StopFailed("It does not end."))
    await asyncio.gather(stopper, return_exceptions=True)

    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    slow.backend.let_stop()
    await stopper
    await settle()

    assert slow.supervisor.phases() == {}
    assert slow.backend.starts[KEY] == 1


async def test_last_word_holds_of_starts_and_stops_during_a_stop(slow: Stage) -> None:
    caller = await slow.request()
    slow.backend.let_start()
    await caller
    stoppers = await slow.begin(slow.supervisor.stop(KEY))
    slow.supervisor.begin(KEY)
    stoppers += await slow.begin(slow.supervisor.stop(KEY))

    slow.backend.let_stop()
    await asyncio.gather(*stoppers)
    await settle()

    assert slow.supervisor.phases() == {}
    assert slow.backend.starts[KEY] == 1


async def test_begin_honours_the_back_off_also_after_a_stop(slow: Stage) -> None:
    slow.supervisor.begin(KEY)
    await settle()
    slow.backend.fail_start(StartFailed("quota", "There is no room.", retry_after=30))
    await settle()
    with pytest.raises(StartFailed) as refused:
        slow.supervisor.begin(KEY)
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    slow.supervisor.begin(KEY)
    slow.backend.let_stop()
    await stopper
    await settle()

    assert (refused.value.code, refused.value.retry_after) == ("quota", 30)
    assert slow.backend.starts[KEY] == 1


async def test_begin_is_refused_while_the_proxy_shuts_down(slow: Stage) -> None:
    slow.supervisor.refuse_starts()

    with pytest.raises(ShuttingDown):
        slow.supervisor.begin(KEY)


async def test_one_caller_may_wait_for_less_than_the_others(slow: Stage) -> None:
    [short] = await slow.begin(slow.supervisor.ensure_running(KEY, 5.0))
    long = await slow.request()

    await slow.clock.advance(5)

    with pytest.raises(StartTimeout, match="5 s"):
        await short
    assert not long.done()
    slow.backend.let_start()
    await long


# News -----------------------------------------------------------------------------------------------------------------


async def test_every_change_is_news_and_use_is_none(slow: Stage) -> None:
    versions = [0]
    caller = None

    async def news() -> None:
        await settle()
        found = await asyncio.wait_for(slow.supervisor.changed(KEY, versions[-1]), 1)
        assert found == report(slow).version
        versions.append(found)

    caller = await slow.request()
    await news()
    slow.backend.observer.progress(KEY, Progress(Step.STARTING, "it starts"))
    await news()
    slow.backend.let_start()
    await caller
    await news()
    slow.supervisor.extend(KEY)
    await news()
    [waiter] = await slow.begin(slow.supervisor.changed(KEY, versions[-1]))
    slow.supervisor.touch(KEY, "GET /ws/demo/lab")
    slow.backend.observer.active(KEY, slow.clock.now())
    await settle()
    assert not waiter.done()
    slow.backend.die()
    versions.append(await waiter)

    assert versions == sorted(set(versions))


async def test_who_waits_for_one_workspace_is_not_woken_by_another_and_who_waits_for_all_is(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    one, all_of_them = await stage.begin(
        stage.supervisor.changed(KEY, report(stage).version),
        stage.supervisor.changed(None, report(stage).version),
    )

    await stage.supervisor.ensure_running(OTHER)
    await settle()

    assert (one.done(), all_of_them.done()) == (False, True)
    assert report(stage).version < all_of_them.result() <= report(stage, OTHER).version
    one.cancel()
    await settle()


async def test_waiters_leave_nothing_behind() -> None:
    ledger = Ledger(FakeClock())
    tasks = [asyncio.create_task(ledger.changed(Key(f"ws-{number}", "default"), 0)) for number in range(100)]
    await settle()
    for task in tasks[:50]:
        task.cancel()
    for number in range(50, 100):
        ledger.note(Key(f"ws-{number}", "default"), "starting")
    await settle()

    assert all(task.done() for task in tasks)
    assert ledger._waiters == {}


async def test_only_so_many_of_the_past_are_remembered_and_all_that_are_tracked() -> None:
    ledger = Ledger(FakeClock())
    ledger.entry(KEY)
    for number in range(PAST + 10):
        key = Key(f"ws-{number}", "default")
        ledger.note(key, "stopped")
        ledger.pass_on(key)

    assert len(ledger.keys) == PAST + 1
    assert ledger.find(KEY) is not None
    assert ledger.find(Key("ws-9", "default")) is None
    assert ledger.find(Key("ws-10", "default")) is not None
