"""How many workspaces start at once, who is next, and what becomes of the others."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.errors import StartFailed, StartTimeout, TooManyStarts
from proxy.report import Progress, Step
from proxy.workspace import Key, Phase

from .fakes import settle
from .stage import READY_TIMEOUT, Stage, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.workspace import Handle

AT_ONCE, QUEUED = 3, 4
KEYS = [Key(f"ws-{number}", "default") for number in range(AT_ONCE + QUEUED + 1)]
FIRST, NEXT, LAST = KEYS[:AT_ONCE], KEYS[AT_ONCE:-1], KEYS[-1]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(max_concurrent_starts=AT_ONCE, max_queued=QUEUED) as stage:
        stage.backend.slow_starts = True
        yield stage


async def ask_for(stage: Stage, keys: list[Key]) -> list[asyncio.Task[Handle]]:
    """Let one caller ask for each, all in the same moment."""
    return await stage.begin(*(stage.supervisor.ensure_running(key) for key in keys))


def progress_of(stage: Stage, key: Key) -> Progress | None:
    found = stage.supervisor.report(key)
    assert found is not None
    return found.progress


async def let_all_start(stage: Stage) -> None:
    while stage.backend.starting:
        stage.backend.let_start(next(iter(stage.backend.starting)))
        await settle()


async def test_so_many_start_at_once_and_the_others_in_the_order_in_which_they_came(stage: Stage) -> None:
    callers = await ask_for(stage, KEYS[:-1])
    began: list[Key] = []

    while stage.backend.starting:
        assert len(stage.backend.starting) <= AT_ONCE
        began += [key for key in stage.backend.starting if key not in began]
        stage.backend.let_start(next(iter(stage.backend.starting)))
        await settle()

    assert began == KEYS[:-1]
    assert [caller.result() for caller in callers] == [stage.backend.running[key] for key in KEYS[:-1]]


async def test_who_waits_for_a_turn_is_told_how_many_are_before(stage: Stage) -> None:
    callers = await ask_for(stage, KEYS[:-1])
    began = stage.clock.now()
    before = [progress_of(stage, key) for key in NEXT]
    version = stage.supervisor.reports()[-1].version
    [news] = await stage.begin(stage.supervisor.changed(NEXT[-1], version))

    await stage.clock.advance(5)
    stage.backend.let_start(FIRST[1])
    await settle()
    after = [progress_of(stage, key) for key in NEXT]

    assert [each.words for each in before if each] == [
        "It starts next.",
        *(f"It waits for its turn to start; {ahead} others are before it." for ahead in range(1, QUEUED)),
    ]
    assert {(each.step, each.since) for each in before if each} == {(Step.QUEUED, began)}
    assert after[0] == Progress(Step.PREPARING, "What it needs is being made.", stage.clock.now())
    assert [each.words for each in after[1:] if each] == [each.words for each in before[:-1] if each]
    assert news.done()
    await let_all_start(stage)
    await asyncio.gather(*callers)


async def test_one_too_many_is_refused_with_a_time_and_leaves_nothing_behind(stage: Stage) -> None:
    callers = await ask_for(stage, KEYS[:-1])

    with pytest.raises(TooManyStarts) as refused:
        await stage.supervisor.ensure_running(LAST)
    with pytest.raises(TooManyStarts):
        stage.supervisor.begin(LAST)

    assert (refused.value.status, refused.value.code, refused.value.retry_after) == (503, "too-many-starts", 10)
    assert stage.supervisor.report(LAST) is None
    assert LAST not in stage.supervisor.phases()
    stage.backend.let_start(FIRST[0])
    await settle()
    callers += await ask_for(stage, [LAST])
    await let_all_start(stage)
    await asyncio.gather(*callers)


async def test_who_joins_a_start_takes_no_place(stage: Stage) -> None:
    callers = await ask_for(stage, KEYS[:-1])

    callers += await ask_for(stage, KEYS[:-1])

    await let_all_start(stage)
    await asyncio.gather(*callers)
    assert all(stage.backend.starts[key] == 1 for key in KEYS[:-1])


@pytest.mark.parametrize("fails", [True, False])
async def test_start_that_fails_or_is_stopped_gives_its_place_to_the_next(stage: Stage, fails: bool) -> None:
    callers = await ask_for(stage, KEYS[:-1])

    if fails:
        stage.backend.fail_start(StartFailed("exited", "It ended at once."), FIRST[0])
        await settle()
    else:
        await stage.supervisor.stop(FIRST[0])

    assert list(stage.backend.starting) == [*FIRST[1:], NEXT[0]]
    await let_all_start(stage)
    await asyncio.gather(*callers, return_exceptions=True)


async def test_stop_of_what_waits_for_its_turn_gives_up_the_place_and_starts_nothing(stage: Stage) -> None:
    callers = await ask_for(stage, KEYS[:-1])

    await stage.supervisor.stop(NEXT[1])
    callers += await ask_for(stage, [LAST])
    await let_all_start(stage)

    with pytest.raises(StartFailed, match="stopped"):
        await callers[AT_ONCE + 1]
    assert stage.backend.starts[NEXT[1]] == 0
    assert stage.supervisor.phases()[LAST] is Phase.RUNNING
    await asyncio.gather(*callers, return_exceptions=True)


async def test_turn_that_is_granted_in_the_moment_of_a_stop_is_not_lost(stage: Stage) -> None:
    callers = await ask_for(stage, KEYS[:-1])

    stage.backend.let_start(FIRST[0])
    await asyncio.sleep(0)  # its task has ended, and the next has not gone on
    await asyncio.sleep(0)
    await stage.supervisor.stop(NEXT[0])
    await let_all_start(stage)

    assert {key for key in KEYS if key in stage.backend.running} == {*FIRST, *NEXT[1:]}
    more = await ask_for(stage, [NEXT[0], LAST])
    await let_all_start(stage)
    await asyncio.gather(*more)
    await asyncio.gather(*callers, return_exceptions=True)


async def test_who_waits_for_a_turn_waits_no_longer_than_others_and_keeps_it(stage: Stage) -> None:
    callers = await ask_for(stage, KEYS[:-1])

    await stage.clock.advance(READY_TIMEOUT)

    for caller in callers:
        with pytest.raises(StartTimeout):
            await caller
    await let_all_start(stage)
    assert set(stage.backend.running) == set(KEYS[:-1])


async def test_close_ends_what_waits_for_its_turn(stage: Stage) -> None:
    callers = await ask_for(stage, KEYS[:-1])

    await stage.supervisor.close()

    outcomes = await asyncio.gather(*callers, return_exceptions=True)
    assert all(isinstance(outcome, Exception) for outcome in outcomes)
    assert sum(stage.backend.starts.values()) == AT_ONCE


async def test_time_in_the_queue_is_no_part_of_the_usual_time(stage: Stage) -> None:
    callers = await ask_for(stage, KEYS[: AT_ONCE + 1])
    await stage.clock.advance(10)
    for key in FIRST:
        stage.backend.let_start(key)
    await settle()
    await stage.clock.advance(10)
    await let_all_start(stage)
    await asyncio.gather(*callers)

    found = stage.supervisor.report(NEXT[0])
    assert found is not None
    assert found.usual_start_seconds == 10
