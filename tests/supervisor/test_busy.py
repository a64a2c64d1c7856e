"""What keeps a workspace that nobody uses: kernels that work, servers that do not answer, clocks that are set."""

from __future__ import annotations

import asyncio
import itertools
import logging
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.backends.kernels import Work
from proxy.report import Fate, Report
from proxy.workspace import Key, Phase

from .fakes import KEY, settle
from .stage import IDLE_TTL, REAP_GRACE, REAP_INTERVAL, Stage, reaping, replicated, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOUR = 3600.0
DAY = 24 * HOUR
WARNING = 600.0
OTHER = Key("other", "default")


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        await stage.supervisor.ensure_running(KEY)
        yield stage


def report(stage: Stage) -> Report:
    found = stage.supervisor.report(KEY)
    assert found is not None
    return found


def is_running(stage: Stage) -> bool:
    return stage.supervisor.phases().get(KEY) is Phase.RUNNING


async def seconds_until_reaped(stage: Stage, most: float) -> float:
    """Go on until it is gone."""
    began = stage.clock.monotonic()
    while is_running(stage) and stage.clock.monotonic() - began < most:
        await stage.clock.advance(60)
    return stage.clock.monotonic() - began


# Busy is not idle -----------------------------------------------------------------------------------------------------


async def test_kernel_that_computes_keeps_its_workspace_and_it_is_reaped_once_that_is_over(stage: Stage) -> None:
    async with reaping(stage):
        stage.work[KEY] = Work(1, stage.clock.now(), "kernel")
        await stage.clock.advance(6 * HOUR)
        kept = report(stage)
        ended = stage.clock.now()
        stage.work[KEY] = Work(0, ended, "kernel")
        await seconds_until_reaped(stage, DAY)

        assert kept.phase is Phase.RUNNING
        assert (kept.fate, kept.is_warned) == (Fate.BUSY, False)
        assert kept.counted is not None
        assert kept.counted.what == "kernel busy"
        idle = (stage.clock.now() - ended).total_seconds()
        assert IDLE_TTL < idle <= IDLE_TTL + REAP_INTERVAL + 60


@pytest.mark.parametrize("what", ["kernel", "terminal"])
async def test_what_was_active_of_late_keeps_it_for_as_long_as_use_would(stage: Stage, what: str) -> None:
    await stage.clock.advance(HOUR / 2)
    worked = stage.clock.now()
    stage.work[KEY] = Work(0, worked, what)

    async with reaping(stage):
        await seconds_until_reaped(stage, DAY)

    counted = report(stage).counted
    assert counted is not None
    assert (counted.what, counted.at) == (f"{what} active", worked)
    assert IDLE_TTL < (stage.clock.now() - worked).total_seconds() <= IDLE_TTL + REAP_INTERVAL + 60


async def test_kernels_are_asked_only_when_it_is_nearly_due_and_never_touch(stage: Stage) -> None:
    used = report(stage).last_active
    stage.work[KEY] = Work(1, stage.clock.now(), "kernel")

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL - WARNING - 0.5)
        before = stage.asked[KEY]
        await stage.clock.advance(6 * HOUR)

    assert before == 0
    assert 6 <= stage.asked[KEY] <= 9  # once for each `idle_ttl` less the warning
    assert report(stage).last_active == used
    assert stage.backend.stored == []


async def test_kernel_that_waits_for_input_keeps_its_workspace_no_longer_than_max_busy_after_its_last_use(
    stage: Stage,
) -> None:
    stage.work[KEY] = Work(1, stage.clock.now(), "kernel")
    await stage.clock.advance(HOUR / 2)
    stage.supervisor.touch(KEY, "GET /ws/demo/lab")

    async with reaping(stage):
        elapsed = await seconds_until_reaped(stage, 3 * DAY)

    assert DAY < elapsed <= DAY + REAP_INTERVAL + 60
    stopped = report(stage).stopped
    assert stopped is not None
    assert stopped.reason == "Its kernels have worked for 1d without any other use."


async def test_nobody_is_asked_where_busy_is_not_protected() -> None:
    async with staged(protect_busy=False) as stage:
        await stage.supervisor.ensure_running(KEY)
        stage.work[KEY] = Work(1, stage.clock.now(), "kernel")

        async with reaping(stage):
            await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)

        assert not is_running(stage)
        assert stage.asked[KEY] == 0


