from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from proxy.backends.kubernetes.reflector import Change, Reflector
from tests.backends.kubernetes.scripted import (
    HTML,
    HurriedClock,
    Reply,
    Scripted,
    bookmark,
    line,
    listing,
    reply,
    status,
    status_body,
    stream,
    thing,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from proxy.backends.kubernetes.api import Api, Listing

PODS = "/api/v1/pods"
GONE = stream(line("ERROR", status_body(410, "Expired")))


class Follower:
    """A reflector at work, and what it told."""

    task: asyncio.Task[None]

    def __init__(self, server: Scripted, api: Api, clock: HurriedClock) -> None:
        self._server = server
        self.changes: list[Change] = []
        self.reflector = Reflector(
            api, PODS, labels="app=a", fields="f=g", on_change=self.take, clock=clock, random=lambda: 0.5
        )

    def follow(self, *script: Reply) -> None:
        """Begin, with these replies; after them the server is silent."""
        self._server.script = list(script)
        self.task = asyncio.create_task(self.reflector.run())

    def take(self, change: Change) -> None:
        self.changes.append(change)

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Each change's type, name and version."""
        places = [(change.type, change.object["metadata"]) for change in self.changes]
        return [(kind, metadata["name"], metadata["resourceVersion"]) for kind, metadata in places]

    @property
    def copy(self) -> list[tuple[str, str]]:
        return versions(self.reflector.items())

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Return once it is so; the test's own time-out is the bound."""
        while not is_so():
            assert not self.task.done()
            await asyncio.sleep(0.001)


@pytest.fixture
async def follower(server: Scripted, api: Api, clock: HurriedClock) -> AsyncIterator[Follower]:
    follower = Follower(server, api, clock)
    yield follower
    assert not follower.task.done(), "a reflector never ends by itself"
    follower.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await follower.task


async def test_a_list_fills_the_copy_and_is_told_as_additions(server: Scripted, follower: Follower) -> None:
    was_synced = follower.reflector.is_synced
    follower.follow(listing(5, thing("a", 3), thing("b", 4)))
    assert follower.reflector.age_of_last_sync() is None

    await follower.reflector.synced()
    assert (was_synced, follower.reflector.is_synced) == (False, True)

    assert follower.copy == [("a", "3"), ("b", "4")]
    assert follower.told == [("ADDED", "a", "3"), ("ADDED", "b", "4")]
    assert follower.reflector.get("team", "a") == thing("a", 3)
    assert follower.reflector.get("team", "c") is None
    assert follower.reflector.get("other", "a") is None
    assert server.seen[0].query["labelSelector"] == "app=a"
    assert server.seen[0].query["fieldSelector"] == "f=g"


async def test_events_change_the_copy_and_are_told_with_old_and_new(server: Scripted, follower: Follower) -> None:
    follower.follow(
        listing(5, thing("a", 3)),
        stream(
            line("ADDED", thing("b", 6)),
            line("MODIFIED", thing("a", 7)),
            bookmark(8),
            line("DELETED", thing("b", 9)),
            then="silence",
        ),
    )

    await follower.until(lambda: len(follower.changes) == 4)

    assert follower.copy == [("a", "7")]
    assert follower.changes[1:] == [
        ("ADDED", None, thing("b", 6)),
        ("MODIFIED", thing("a", 3), thing("a", 7)),
        ("DELETED", thing("b", 9), None),
    ]


async def test_after_a_version_is_gone_what_went_unseen_is_told(server: Scripted, follower: Follower) -> None:
    follower.follow(
        listing(5, thing("same", 1), thing("changed", 2), thing("gone", 3), thing("renewed", 4)),
        GONE,
        listing(20, thing("same", 1), thing("changed", 11), thing("renewed", 12, "uid-2"), thing("new", 13)),
    )

    await follower.until(lambda: len(follower.changes) == 9)

    assert follower.told[4:] == [
        ("DELETED", "gone", "3"),
        ("MODIFIED", "changed", "11"),
        ("DELETED", "renewed", "4"),
        ("ADDED", "renewed", "12"),
        ("ADDED", "new", "13"),
    ]
    assert follower.copy == [("changed", "11"), ("new", "13"), ("renewed", "12"), ("same", "1")]
    assert follower.reflector.lists == 2


async def test_a_new_uid_under_an_old_name_is_another_object(server: Scripted, follower: Follower) -> None:
    follower.follow(listing(5, thing("a", 3)), stream(line("MODIFIED", thing("a", 7, "uid-2")), then="silence"))

    await follower.until(lambda: len(follower.changes) == 3)

    assert follower.told[1:] == [("DELETED", "a", "3"), ("ADDED", "a", "7")]


async def test_the_deletion_of_a_former_object_leaves_the_present_one(server: Scripted, follower: Follower) -> None:
    events = (line("DELETED", thing("a", 6, "uid-0")), line("DELETED", thing("never", 7)), line("ADDED", thing("b", 8)))
    follower.follow(listing(5, thing("a", 3)), stream(*events, then="silence"))

    await follower.until(lambda: len(follower.changes) == 2)

    assert follower.told == [("ADDED", "a", "3"), ("ADDED", "b", "8")]
    assert follower.copy == [("a", "3"), ("b", "8")]


async def test_a_list_changes_the_whole_copy_before_it_is_told(server: Scripted, api: Api, clock: HurriedClock) -> None:
    seen: list[int] = []
    reflector = Reflector(api, PODS, on_change=lambda _: seen.append(len(reflector.items())), clock=clock)
    server.script = [listing(5, thing("a", 3), thing("b", 4))]

    task = asyncio.create_task(reflector.run())
    await reflector.synced()
    task.cancel()

    assert seen == [2, 2]


async def test_an_api_server_restored_from_a_backup_is_followed_back(server: Scripted, follower: Follower) -> None:
    follower.follow(
        listing(500, thing("kept", 100), thing("lost", 400)),
        stream(bookmark(120)),
        listing(120, thing("kept", 90)),
        stream(line("ADDED", thing("new", 121)), then="silence"),
    )

    await follower.until(lambda: len(follower.changes) == 5)

    assert follower.copy == [("kept", "90"), ("new", "121")]
    assert server.watches[-1].query["resourceVersion"] == "120"


@pytest.mark.parametrize(
    "fault",
    [
        reply(200, b""),
        reply(200, HTML, "text/html"),
        reply(200, b"{}"),
        status(401, "Unauthorized"),
        status(403, "Forbidden"),
        status(429, "TooManyRequests", Retry_After="1"),
        status(500, "InternalError"),
        reply(502, HTML, "text/html"),
        Reply(b"", "close"),
        Reply(listing(9, thing("b", 8)).sent[:-20], "close"),
    ],
)
async def test_no_fault_of_a_list_empties_the_copy(server: Scripted, follower: Follower, fault: Reply) -> None:
    follower.follow(listing(5, thing("a", 3)), GONE, *[fault] * 5, listing(9, thing("a", 3), thing("b", 8)))

    await follower.until(lambda: len(follower.changes) == 2)

    assert follower.told == [("ADDED", "a", "3"), ("ADDED", "b", "8")]


async def test_the_copy_grows_old_while_nothing_is_heard(
    server: Scripted, follower: Follower, clock: HurriedClock
) -> None:
    follower.follow(listing(5, thing("a", 3)), stream(bookmark(6), then="silence"))
    await server.has_seen(2)
    await follower.reflector.synced()
    await follower.until(lambda: follower.reflector.age_of_last_sync() == 0)

    clock.elapsed += 100

    assert follower.reflector.age_of_last_sync() == 100
    assert follower.reflector.is_synced
    assert follower.copy == [("a", "3")]


async def test_restarts_are_counted(server: Scripted, follower: Follower) -> None:
    follower.follow(status(500, "InternalError"), listing(5), stream(bookmark(6)), GONE, listing(7))

    await server.has_seen(6)

    assert (follower.reflector.restarts, follower.reflector.lists) == (3, 2)


async def test_a_listener_that_fails_loses_nothing_and_stops_nothing(
    server: Scripted, api: Api, clock: HurriedClock, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []

    def fail(change: Change) -> None:
        told.append(change.object["metadata"]["name"])
        raise ValueError("a defect")

    reflector = Reflector(api, PODS, on_change=fail, clock=clock)
    server.script = [listing(5, thing("a", 3), thing("b", 4))]

    task = asyncio.create_task(reflector.run())
    await reflector.synced()
    await server.has_seen(2)
    task.cancel()

    assert told == ["a", "b"]
    assert caplog.text.count("A change was not taken in") == 2


async def test_a_defect_of_its_own_does_not_end_it(
    server: Scripted, follower: Follower, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ask = follower.reflector._api.list

    async def broken(*arguments: Any, **options: Any) -> Listing:
        if follower.reflector.restarts < 2:
            raise LookupError("never thought of")
        return await ask(*arguments, **options)

    monkeypatch.setattr(follower.reflector._api, "list", broken)
    follower.follow(listing(5, thing("a", 3)))

    await follower.reflector.synced()

    assert caplog.text.count("A defect stopped the following") == 2


async def test_an_outage_is_warned_of_once(
    server: Scripted, follower: Follower, caplog: pytest.LogCaptureFixture
) -> None:
    follower.follow(*[status(500, "InternalError", "etcd is away")] * 5, listing(5))

    await follower.reflector.synced()

    assert caplog.text.count("etcd is away") == 1
