"""One timer for all that has the same time: what is late is ended, what was stopped or started anew is not."""

from __future__ import annotations

import asyncio

import pytest

from proxy.relay.deadlines import Deadlines
from tests.relay.origin import until

SHORT = 0.02


async def test_what_is_not_stopped_is_ended_once_in_its_order() -> None:
    ended: list[str] = []
    deadlines = Deadlines(SHORT, ended.append)

    for name in "abc":
        deadlines.start(name)
    await until(lambda: len(ended) == 3)

    assert ended == ["a", "b", "c"]
    assert not len(deadlines)
    assert deadlines._timer is None


async def test_what_is_stopped_is_not_ended() -> None:
    ended: list[str] = []
    deadlines = Deadlines(SHORT, ended.append)

    deadlines.start("stopped")
    deadlines.start("late")
    deadlines.stop("stopped")
    deadlines.stop("never started")
    await until(lambda: ended)

    assert ended == ["late"]


async def test_what_is_started_again_has_its_whole_time_anew() -> None:
    loop = asyncio.get_running_loop()
    ended: dict[str, float] = {}

    def expire(name: str) -> None:
        ended[name] = loop.time()

    deadlines = Deadlines(10 * SHORT, expire)

    deadlines.start("again")
    deadlines.start("other")
    await asyncio.sleep(2 * SHORT)
    again = loop.time()
    deadlines.start("again")
    await until(lambda: len(ended) == 2)

    assert list(ended) == ["other", "again"]
    assert ended["again"] >= again + 10 * SHORT


async def test_what_ends_may_start_and_stop_others() -> None:
    ended: list[str] = []

    def expire(name: str) -> None:
        ended.append(name)
        if len(ended) == 1:
            deadlines.stop("b")
            deadlines.start("c")
            deadlines.start(name)

    deadlines = Deadlines(SHORT, expire)
    deadlines.start("a")
    deadlines.start("b")
    deadlines._since["b"] += 3600  # as if started later: however late the first look is, it is not late yet
    await until(lambda: len(ended) == 3)

    assert ended == ["a", "c", "a"]
    assert deadlines._timer is None


async def test_no_timer_runs_while_nothing_is_waited_for() -> None:
    deadlines = Deadlines(60, pytest.fail)

    deadlines.start("a")
    runs = deadlines._timer
    deadlines.stop("a")

    assert runs is not None
    assert runs.cancelled()
    assert deadlines._timer is None


async def test_without_a_limit_nothing_is_kept() -> None:
    deadlines = Deadlines(None, pytest.fail)

    deadlines.start("a")

    assert "a" not in deadlines
    assert deadlines._timer is None