async def test_kernel_that_begins_to_compute_within_the_grace_is_spared_and_the_mark_withdrawn() -> None:
    async with replicated() as (stage, _):
        await stage.supervisor.ensure_running(KEY)
        async with reaping(stage):
            await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)
            marked = dict(stage.backend.cluster.marks)
            stage.work[KEY] = Work(1, stage.clock.now(), "kernel")
            await stage.clock.advance(REAP_GRACE)

            assert list(marked) == [KEY]
            assert is_running(stage)
            assert stage.backend.cluster.marks == {}
            assert stage.backend.stops[KEY] == 0


async def test_use_while_the_server_is_being_asked_wins(stage: Stage) -> None:
    await stage.clock.advance(IDLE_TTL)
    stage.slow_answers[KEY] = asyncio.get_running_loop().create_future()

    async with reaping(stage):
        await stage.clock.advance(REAP_INTERVAL)
        assert stage.asked[KEY] >= 1
        stage.supervisor.touch(KEY)
        stage.slow_answers[KEY].set_result(None)
        await settle()

    assert stage.backend.stops[KEY] == 0


async def test_stop_while_the_server_is_being_asked_is_no_reap_of_what_is_started_next(stage: Stage) -> None:
    await stage.clock.advance(IDLE_TTL)
    stage.slow_answers[KEY] = asyncio.get_running_loop().create_future()

    async with reaping(stage):
        await stage.clock.advance(REAP_INTERVAL)
        await stage.supervisor.stop(KEY)
        await stage.supervisor.ensure_running(KEY)
        stage.slow_answers[KEY].set_result(None)
        await settle()

    assert stage.backend.stops[KEY] == 1
    assert is_running(stage)


# No answer is not idle ------------------------------------------------------------------------------------------------


async def test_server_that_does_not_answer_is_kept_for_max_unknown_and_asked_again_and_again(stage: Stage) -> None:
    stage.work[KEY] = None
    await stage.clock.advance(IDLE_TTL)

    async with reaping(stage):
        await stage.clock.advance(REAP_INTERVAL)
        unknown = report(stage)
        asked = stage.asked[KEY]
        elapsed = await seconds_until_reaped(stage, DAY)

    assert unknown.fate is Fate.UNKNOWN
    assert HOUR - REAP_INTERVAL < elapsed <= HOUR + REAP_INTERVAL + 60
    assert stage.asked[KEY] - asked >= HOUR / REAP_INTERVAL - 1


async def test_server_that_answers_again_is_judged_by_what_it_says(stage: Stage) -> None:
    stage.work[KEY] = None
    await stage.clock.advance(IDLE_TTL)

    async with reaping(stage):
        await stage.clock.advance(REAP_INTERVAL)
        kept = is_running(stage)
        stage.work[KEY] = Work()
        await stage.clock.advance(REAP_INTERVAL)

    assert kept
    assert not is_running(stage)


async def test_use_begins_the_time_anew_for_which_nothing_is_known(stage: Stage) -> None:
    stage.work[KEY] = None
    await stage.clock.advance(IDLE_TTL)

    async with reaping(stage):
        await stage.clock.advance(REAP_INTERVAL + 1)
        stage.supervisor.touch(KEY)
        used = stage.clock.monotonic()
        await seconds_until_reaped(stage, DAY)

    assert stage.clock.monotonic() - used > IDLE_TTL - WARNING + HOUR


async def test_server_that_answers_now_and_then_is_not_kept_longer_than_one_that_works() -> None:
    async with replicated() as (stage, _):
        await stage.supervisor.ensure_running(KEY)
        used = stage.clock.monotonic()
        answers = itertools.cycle((None, Work()))
        stage.answer = lambda: next(answers)

        async with reaping(stage):
            await seconds_until_reaped(stage, 3 * DAY)

        assert 2 * HOUR < stage.clock.monotonic() - used <= DAY + REAP_INTERVAL + REAP_GRACE + 60


# Whatever it does -----------------------------------------------------------------------------------------------------


async def test_max_age_ends_what_is_used_busy_and_extended() -> None:
    async with staged(max_age=timedelta(hours=10), max_extend=timedelta(days=3)) as stage:
        await stage.supervisor.ensure_running(KEY)
        stage.work[KEY] = Work(1, stage.clock.now(), "kernel")
        stage.supervisor.extend(KEY, timedelta(hours=5))

        async with reaping(stage):
            for _ in range(int(10 * HOUR / 60)):
                await stage.clock.advance(60)
                stage.supervisor.touch(KEY)
            before = report(stage)
            await stage.clock.advance(REAP_INTERVAL)

        assert (before.phase, before.fate, before.is_warned) == (Phase.RUNNING, Fate.TOO_OLD, True)
        assert not is_running(stage)
        stopped = report(stage).stopped
        assert stopped is not None
        assert stopped.reason == "No workspace runs for longer than 10h."


