"""How much one user may start, and whose a workspace is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from proxy.errors import LimitReached, StartFailed
from proxy.quota import WINDOW
from proxy.workspace import Key

from .fakes import KEY, settle
from .stage import Stage, replicated, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

STARTS, RUNNING = 4, 3
KEYS = [Key(f"ws-{number}", "default") for number in range(20)]


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(max_starts_per_user=STARTS, max_running_per_user=RUNNING) as stage:
        yield stage


async def refused(stage: Stage, key: Key, user: str) -> Any:
    """Return why a user may not start a workspace; nothing was."""
    before = stage.backend.starts.total()
    with pytest.raises(LimitReached) as caught:
        await stage.supervisor.ensure_running(key, user=user)
    with pytest.raises(LimitReached):
        stage.supervisor.begin(key, user)
    assert stage.backend.starts.total() == before
    assert stage.supervisor.report(key) is None
    return caught.value


async def test_so_many_of_a_users_run_at_once_and_no_more(stage: Stage) -> None:
    for key in KEYS[:RUNNING]:
        await stage.supervisor.ensure_running(key, user="alice")

    error = await refused(stage, KEYS[RUNNING], "alice")

    assert (error.status, error.code) == (429, "too-many-running")
    assert error.retry_after
    await stage.supervisor.ensure_running(KEYS[0], user="alice")  # what runs is not started
    await stage.supervisor.ensure_running(KEYS[10], user="bob")
    await stage.supervisor.stop(KEYS[1])
    await stage.supervisor.ensure_running(KEYS[RUNNING], user="alice")


async def test_what_starts_counts_as_running(stage: Stage) -> None:
    stage.backend.slow_starts = True
    for key in KEYS[:RUNNING]:
        stage.supervisor.begin(key, "alice")
    await settle()

    await refused(stage, KEYS[RUNNING], "alice")
    for key in KEYS[:RUNNING]:
        stage.backend.let_start(key)
    await settle()


async def test_so_many_are_started_within_a_minute_and_no_more(stage: Stage) -> None:
    for key in KEYS[:STARTS]:
        await stage.supervisor.ensure_running(key, user="alice")
        await stage.supervisor.stop(key)
        await stage.clock.advance(10)

    error = await refused(stage, KEYS[STARTS], "alice")

    assert (error.status, error.code) == (429, "too-many-starts-of-user")
    assert error.retry_after == pytest.approx(WINDOW - 10 * STARTS, abs=1)
    await stage.supervisor.ensure_running(KEYS[10], user="bob")
    await stage.clock.advance(error.retry_after)
    await stage.supervisor.ensure_running(KEYS[STARTS], user="alice")


async def test_a_start_that_is_refused_for_another_reason_is_not_counted(stage: Stage) -> None:
    stage.backend.broken_starts[KEY] = StartFailed("exited", "It ended.")
    for _ in range(STARTS):
        with pytest.raises(StartFailed):
            await stage.supervisor.ensure_running(KEY, user="alice")

    for key in KEYS[: STARTS - 1]:  # only the first one was begun: the others met the back-off
        await stage.supervisor.ensure_running(key, user="alice")
        await stage.supervisor.stop(key)


async def test_where_nobody_is_asked_nobody_has_a_limit(stage: Stage) -> None:
    for key in KEYS:
        await stage.supervisor.ensure_running(key)

    assert len(stage.supervisor.phases()) == len(KEYS)


async def test_what_is_wanted_while_it_is_being_stopped_is_started_for_who_wanted_it(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY, user="alice")
    stage.backend.slow_stops = True
    (stop,) = await stage.begin(stage.supervisor.stop(KEY))
    stage.supervisor.begin(KEY, "bob")

    stage.backend.slow_stops = False
    stage.backend.let_stop(KEY)
    await stop
    await settle()

    assert stage.backend.running_for("bob") == [KEY]
    assert not stage.backend.running_for("alice")


async def test_what_other_replicas_run_for_a_user_counts() -> None:
    async with replicated(max_running_per_user=RUNNING) as (one, other):
        for key in KEYS[:RUNNING]:
            await one.supervisor.ensure_running(key, user="alice")
        await settle()

        error = await refused(other, KEYS[RUNNING], "alice")

        assert error.code == "too-many-running"
        await one.supervisor.stop(KEYS[0])
        await settle()
        await other.supervisor.ensure_running(KEYS[RUNNING], user="alice")


# Whose it is ----------------------------------------------------------------------------------------------------------


async def test_a_workspace_is_the_first_users_for_whom_it_started(stage: Stage) -> None:
    for user in ("alice", "bob"):
        await stage.supervisor.ensure_running(KEY, user=user)
        await settle()
        await stage.supervisor.stop(KEY)

    report = stage.supervisor.report(KEY)

    assert report is not None
    assert report.owner == "alice"


async def test_a_workspace_that_nobody_started_is_nobodys(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    await settle()

    report = stage.supervisor.report(KEY)

    assert report is not None
    assert report.owner is None
