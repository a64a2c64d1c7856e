"""Starting, keeping, losing and stopping: each race has one outcome."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from proxy.errors import InvalidKey, ShuttingDown, StartFailed, StartTimeout, StopFailed
from proxy.workspace import Handle, Key, Phase

from .fakes import KEY, settle
from .stage import IDLE_TTL, READY_TIMEOUT, REAP_INTERVAL, Stage, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

ELSEWHERE = Key(KEY.workspace_id, "elsewhere")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


@pytest.fixture
async def slow(stage: Stage) -> Stage:
    """A stage on which starts and stops end only when the test says so."""
    stage.backend.slow_starts = stage.backend.slow_stops = True
    return stage


def without_suspending(work: Coroutine[Any, Any, Handle]) -> Handle:
    """Run a coroutine that must never give way to the event loop."""
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    result = ended.value.value
    assert isinstance(result, Handle)
    return result


async def outcomes(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    """Return the result or error of each; all have ended."""
    assert [task for task in tasks if not task.done()] == []
    return await asyncio.gather(*tasks, return_exceptions=True)


# Starting -------------------------------------------------------------------------------------------------------------


async def test_first_call_starts_the_workspace(stage: Stage) -> None:
    handle = await stage.supervisor.ensure_running(KEY)

    assert handle is stage.backend.running[KEY]
    assert stage.backend.starts[KEY] == 1
    assert stage.supervisor.phases().get(KEY) is Phase.RUNNING
    assert stage.supervisor.phases() == {KEY: Phase.RUNNING}


async def test_later_call_returns_the_cached_handle_without_suspending(stage: Stage) -> None:
    first = await stage.supervisor.ensure_running(KEY)

    second = without_suspending(stage.supervisor.ensure_running(KEY))

    assert second is first
    assert stage.backend.starts[KEY] == 1


async def test_later_call_touches(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(90)

    without_suspending(stage.supervisor.ensure_running(KEY))

    assert stage.supervisor.last_active(KEY) == stage.clock.now()


async def test_hundred_concurrent_calls_share_one_start_and_one_handle(slow: Stage) -> None:
    callers = await slow.begin(*(slow.supervisor.ensure_running(KEY) for _ in range(100)))

    slow.backend.let_start()
    await settle()

    assert slow.backend.starts[KEY] == 1
    assert {id(handle) for handle in await outcomes(callers)} == {id(slow.backend.running[KEY])}


async def test_workspace_counts_as_touched_when_it_becomes_ready(slow: Stage) -> None:
    caller = await slow.request()
    await slow.clock.advance(READY_TIMEOUT / 2)

    slow.backend.let_start()
    await caller

    assert slow.supervisor.last_active(KEY) == slow.clock.now()


async def test_second_request_joins_the_start_in_flight_and_touches(slow: Stage) -> None:
    first = await slow.request()
    await slow.clock.advance(10)

    second = await slow.request()

    assert slow.supervisor.last_active(KEY) == slow.clock.now()
    slow.backend.let_start()
    assert await first is await second
    assert slow.backend.starts[KEY] == 1


@pytest.mark.parametrize("cancelled", [[0], [1], [0, 1], [0, 1, 2]], ids=["first", "second", "two", "all"])
async def test_cancelled_callers_leave_the_start_alive(slow: Stage, cancelled: list[int]) -> None:
    callers = await slow.begin(*(slow.supervisor.ensure_running(KEY) for _ in range(3)))

    for index in cancelled:
        callers[index].cancel()
    await settle()
    slow.backend.let_start()
    await settle()

    handle = slow.backend.running[KEY]
    assert [index for index, caller in enumerate(callers) if caller.cancelled()] == cancelled
    assert [caller.result() for index, caller in enumerate(callers) if index not in cancelled] == [handle] * (
        3 - len(cancelled)
    )
    assert without_suspending(slow.supervisor.ensure_running(KEY)) is handle
    assert slow.backend.starts[KEY] == 1


async def test_caller_that_is_cancelled_before_it_ran_starts_nothing(stage: Stage) -> None:
    caller = asyncio.create_task(stage.supervisor.ensure_running(KEY))

    caller.cancel()
    await settle()

    assert stage.backend.starts[KEY] == 0
    assert stage.supervisor.phases() == {}


@pytest.mark.parametrize("workspace_id", ["", "Demo", "-demo", "demo-", "de mo", "../demo", "a" * 55, "démo"])
async def test_invalid_id_is_refused_before_anything_happens(stage: Stage, workspace_id: str) -> None:
    key = Key(workspace_id, "default")

    with pytest.raises(InvalidKey):
        await stage.supervisor.ensure_running(key)
    with pytest.raises(InvalidKey):
        await stage.supervisor.stop(key)

    assert stage.backend.starts[key] == stage.backend.stops[key] == 0
    assert stage.supervisor.phases() == {}


async def test_invalid_id_is_refused_also_when_nothing_starts_any_more(stage: Stage) -> None:
    await stage.supervisor.close()

    with pytest.raises(InvalidKey):
        await stage.supervisor.ensure_running(Key("Demo", "default"))


async def test_one_id_in_two_namespaces_is_two_workspaces(slow: Stage) -> None:
    here, elsewhere = await slow.request(KEY), await slow.request(ELSEWHERE)

    slow.backend.let_start(KEY)
    await settle()

    assert here.result() is slow.backend.running[KEY]
    assert not elsewhere.done()
    assert slow.supervisor.phases().get(ELSEWHERE) is Phase.STARTING
    slow.backend.let_start(ELSEWHERE)
    assert await elsewhere is not here.result()
    slow.backend.slow_stops = False
    await slow.supervisor.stop(KEY)
    assert slow.supervisor.phases() == {ELSEWHERE: Phase.RUNNING}


# Starts that fail -----------------------------------------------------------------------------------------------------


async def test_failed_start_reaches_every_waiter_with_reason_code_and_time(slow: Stage) -> None:
    callers = await slow.begin(*(slow.supervisor.ensure_running(KEY) for _ in range(5)))

    slow.backend.fail_start(StartFailed("exited", "It ended at once.", detail="ImportError"))
    await settle()

    for error in await outcomes(callers):
        assert isinstance(error, StartFailed)
        assert (error.code, str(error), error.detail, error.retry_after) == (
            "exited", "It ended at once.", "ImportError", 1,
        )  # fmt: skip
    assert slow.supervisor.phases().get(KEY) is None
    assert slow.supervisor.last_active(KEY) is None


async def test_failed_start_is_not_tried_again_before_the_back_off_ends(stage: Stage) -> None:
    stage.backend.broken_starts[KEY] = StartFailed("exited", "It ended at once.")
    waits = []

    for _ in range(11):
        with pytest.raises(StartFailed) as failed:
            await stage.supervisor.ensure_running(KEY)
        tried = stage.backend.starts[KEY]
        waits.append(failed.value.retry_after or 0)
        await stage.clock.advance(waits[-1] - 0.5)
        with pytest.raises(StartFailed, match="It ended at once") as refused:
            await stage.supervisor.ensure_running(KEY)
        assert (refused.value.code, refused.value.retry_after) == ("exited", 1)
        assert stage.backend.starts[KEY] == tried
        await stage.clock.advance(0.5)

    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert stage.backend.starts[KEY] == 11


async def test_success_clears_the_back_off(stage: Stage) -> None:
    failure = stage.backend.broken_starts[KEY] = StartFailed("exited", "It ended at once.")
    for wait in (1, 2, 4):
        with pytest.raises(StartFailed):
            await stage.supervisor.ensure_running(KEY)
        failure.retry_after = None
        await stage.clock.advance(wait)
    del stage.backend.broken_starts[KEY]
    await stage.supervisor.ensure_running(KEY)
    stage.backend.die()
    stage.backend.broken_starts[KEY] = failure

    with pytest.raises(StartFailed) as failed:
        await stage.supervisor.ensure_running(KEY)

    assert failed.value.retry_after == 1


async def test_back_off_of_one_namespace_does_not_hold_up_another(stage: Stage) -> None:
    stage.backend.broken_starts[KEY] = StartFailed("exited", "It ended at once.")
    with pytest.raises(StartFailed):
        await stage.supervisor.ensure_running(KEY)

    handle = await stage.supervisor.ensure_running(ELSEWHERE)

    assert handle is stage.backend.running[ELSEWHERE]


async def test_unexpected_exception_in_the_backend_is_an_internal_failure_and_logged(
    slow: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    callers = await slow.begin(*(slow.supervisor.ensure_running(KEY) for _ in range(2)))

    slow.backend.fail_start(ZeroDivisionError("secret"))
    await settle()

    for error in await outcomes(callers):
        assert isinstance(error, StartFailed)
        assert (error.code, error.retry_after) == ("internal", 1)
        assert "secret" not in str(error)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError
    assert KEY.workspace_id in record.getMessage()


async def test_start_that_is_cut_off_from_within_fails_instead_of_hanging(slow: Stage) -> None:
    caller = await slow.request()

    slow.backend.cut_off_start()
    await settle()

    with pytest.raises(StartFailed) as failed:
        await caller
    assert failed.value.code == "internal"
    assert slow.supervisor.phases().get(KEY) is None


async def test_failed_start_that_nobody_waits_for_complains_only_in_the_log(
    slow: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caller = await slow.request()
    caller.cancel()
    await settle()

    slow.backend.fail_start(StartFailed("exited", "It ended at once."))
    await settle()
    caplog.clear()  # what it holds is not collected, and not complained of

    assert caller.cancelled()
    assert slow.supervisor.phases().get(KEY) is None  # and nothing was left unretrieved, which the stage checks


# Starts that take long ------------------------------------------------------------------------------------------------


async def test_start_that_overruns_goes_on_and_a_retry_joins_it(slow: Stage) -> None:
    first = await slow.request()

    await slow.clock.advance(READY_TIMEOUT - 0.5)
    assert not first.done()
    await slow.clock.advance(0.5)

    with pytest.raises(StartTimeout):
        await first
    assert slow.supervisor.phases().get(KEY) is Phase.STARTING
    retry = await slow.request()
    slow.backend.let_start()
    assert await retry is slow.backend.running[KEY]
    assert slow.backend.starts[KEY] == 1


async def test_start_that_overruns_and_then_succeeds_needs_nobody_to_wait(slow: Stage) -> None:
    caller = await slow.request()
    await slow.clock.advance(READY_TIMEOUT)
    with pytest.raises(StartTimeout):
        await caller

    slow.backend.let_start()
    await settle()

    assert without_suspending(slow.supervisor.ensure_running(KEY)) is slow.backend.running[KEY]


async def test_each_caller_waits_for_the_ready_timeout_from_its_own_call_on(slow: Stage) -> None:
    first = await slow.request()
    await slow.clock.advance(READY_TIMEOUT / 2)
    second = await slow.request()

    await slow.clock.advance(READY_TIMEOUT / 2)

    with pytest.raises(StartTimeout):
        await first
    assert not second.done()
    slow.backend.let_start()
    await second


async def test_caller_that_waits_for_a_stop_waits_no_longer_than_the_ready_timeout_in_all(slow: Stage) -> None:
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    caller = await slow.request()
    await slow.clock.advance(READY_TIMEOUT - 1)
    slow.backend.let_stop()
    await stopper
    assert not caller.done()

    await slow.clock.advance(1)

    with pytest.raises(StartTimeout):
        await caller
    assert slow.supervisor.phases().get(KEY) is Phase.STARTING


# Stopping -------------------------------------------------------------------------------------------------------------


async def test_stop_returns_when_the_workspace_is_gone(slow: Stage) -> None:
    slow.backend.slow_starts = False
    await slow.supervisor.ensure_running(KEY)

    [stopper] = await slow.begin(slow.supervisor.stop(KEY))

    assert not stopper.done()
    assert slow.supervisor.phases().get(KEY) is Phase.STOPPING
    slow.backend.let_stop()
    await stopper
    assert KEY not in slow.backend.running
    assert slow.supervisor.phases() == {}


async def test_stop_of_what_is_not_known_asks_the_backend_and_is_success(stage: Stage) -> None:
    await stage.supervisor.stop(KEY)

    assert stage.backend.stops[KEY] == 1
    assert stage.supervisor.phases().get(KEY) is None


async def test_stop_during_a_start_cancels_it_and_tells_its_waiters(slow: Stage) -> None:
    slow.backend.slow_stops = False
    callers = await slow.begin(*(slow.supervisor.ensure_running(KEY) for _ in range(3)))

    await slow.supervisor.stop(KEY)

    for error in await outcomes(callers):
        assert isinstance(error, StartFailed)
        assert (error.code, error.retry_after) == ("stopped", 1)
    assert (slow.backend.starting, slow.backend.half_done, slow.backend.running) == ({}, set(), {})
    assert slow.backend.stops[KEY] == 1


async def test_workspace_that_was_stopped_while_it_started_has_no_back_off(slow: Stage) -> None:
    slow.backend.slow_stops = False
    caller = await slow.request()
    await slow.supervisor.stop(KEY)
    await outcomes([caller])
    slow.backend.slow_starts = False

    handle = await slow.supervisor.ensure_running(KEY)

    assert handle is slow.backend.running[KEY]


async def test_stop_waits_until_the_start_that_it_cancelled_has_ended(slow: Stage) -> None:
    slow.backend.slow_clearing, slow.backend.slow_stops = True, False
    caller = await slow.request()

    [stopper] = await slow.begin(slow.supervisor.stop(KEY))

    await outcomes([caller])  # told at once
    assert slow.backend.stops[KEY] == 0
    slow.backend.let_clear()
    await stopper
    assert slow.backend.stops[KEY] == 1


@pytest.mark.parametrize("error", [None, StartFailed("exited", "It ended at once."), ZeroDivisionError()])
async def test_start_that_ends_otherwise_than_by_its_cancellation_is_stopped_all_the_same(
    slow: Stage, error: Exception | None
) -> None:
    slow.backend.deaf_starts, slow.backend.slow_stops = True, False
    if error:
        slow.backend.broken_starts[KEY] = error
    caller = await slow.request()

    await slow.supervisor.stop(KEY)

    [told] = await outcomes([caller])
    assert isinstance(told, StartFailed)
    assert told.code == "stopped"
    assert slow.backend.running == {}
    assert slow.supervisor.phases() == {}


async def test_start_that_ends_well_in_the_moment_of_its_stop_is_stopped(slow: Stage) -> None:
    slow.backend.slow_stops = False
    caller = await slow.request()

    slow.backend.let_start()
    await slow.supervisor.stop(KEY)

    [error] = await outcomes([caller])
    assert isinstance(error, StartFailed)
    assert slow.backend.running == {}
    assert slow.supervisor.phases() == {}


async def test_stop_during_a_stop_joins_it(slow: Stage) -> None:
    stoppers = await slow.begin(*(slow.supervisor.stop(KEY) for _ in range(5)))

    slow.backend.let_stop()
    await settle()

    assert await outcomes(stoppers) == [None] * 5
    assert slow.backend.stops[KEY] == 1


async def test_requests_during_a_stop_wait_for_it_and_start_anew_together(slow: Stage) -> None:
    slow.backend.slow_starts = False
    old = await slow.supervisor.ensure_running(KEY)
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    callers = await slow.begin(*(slow.supervisor.ensure_running(KEY) for _ in range(5)))
    assert slow.backend.starts[KEY] == 1

    slow.backend.let_stop()
    await stopper
    await settle()

    new = slow.backend.running[KEY]
    assert new is not old
    assert await outcomes(callers) == [new] * 5
    assert slow.backend.starts[KEY] == 2


async def test_stop_that_was_asked_for_while_requests_wait_joins_the_stop_and_not_the_next_start(slow: Stage) -> None:
    stoppers = await slow.begin(slow.supervisor.stop(KEY))
    caller = await slow.request()
    stoppers += await slow.begin(slow.supervisor.stop(KEY))

    slow.backend.let_stop()
    await settle()

    assert await outcomes(stoppers) == [None, None]
    slow.backend.let_start()
    assert await caller is slow.backend.running[KEY]
    assert slow.backend.stops[KEY] == 1


@pytest.mark.parametrize("cancelled", [[0], [1], [0, 1]], ids=["first", "second", "all"])
async def test_cancelled_callers_leave_the_stop_running(slow: Stage, cancelled: list[int]) -> None:
    stoppers = await slow.begin(*(slow.supervisor.stop(KEY) for _ in range(2)))

    for index in cancelled:
        stoppers[index].cancel()
    await settle()

    assert slow.supervisor.phases().get(KEY) is Phase.STOPPING
    slow.backend.let_stop()
    await settle()
    assert [index for index, stopper in enumerate(stoppers) if stopper.cancelled()] == cancelled
    assert slow.supervisor.phases().get(KEY) is None
    assert slow.backend.stops[KEY] == 1


async def test_failed_stop_reaches_every_caller_and_keeps_a_running_workspace_tracked(slow: Stage) -> None:
    slow.backend.slow_starts = False
    handle = await slow.supervisor.ensure_running(KEY)
    stoppers = await slow.begin(*(slow.supervisor.stop(KEY) for _ in range(3)))

    slow.backend.fail_stop(StopFailed("It does not end."))
    await settle()

    assert [str(error) for error in await outcomes(stoppers)] == ["It does not end."] * 3
    assert slow.supervisor.phases().get(KEY) is Phase.RUNNING
    assert without_suspending(slow.supervisor.ensure_running(KEY)) is handle


async def test_caller_of_a_failed_stop_gets_its_own_failure_also_when_it_is_stopped_again_at_once(slow: Stage) -> None:
    slow.backend.slow_starts = False
    await slow.supervisor.ensure_running(KEY)

    async def stop_twice() -> None:
        with pytest.raises(StopFailed, match="first"):
            await slow.supervisor.stop(KEY)
        await slow.supervisor.stop(KEY)

    stoppers = await slow.begin(stop_twice(), slow.supervisor.stop(KEY))
    slow.backend.fail_stop(StopFailed("first"))
    await settle()

    assert not stoppers[0].done()
    with pytest.raises(StopFailed, match="first"):
        await stoppers[1]
    slow.backend.let_stop()
    await stoppers[0]


@pytest.mark.parametrize("defect", [OSError("no route"), KeyError("secret")])
async def test_unexpected_exception_in_a_stop_is_a_failed_stop_and_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture, defect: Exception
) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_stops[KEY] = defect

    with pytest.raises(StopFailed) as failed:
        await stage.supervisor.stop(KEY)

    assert failed.value.__cause__ is defect
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]
    assert stage.supervisor.phases().get(KEY) is Phase.RUNNING


async def test_stop_that_is_cut_off_from_within_fails_instead_of_hanging(slow: Stage) -> None:
    slow.backend.slow_starts = False
    handle = await slow.supervisor.ensure_running(KEY)
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    caller = await slow.request()

    slow.backend.cut_off_stop()
    await settle()

    with pytest.raises(StopFailed):
        await stopper
    assert await caller is handle


async def test_request_that_waits_for_a_stop_which_fails_gets_what_still_runs(slow: Stage) -> None:
    slow.backend.slow_starts = False
    handle = await slow.supervisor.ensure_running(KEY)
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    await slow.clock.advance(5)
    caller = await slow.request()

    slow.backend.fail_stop(StopFailed("It does not end."))
    await settle()

    await outcomes([stopper])
    assert await caller is handle
    assert slow.backend.starts[KEY] == 1
    assert slow.supervisor.last_active(KEY) == slow.clock.now()


async def test_failed_stop_forgets_what_never_ran(slow: Stage) -> None:
    caller = await slow.request()
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))

    slow.backend.fail_stop(StopFailed("It does not end."))
    await settle()

    assert [type(error) for error in await outcomes([caller, stopper])] == [StartFailed, StopFailed]
    assert slow.supervisor.phases() == {}


async def test_failed_stop_that_nobody_waits_for_complains_only_in_the_log(slow: Stage) -> None:
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    stopper.cancel()

    slow.backend.fail_stop(StopFailed("It does not end."))
    await settle()

    assert stopper.cancelled()
    assert slow.supervisor.phases().get(KEY) is None  # and nothing was left unretrieved, which the stage checks


# Losing ---------------------------------------------------------------------------------------------------------------


async def test_lost_workspace_is_started_anew_by_the_next_request(stage: Stage) -> None:
    old = await stage.supervisor.ensure_running(KEY)

    stage.backend.die()

    assert stage.supervisor.phases().get(KEY) is None
    new = await stage.supervisor.ensure_running(KEY)
    assert new is stage.backend.running[KEY]
    assert new is not old
    assert stage.backend.starts[KEY] == 2


async def test_news_of_a_handle_that_was_replaced_does_nothing(stage: Stage) -> None:
    old = await stage.supervisor.ensure_running(KEY)
    stage.backend.die()
    new = await stage.supervisor.ensure_running(KEY)

    stage.backend.report(KEY, old)
    stage.supervisor.lost(KEY, old, "connection refused")

    assert without_suspending(stage.supervisor.ensure_running(KEY)) is new


async def test_news_of_an_equal_handle_that_was_replaced_does_nothing(stage: Stage) -> None:
    handle = await stage.supervisor.ensure_running(KEY)

    stage.supervisor.lost(KEY, Handle(handle.service_url, handle.headers), "connection refused")

    assert stage.supervisor.phases().get(KEY) is Phase.RUNNING


async def test_hundred_requests_that_were_refused_start_it_once(stage: Stage) -> None:
    old = await stage.supervisor.ensure_running(KEY)
    del stage.backend.running[KEY]

    async def retry() -> Handle:
        stage.supervisor.lost(KEY, old, "connection refused")
        return await stage.supervisor.ensure_running(KEY)

    callers = await stage.begin(*(retry() for _ in range(100)))

    assert await outcomes(callers) == [stage.backend.running[KEY]] * 100
    assert stage.backend.starts[KEY] == 2


async def test_old_news_during_a_start_does_nothing(slow: Stage) -> None:
    slow.backend.slow_starts = False
    old = await slow.supervisor.ensure_running(KEY)
    slow.backend.die()
    slow.backend.slow_starts = True
    caller = await slow.request()

    slow.backend.report(KEY, old)

    slow.backend.let_start()
    assert await caller is slow.backend.running[KEY]


async def test_news_of_what_was_never_known_does_nothing(stage: Stage) -> None:
    stage.supervisor.lost(KEY, Handle("http://127.0.0.1:1/"), "connection refused")  # type: ignore[arg-type]

    assert stage.supervisor.phases() == {}


async def test_stop_that_fails_does_not_bring_back_what_was_lost_meanwhile(slow: Stage) -> None:
    slow.backend.slow_starts = False
    old = await slow.supervisor.ensure_running(KEY)
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))
    slow.backend.die()
    caller = await slow.request()

    slow.backend.fail_stop(StopFailed("Its service stayed."))
    await settle()

    await outcomes([stopper])
    assert await caller is slow.backend.running[KEY]
    assert await caller is not old


# Touching -------------------------------------------------------------------------------------------------------------


async def test_touch_records_activity_now(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(1000)

    stage.supervisor.touch(KEY)

    await stage.clock.advance(30)
    assert stage.supervisor.last_active(KEY) == datetime(2024, 2, 29, 12, 16, 40, tzinfo=UTC)


async def test_touch_of_what_is_not_tracked_does_nothing(stage: Stage) -> None:
    stage.supervisor.touch(KEY)
    stage.supervisor.touch(Key("Not An Id", ""))

    assert stage.supervisor.last_active(KEY) is None
    assert stage.supervisor.phases() == {}


async def test_touch_of_one_namespace_does_not_touch_another(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.supervisor.ensure_running(ELSEWHERE)
    await stage.clock.advance(60)

    stage.supervisor.touch(KEY)

    assert stage.supervisor.last_active(ELSEWHERE) == stage.clock.now() - timedelta(seconds=60)


async def test_touch_remembers_what_it_was_and_when(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(60)

    stage.supervisor.touch(KEY, "GET /ws/demo/lab")

    tracked = stage.supervisor._tracked[KEY]
    assert (tracked.counted, tracked.counted_at) == ("GET /ws/demo/lab", stage.clock.monotonic())
    assert tracked.ignored == ""


async def test_what_is_ignored_is_remembered_and_raises_nothing(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.supervisor.touch(KEY, "GET /ws/demo/lab")
    used = stage.clock.now()
    await stage.clock.advance(60)

    stage.supervisor.ignored(KEY, "GET /ws/demo/api/kernels")

    tracked = stage.supervisor._tracked[KEY]
    assert (tracked.ignored, tracked.ignored_at) == ("GET /ws/demo/api/kernels", stage.clock.monotonic())
    assert (tracked.counted, stage.supervisor.last_active(KEY)) == ("GET /ws/demo/lab", used)


async def test_what_is_ignored_neither_keeps_a_workspace_nor_stores_anything(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    reaper = (await stage.begin(stage.supervisor.run_reaper()))[0]
    for _ in range(int((IDLE_TTL + REAP_INTERVAL) / 60) + 1):
        stage.supervisor.ignored(KEY, "GET /ws/demo/api/kernels")
        await stage.clock.advance(60)

    assert stage.backend.running == {}
    assert stage.backend.stored == []
    stage.supervisor.ignored(KEY, "GET /ws/demo/api/kernels")
    assert stage.supervisor.phases() == {}
    reaper.cancel()


async def test_running_is_the_handle_of_what_runs_and_no_use_of_it(slow: Stage) -> None:
    seen = [(slow.supervisor.running(KEY), slow.supervisor.is_starting(KEY))]
    caller = await slow.request()
    seen.append((slow.supervisor.running(KEY), slow.supervisor.is_starting(KEY)))
    slow.backend.starting[KEY].set_result(None)
    await settle()
    used = slow.clock.now()
    await slow.clock.advance(60)
    seen.append((slow.supervisor.running(KEY), slow.supervisor.is_starting(KEY)))

    assert seen == [(None, False), (None, True), (slow.backend.running[KEY], False)]
    assert slow.supervisor.last_active(KEY) == used
    slow.backend.slow_stops = True
    stopper = (await slow.begin(slow.supervisor.stop(KEY)))[0]
    assert (slow.supervisor.running(KEY), slow.supervisor.is_starting(KEY)) == (None, False)
    slow.backend.stopping[KEY].set_result(None)
    await settle()
    await outcomes([caller, stopper])


async def test_last_active_is_none_before_the_start_and_after_the_stop(stage: Stage) -> None:
    before = stage.supervisor.last_active(KEY)
    await stage.supervisor.ensure_running(KEY)
    during = stage.supervisor.last_active(KEY)
    await stage.supervisor.stop(KEY)
    after = stage.supervisor.last_active(KEY)

    assert (before, during, after) == (None, stage.clock.now(), None)


@pytest.mark.parametrize("days", [1, -1])
async def test_idle_time_does_not_change_when_the_wall_clock_jumps(stage: Stage, days: int) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(120)

    stage.clock.jump(timedelta(days=days))

    last_active = stage.supervisor.last_active(KEY)
    assert last_active is not None
    assert stage.clock.now() - last_active == timedelta(seconds=120)
    stage.supervisor.touch(KEY)
    touched = stage.supervisor.last_active(KEY)
    assert touched == stage.clock.now()
    assert touched > last_active


# Closing --------------------------------------------------------------------------------------------------------------


async def test_close_tells_all_who_wait(slow: Stage) -> None:
    slow.backend.slow_starts = False
    await slow.supervisor.ensure_running(ELSEWHERE)
    slow.backend.slow_starts = True
    waiting = await slow.begin(
        slow.supervisor.ensure_running(KEY),
        slow.supervisor.ensure_running(KEY),
        slow.supervisor.stop(ELSEWHERE),
        slow.supervisor.ensure_running(ELSEWHERE),
    )

    await slow.supervisor.close()
    await settle()

    assert [type(error) for error in await outcomes(waiting)] == [ShuttingDown] * 4
    assert (slow.backend.starting, slow.backend.stopping) == ({}, {})


async def test_nothing_starts_after_close(stage: Stage) -> None:
    await stage.supervisor.close()

    with pytest.raises(ShuttingDown):
        await stage.supervisor.ensure_running(KEY)

    assert stage.backend.starts[KEY] == 0


async def test_what_runs_goes_on_and_is_found_after_close(stage: Stage) -> None:
    handle = await stage.supervisor.ensure_running(KEY)

    await stage.supervisor.close()

    assert without_suspending(stage.supervisor.ensure_running(KEY)) is handle
    assert stage.backend.running == {KEY: handle}
    assert stage.backend.stops[KEY] == 0


async def test_lost_workspace_is_not_started_again_after_close(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.supervisor.close()

    stage.backend.die()

    with pytest.raises(ShuttingDown):
        await stage.supervisor.ensure_running(KEY)


async def test_what_was_starting_at_close_can_be_stopped(slow: Stage) -> None:
    caller = await slow.request()
    await slow.supervisor.close()
    await outcomes([caller])
    slow.backend.slow_stops = False

    await slow.supervisor.stop(KEY)

    assert slow.backend.half_done == set()


async def test_what_became_ready_while_it_was_closed_is_found(slow: Stage) -> None:
    slow.backend.deaf_starts = True
    caller = await slow.request()

    await slow.supervisor.close()

    assert [type(error) for error in await outcomes([caller])] == [ShuttingDown]
    assert without_suspending(slow.supervisor.ensure_running(KEY)) is slow.backend.running[KEY]


async def test_close_can_be_called_again_and_twice_at_once(slow: Stage) -> None:
    caller = await slow.request()

    await asyncio.gather(slow.supervisor.close(), slow.supervisor.close())
    await slow.supervisor.close()

    [error] = await outcomes([caller])
    assert isinstance(error, ShuttingDown)


async def test_close_waits_for_a_start_that_a_stop_has_cancelled(slow: Stage) -> None:
    slow.backend.slow_clearing = True
    caller = await slow.request()
    [stopper] = await slow.begin(slow.supervisor.stop(KEY))

    [closer] = await slow.begin(slow.supervisor.close())

    assert not closer.done()
    assert list(slow.backend.clearing) == [KEY]  # it clears up in peace
    slow.backend.let_clear()
    await closer

    assert [type(error) for error in await outcomes([caller, stopper])] == [StartFailed, ShuttingDown]


async def test_request_that_was_let_in_before_a_long_idle_time_keeps_its_workspace_tracked(slow: Stage) -> None:
    caller = await slow.request()

    await slow.clock.advance(READY_TIMEOUT + 2 * IDLE_TTL)

    await outcomes([caller])
    slow.backend.let_start()
    await settle()
    assert slow.supervisor.last_active(KEY) == slow.clock.now()
