"""A workspace's own settings: what they change, who learns of them, what outlives a reap."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.backends.kernels import Work
from proxy.errors import InvalidKey, NotKept, SettingsRefused
from proxy.notes import Notes
from proxy.workspace import Key, Phase
from proxy.workspace_settings import WorkspaceSettings

from .fakes import KEY, settle
from .stage import IDLE_TTL, REAP_INTERVAL, Stage, reaping, replicated, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.report import Report

SHORT = WorkspaceSettings(idle_ttl=timedelta(minutes=10))


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged() as stage:
        yield stage


def report(stage: Stage, key: Key = KEY) -> Report:
    found = stage.supervisor.report(key)
    assert found is not None
    return found


@pytest.mark.parametrize("minutes", [10, 600])
async def test_own_time_is_what_it_is_reaped_by_whenever_it_was_set(stage: Stage, minutes: int) -> None:
    ttl = timedelta(minutes=minutes)
    before = Key("before", "default")
    await stage.supervisor.set_settings(before, WorkspaceSettings(idle_ttl=ttl))
    await stage.supervisor.ensure_running(before)
    await stage.supervisor.ensure_running(KEY)
    await stage.supervisor.set_settings(KEY, WorkspaceSettings(idle_ttl=ttl))
    used = stage.clock.now()

    async with reaping(stage):
        await stage.clock.advance(ttl.total_seconds())
        due = report(stage).due_at
        kept = set(stage.backend.running)
        await stage.clock.advance(REAP_INTERVAL)

    assert due == used + ttl
    assert kept == {KEY, before}
    assert stage.backend.running == {}


async def test_use_is_stored_in_time_for_a_short_time_of_its_own() -> None:
    async with replicated() as (stage, _):
        await stage.supervisor.ensure_running(KEY)
        await stage.supervisor.set_settings(KEY, SHORT)

        await stage.clock.advance(150)
        stage.supervisor.touch(KEY)
        await settle()

        assert stage.backend.stored == [(KEY, stage.clock.now(), False)]


async def test_owner_may_let_busy_kernels_be_stopped_and_end_it_by_its_age(stage: Stage) -> None:
    other = Key("other", "default")
    for key in (KEY, other):
        await stage.supervisor.ensure_running(key)
        stage.work[key] = Work(1, stage.clock.now(), "kernel")
    await stage.supervisor.set_settings(KEY, WorkspaceSettings(protect_busy=False))
    await stage.supervisor.set_settings(other, WorkspaceSettings(max_age=timedelta(minutes=30)))

    async with reaping(stage):
        await stage.clock.advance(1800 + REAP_INTERVAL)
        aged = report(stage, other)
        await stage.clock.advance(IDLE_TTL)

    assert aged.phase is Phase.STOPPED
    assert KEY not in stage.backend.running


async def test_settings_are_told_to_all_replicas_and_outlive_the_notebook_server() -> None:
    async with replicated() as (first, second):
        await first.supervisor.ensure_running(KEY)
        second.backend.find()

        told = await first.supervisor.set_settings(KEY, SHORT)
        await first.supervisor.stop(KEY)
        await settle()

        assert told.settings == SHORT
        assert [happening.what for happening in told.happenings][-1] == "settings"
        for stage in (first, second):
            assert report(stage).settings == SHORT
        await second.supervisor.ensure_running(KEY)
        assert report(second).due_at == second.clock.now() + timedelta(minutes=10)


async def test_stop_is_kept_with_its_reason_and_the_last_use(stage: Stage) -> None:
    async with replicated() as (first, second):
        await first.supervisor.ensure_running(KEY)
        used = first.clock.now()
        await first.clock.advance(60)

        await first.supervisor.stop(KEY, "asked to by ada")
        await settle()

        for each in (first, second):  # the other never knew that it ran
            told = report(each)
            assert told.phase is Phase.STOPPED
            assert told.last_active == used
            assert told.stopped is not None
            assert (told.stopped.reason, told.stopped.at) == ("asked to by ada", first.clock.now())


@pytest.mark.parametrize("error", [NotKept("Kubernetes does not answer."), ZeroDivisionError()])
async def test_end_that_cannot_be_noted_is_logged_and_no_failed_stop(
    stage: Stage, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_notes[KEY] = error

    await stage.supervisor.stop(KEY)
    await settle()

    assert stage.backend.running == {}
    assert ["not noted" in record.getMessage() for record in caplog.records] == [True]


async def test_what_is_allowed_no_more_stands_in_the_way_of_no_other_change(stage: Stage) -> None:
    kept = WorkspaceSettings(idle_ttl=timedelta(days=30), profile="gpu")  # as the operator once allowed
    stage.backend.observer.noted(KEY, Notes(settings=kept))

    told = await stage.supervisor.set_settings(KEY, replace(kept, protect_busy=False))

    assert told.settings == replace(kept, protect_busy=False)
    for beyond in (replace(kept, idle_ttl=timedelta(days=29)), replace(kept, profile="other")):
        with pytest.raises(SettingsRefused):
            await stage.supervisor.set_settings(KEY, beyond)


async def test_settings_that_cannot_be_stored_change_nothing(stage: Stage) -> None:
    await stage.supervisor.ensure_running(KEY)
    stage.backend.broken_notes[KEY] = NotKept("Kubernetes does not answer.")
    before = report(stage)

    with pytest.raises(NotKept):
        await stage.supervisor.set_settings(KEY, SHORT)
    with pytest.raises(SettingsRefused):
        await stage.supervisor.set_settings(KEY, WorkspaceSettings(profile="gpu"))
    with pytest.raises(InvalidKey):
        await stage.supervisor.set_settings(Key("-", "default"), SHORT)

    assert report(stage) == before


async def test_what_is_stored_of_a_workspace_that_never_ran_here_is_reported_until_it_is_gone(stage: Stage) -> None:
    notes = Notes(SHORT, owner="ada", complaints=("idle-ttl is strange.",))

    stage.backend.observer.noted(KEY, notes)
    told = report(stage)
    version = told.version
    stage.backend.observer.noted(KEY, notes)
    stage.backend.observer.noted(KEY, None)

    assert (told.phase, told.settings, told.owner, told.warnings) == (
        Phase.STOPPED,
        SHORT,
        "ada",
        ("idle-ttl is strange.",),
    )
    assert version > 0
    assert stage.supervisor.report(KEY) is None


async def test_profile_that_runs_is_told_apart_from_the_one_that_is_chosen() -> None:
    async with staged(profiles={"gpu": {"image": "gpu:1"}, "small": {}}) as stage:
        await stage.supervisor.ensure_running(KEY)
        stage.backend.observer.profiled(KEY, "small")

        told = await stage.supervisor.set_settings(KEY, WorkspaceSettings(profile="gpu"))

        assert [profile.name for profile in stage.supervisor.profiles] == ["gpu", "small"]
        assert (told.profile, told.running_profile) == ("gpu", "small")
        assert told.warnings == ("Its profile will be 'gpu' when it starts next; now it is 'small'.",)


async def test_unknown_profile_falls_back_with_a_warning(stage: Stage) -> None:
    stage.backend.observer.noted(KEY, Notes(WorkspaceSettings(profile="gone")))

    assert report(stage).profile == ""
    assert report(stage).warnings == ("There is no profile 'gone'; it starts without one.",)
