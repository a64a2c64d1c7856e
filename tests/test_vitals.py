"""How a proxy is said to be: which tasks it misses, and what it waits for."""

from __future__ import annotations

import asyncio

import pytest

from proxy.vitals import Vitals


async def for_ever() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    return


async def broken() -> None:
    raise RuntimeError("a defect")


async def ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))
    await asyncio.sleep(0)


async def test_a_task_that_lives_is_not_missed() -> None:
    vitals, task = Vitals(), asyncio.create_task(for_ever())
    vitals.follow(task)

    await asyncio.sleep(0)

    assert vitals.dead() == []
    task.cancel()


@pytest.mark.parametrize("how", ["returned", "raised", "cancelled"])
async def test_a_task_is_missed_however_it_ended_and_the_log_says_so(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    work = {"returned": at_once, "raised": broken, "cancelled": for_ever}[how]
    vitals, task = Vitals(), asyncio.create_task(work(), name="reaper")
    vitals.follow(task)
    if how == "cancelled":
        task.cancel()

    await ended(task)

    assert vitals.dead() == ["reaper"]
    assert "a task is over that must live: name=reaper" in caplog.text
    assert ("RuntimeError: a defect" in caplog.text) is (how == "raised")


@pytest.mark.parametrize(("work", "dead"), [(at_once, []), (broken, ["adoption"])])
async def test_a_task_that_may_end_is_missed_only_where_it_failed(work: object, dead: list[str]) -> None:
    vitals, task = Vitals(), asyncio.create_task(work(), name="adoption")  # type: ignore[operator]
    vitals.follow(task, ends=True)

    await ended(task)

    assert vitals.dead() == dead


async def test_what_ends_with_the_proxy_is_not_missed(caplog: pytest.LogCaptureFixture) -> None:
    vitals, task = Vitals(), asyncio.create_task(for_ever())
    vitals.follow(task)
    vitals.is_draining = True

    task.cancel()
    await ended(task)

    assert vitals.dead() == []
    assert caplog.text == ""


def test_it_is_ready_when_all_is_met_that_it_waits_for_and_until_it_ends() -> None:
    vitals = Vitals()
    assert vitals.unready() == []

    vitals.expect("this")
    vitals.expect("that")
    vitals.met("this")
    vitals.met("something else")
    assert vitals.unready() == ["waits for that"]

    vitals.met("that")
    assert vitals.unready() == []
    vitals.is_draining = True
    assert vitals.unready() == ["is ending"]