async def test_max_age_counts_from_the_start_of_each_server() -> None:
    async with staged(max_age=timedelta(hours=10)) as stage:
        await stage.supervisor.ensure_running(KEY)
        await stage.clock.advance(9 * HOUR)
        stage.backend.die()
        await stage.supervisor.ensure_running(KEY)
        async with reaping(stage):
            for _ in range(9):
                await stage.clock.advance(HOUR)
                stage.supervisor.touch(KEY)

            assert is_running(stage)


# Clocks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [1, -1])
@pytest.mark.parametrize("moment", [0.0, IDLE_TTL / 2, IDLE_TTL - 1])
async def test_clock_that_jumps_by_a_day_ends_no_kernels_protection(stage: Stage, days: int, moment: float) -> None:
    """The kernel was active just before the clock was set, and is idle since."""
    await stage.clock.advance(IDLE_TTL - 60)
    worked = stage.clock.monotonic()
    stage.work[KEY] = Work(0, stage.clock.now(), "kernel")
    stage.clock.jump(timedelta(days=days))

    async with reaping(stage):
        await stage.clock.advance(moment)
        kept = is_running(stage)
        await seconds_until_reaped(stage, 2 * DAY)

    assert kept
    assert stage.clock.monotonic() - worked > IDLE_TTL
    assert stage.clock.monotonic() - worked <= 2 * IDLE_TTL + REAP_INTERVAL + 120


@pytest.mark.parametrize("days", [1, -1])
async def test_clock_that_jumps_again_and_again_keeps_nothing_for_ever(stage: Stage, days: int) -> None:
    stage.work[KEY] = Work(0, stage.clock.now(), "kernel")

    async with reaping(stage):
        stage.clock.jump(timedelta(days=days))
        elapsed = await seconds_until_reaped(stage, 3 * DAY)

    assert elapsed <= 2 * IDLE_TTL + REAP_INTERVAL + 120


async def test_jump_is_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.clock.jump(timedelta(days=1))
    stage.work[KEY] = Work(0, stage.clock.now(), "kernel")

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL)

    assert [record.getMessage() for record in caplog.records if "jumped" in record.getMessage()] == [
        "the wall clock jumped: seconds=86400; idle times are measured by another clock"
    ]


# What is said ---------------------------------------------------------------------------------------------------------


async def test_each_reap_is_one_line_that_says_what_counted_last_and_when_and_why(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    stage.supervisor.touch(KEY, "GET /ws/demo/lab")
    used: datetime = stage.clock.now()

    async with reaping(stage):
        await stage.clock.advance(IDLE_TTL + REAP_INTERVAL)

    [line] = [record.getMessage() for record in caplog.records if record.getMessage().startswith("workspace reaped")]
    assert "id=demo" in line
    assert "counted='GET /ws/demo/lab'" in line
    assert f"at={used.isoformat(timespec='seconds')}" in line
    assert "why='It has not been used for 1h.'" in line
    assert f"idle={IDLE_TTL + REAP_INTERVAL:.0f}s" in line


async def test_dry_run_says_once_what_it_would_stop_and_stops_and_marks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    async with staged(dry_run_reaper=True) as stage:
        await stage.supervisor.ensure_running(KEY)
        await stage.supervisor.ensure_running(OTHER)
        stage.work[OTHER] = Work(1, stage.clock.now(), "kernel")

        async with reaping(stage):
            await stage.clock.advance(IDLE_TTL + 5 * REAP_INTERVAL)
            first = [record.getMessage() for record in caplog.records if "would be reaped" in record.getMessage()]
            stage.supervisor.touch(KEY)
            await stage.clock.advance(IDLE_TTL + 5 * REAP_INTERVAL)
            both = [record.getMessage() for record in caplog.records if "would be reaped" in record.getMessage()]

        assert [("id=demo" in line, "id=other" in line) for line in first] == [(True, False)]
        assert len(both) == 2
        assert stage.backend.marked == []
        assert set(stage.backend.running) == {KEY, OTHER}


async def test_nobody_is_warned_of_a_workspace_whose_kernels_work(stage: Stage) -> None:
    stage.work[KEY] = Work(1, stage.clock.now(), "kernel")
    warned = []

    async with reaping(stage):
        for _ in range(int(4 * HOUR / 30)):
            await stage.clock.advance(30)
            warned.append(report(stage).is_warned)

    assert not any(warned)
    assert is_running(stage)
