"""A reap announces itself, and gives way to whoever used the workspace: here, or at another replica."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.errors import Contested, StopFailed
from proxy.workspace import Key, Phase

from .fakes import KEY, settle
from .stage import IDLE_TTL, QUARTER, REAP_GRACE, REAP_INTERVAL, Stage, reaping, replicated, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OTHER = Key("other", "default")
TICK = IDLE_TTL + REAP_INTERVAL  # the first tick at which what was used at the beginning is due


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Stage, Stage]]:
    async with replicated() as pair:
        yield pair


@pytest.fixture
async def stage(pair: tuple[Stage, Stage]) -> Stage:
    """One of two replicas; nobody uses the other."""
    return pair[0]


async def run_on_both(first: Stage, second: Stage) -> None:
    """Let the first start a workspace, and the second find it."""
    await first.supervisor.ensure_running(KEY)
    second.backend.find()


async def touch_until(stage: Stage, seconds: float, every: float = 60) -> None:
    for _ in range(int(seconds / every)):
        await stage.clock.advance(every)
        stage.supervisor.touch(KEY)
        await settle()


# One replica's reap ---------------------------------------------------------------------------------------------------


async def test_due_workspace_is_marked_and_stopped_with_its_mark_after_the_grace(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    used = stage.clock.now()

    async with reaping(stage):
        await stage.clock.advance(TICK)
        marked, stops = list(stage.backend.marked), stage.backend.stops[KEY]
        await stage.clock.advance(REAP_GRACE - 0.5)
        early = stage.backend.stops[KEY]
        await stage.clock.advance(0.5)

    assert marked == [(KEY, used)]
    assert (stops, early) == (0, 0)
    assert stage.backend.stop_marks == [(stage.backend, KEY)]
    assert stage.supervisor.phases() == {}


async def test_where_there_are_no_others_there_is_no_grace() -> None:
    async with staged() as stage:
        await stage.supervisor.ensure_running(KEY)

        async with reaping(stage):
            await stage.clock.advance(TICK)

            assert stage.supervisor.phases() == {}
        assert stage.backend.stop_marks == [None]


async def test_workspace_that_is_touched_during_the_grace_is_pardoned_and_not_stopped(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):
        await stage.clock.advance(TICK + 1)
        stage.supervisor.touch(KEY)
        touched = stage.clock.now()
        await stage.clock.advance(REAP_GRACE)

    assert stage.backend.stops[KEY] == 0
    assert stage.backend.cluster.marks == {}
    assert stage.backend.cluster.last_active[KEY] == touched


async def test_own_pardon_does_not_make_it_look_newer_than_it_is(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):
        await stage.clock.advance(TICK + 1)
        stage.supervisor.touch(KEY)
        await stage.clock.advance(TICK)
        await stage.clock.advance(REAP_GRACE)

    assert stage.backend.running == {}


async def test_request_during_the_grace_gets_the_same_server(stage: Stage) -> None:
    handle = await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):
        await stage.clock.advance(TICK + 1)
        again = await stage.supervisor.ensure_running(KEY)
        await stage.clock.advance(REAP_GRACE)

    assert again is handle
    assert stage.backend.running == {KEY: handle}


async def test_workspace_that_was_stopped_during_the_grace_is_not_stopped_again(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)

    async with reaping(stage):
        await stage.clock.advance(TICK + 1)
        await stage.supervisor.stop(KEY)
        new = await stage.supervisor.ensure_running(KEY)
        await stage.clock.advance(REAP_GRACE)

    assert stage.backend.running == {KEY: new}
    assert stage.backend.stops[KEY] == 1


async def test_mark_that_meets_newer_activity_raises_it_and_reaps_nothing(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    used = stage.backend.cluster.last_active[KEY] = stage.clock.now() + timedelta(seconds=1800)

    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)

    assert stage.supervisor.last_active(KEY) == used
    assert stage.backend.stops[KEY] == 0
    assert stage.supervisor.phases() == {KEY: Phase.RUNNING}


async def test_contested_reap_is_tried_again_when_what_was_learned_is_old(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.cluster.last_active[KEY] = stage.clock.now() + timedelta(seconds=1800)

    async with reaping(stage):
        await stage.clock.advance(1800 + QUARTER + IDLE_TTL)
        before = stage.backend.stops[KEY]
        await stage.clock.advance(REAP_INTERVAL + REAP_GRACE)

    assert (before, stage.backend.stops[KEY]) == (0, 1)


@pytest.mark.parametrize("jump", [timedelta(microseconds=-1), timedelta(seconds=-1), timedelta(hours=1)])
async def test_reap_is_not_contested_by_what_was_stored_from_here_though_the_wall_clock_is_set(
    stage: Stage, jump: timedelta
) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(QUARTER)
    stage.supervisor.touch(KEY)
    await settle()
    assert stage.backend.cluster.last_active[KEY] == stage.clock.now()

    stage.clock.jump(jump)
    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)

    assert stage.backend.running == {}


async def test_reap_that_others_stored_activity_contests_comes_through_though_the_wall_clock_was_set(
    stage: Stage,
) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.observer.active(KEY, stage.clock.now())
    stage.backend.cluster.last_active[KEY] = stage.clock.now() + timedelta(seconds=30)  # and nobody was told
    stage.clock.jump(timedelta(hours=1))

    async with reaping(stage):
        await stage.clock.advance(QUARTER + TICK + REAP_INTERVAL + REAP_GRACE)

    assert stage.backend.running == {}


async def test_stop_that_is_contested_leaves_it_running_and_answers_who_waits(stage: Stage) -> None:
    handle = await stage.supervisor.ensure_running(KEY)
    stage.backend.slow_stops = True

    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)
        caller = await stage.request()
        assert stage.supervisor.phases() == {KEY: Phase.STOPPING}
        used = stage.backend.cluster.last_active[KEY] = stage.clock.now()
        stage.backend.let_stop()
        await settle()

    assert caller.result() is handle
    assert stage.supervisor.phases() == {KEY: Phase.RUNNING}
    assert stage.supervisor.last_active(KEY) == used


async def test_stop_that_is_contested_learns_what_was_stored(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.slow_stops = True

    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)
        used = stage.clock.now()
        stage.backend.fail_stop(Contested("Newer activity is stored.", used))
        await stage.clock.advance(2 * REAP_INTERVAL)

    assert stage.supervisor.last_active(KEY) == used
    assert stage.backend.stops[KEY] == 1


async def test_contested_stop_of_what_was_lost_meanwhile_forgets_it(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.slow_stops = True

    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)
        stage.backend.die()
        stage.backend.fail_stop(Contested("It was started anew."))
        await settle()

    assert stage.supervisor.phases() == {}


async def test_contested_stop_of_what_was_started_anew_elsewhere_takes_that(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.slow_stops = True

    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)
        new = stage.backend.replace()
        stage.backend.fail_stop(Contested("It was started anew."))
        await settle()

    assert await stage.supervisor.ensure_running(KEY) is new


async def test_stop_that_joined_a_reap_is_not_called_off_with_it(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.slow_stops = True

    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)
        stoppers = await stage.begin(stage.supervisor.stop(KEY), stage.supervisor.stop(KEY))
        stage.backend.fail_stop(Contested("Newer activity is stored."))
        await settle()
        assert [stopper.done() for stopper in stoppers] == [False, False]
        stage.backend.let_stop()
        await settle()

    assert [stopper.result() for stopper in stoppers] == [None, None]
    assert stage.backend.running == {}
    assert [mark is None for mark in stage.backend.stop_marks] == [False, True]


async def test_reap_that_cannot_be_marked_is_put_off_until_the_next_tick(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_marks[KEY] = StopFailed("Kubernetes does not answer.")

    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)
        stops = stage.backend.stops[KEY]
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        stage.backend.broken_marks.clear()
        await stage.clock.advance(REAP_INTERVAL)

    assert stops == 0
    assert [record.exc_info for record in warnings] == [None]
    assert KEY.workspace_id in warnings[0].getMessage()
    assert stage.backend.running == {}


async def test_defect_in_one_reap_leaves_the_others_alone(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    for key in (KEY, OTHER):
        await stage.supervisor.ensure_running(key)
    stage.backend.broken_marks[KEY] = KeyError("metadata")

    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)

    assert list(stage.backend.running) == [KEY]
    assert [record.levelname for record in caplog.records if record.exc_info] == ["ERROR"]


# Somebody else's reap -------------------------------------------------------------------------------------------------


async def test_workspace_that_is_condemned_while_it_is_used_is_pardoned_at_once(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    used = stage.clock.now()
    await stage.clock.advance(IDLE_TTL)

    stage.backend.observer.condemned(KEY)
    await settle()

    assert stage.backend.stored == [(KEY, used, True)]
    stage.supervisor.touch(KEY)
    await settle()
    assert [pardon for _, _, pardon in stage.backend.stored] == [True, False]  # once is enough


@pytest.mark.parametrize("by", ["touch", "request"])
async def test_workspace_that_is_condemned_while_it_is_idle_is_pardoned_by_its_next_use_once(
    stage: Stage, by: str
) -> None:
    await stage.supervisor.ensure_running(KEY)
    await stage.clock.advance(IDLE_TTL + 0.5)

    stage.backend.observer.condemned(KEY)
    await settle()
    assert stage.backend.stored == []
    for _ in range(3):
        if by == "touch":
            stage.supervisor.touch(KEY)
        else:
            await stage.supervisor.ensure_running(KEY)
        await settle()

    assert stage.backend.stored == [(KEY, stage.clock.now(), True)]


async def test_pardon_that_fails_is_tried_again_within_the_grace(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_stores[KEY] = StopFailed("It changes too often.")

    stage.backend.observer.condemned(KEY)
    await settle()
    del stage.backend.broken_stores[KEY]
    await stage.clock.advance(REAP_GRACE / 2)

    assert [pardon for _, _, pardon in stage.backend.stored] == [True, True]


async def test_pardon_that_always_fails_is_given_up_when_the_grace_is_over(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_stores[KEY] = OSError("no route")

    stage.backend.observer.condemned(KEY)
    await stage.clock.advance(10 * REAP_GRACE)

    assert len(stage.backend.stored) == 4


async def test_what_is_not_running_here_cannot_be_condemned(stage: Stage) -> None:
    stage.backend.observer.condemned(KEY)
    stage.backend.slow_starts = True
    caller = await stage.request()

    stage.backend.observer.condemned(KEY)
    stage.backend.let_start()
    await caller
    stage.supervisor.touch(KEY)
    await settle()

    assert stage.backend.stored == []


# Two replicas ---------------------------------------------------------------------------------------------------------


async def test_traffic_on_one_keeps_the_workspace_that_the_other_would_reap(pair: tuple[Stage, Stage]) -> None:
    await run_on_both(*pair)
    used, idle = pair

    async with reaping(*pair):
        await touch_until(used, 3 * IDLE_TTL)

    assert idle.backend.stops[KEY] == used.backend.stops[KEY] == 0


@pytest.mark.parametrize("after", [1.0, REAP_GRACE - 1])
async def test_use_that_was_not_stored_yet_withdraws_the_others_mark(pair: tuple[Stage, Stage], after: float) -> None:
    used, reaper = pair
    await run_on_both(*pair)

    async with reaping(reaper):
        await used.clock.advance(TICK)
        assert list(used.backend.cluster.marks.values()) == [reaper.backend]
        await used.clock.advance(after)
        used.supervisor.touch(KEY)
        await used.clock.advance(REAP_INTERVAL)

    assert KEY in used.backend.running
    assert used.backend.cluster.marks == {}
    assert used.supervisor.phases() == reaper.supervisor.phases() == {KEY: Phase.RUNNING}


async def test_both_that_reap_at_once_stop_it_once(pair: tuple[Stage, Stage]) -> None:
    await run_on_both(*pair)

    async with reaping(*pair):
        await pair[0].clock.advance(QUARTER + TICK + REAP_INTERVAL + REAP_GRACE)

    assert pair[0].backend.cluster.ended == [KEY]
    assert [stage.supervisor.phases() for stage in pair] == [{}, {}]


async def test_replicas_do_not_keep_a_workspace_by_believing_each_other(pair: tuple[Stage, Stage]) -> None:
    await run_on_both(*pair)

    async with reaping(*pair):
        for stage in pair:
            await stage.clock.advance(QUARTER)
            stage.supervisor.touch(KEY)
            await settle()
        last = pair[0].clock.monotonic()
        while KEY in pair[0].backend.running:
            await pair[0].clock.advance(REAP_GRACE)
            assert pair[0].clock.monotonic() - last <= IDLE_TTL + QUARTER + REAP_INTERVAL + REAP_GRACE

    assert pair[0].clock.monotonic() - last > IDLE_TTL


async def test_workspace_of_a_replica_that_died_is_reaped_by_the_other_but_not_early() -> None:
    async with replicated() as (dead, heir):
        await run_on_both(dead, heir)
        await touch_until(dead, 2 * QUARTER + 600)
        used = dead.clock.monotonic()
        await dead.supervisor.close()
        dead.backend.cluster.replicas.remove(dead.backend)

        async with reaping(heir):
            await heir.clock.advance(IDLE_TTL)
            assert KEY in heir.backend.running
            while KEY in heir.backend.running:
                await heir.clock.advance(REAP_GRACE)

        assert IDLE_TTL < heir.clock.monotonic() - used <= IDLE_TTL + QUARTER + REAP_INTERVAL + REAP_GRACE


async def test_mark_that_somebody_left_behind_only_puts_the_reap_off(pair: tuple[Stage, Stage]) -> None:
    stage, gone = pair
    await stage.supervisor.ensure_running(KEY)
    stage.backend.cluster.marks[KEY] = gone.backend

    async with reaping(stage):
        await stage.clock.advance(TICK + REAP_GRACE)
        before = stage.backend.stops[KEY]
        del stage.backend.cluster.marks[KEY]  # it is stale by now
        await stage.clock.advance(REAP_INTERVAL)

    assert (before, stage.backend.stops[KEY]) == (0, 1)
