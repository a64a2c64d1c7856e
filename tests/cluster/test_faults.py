"""Scripted misfortune strikes as scripted, is counted, and changes nothing."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.cluster.client import Client, path_of
from tests.cluster.examples import secret
from tests.cluster.faults import (
    Action,
    BreakWatch,
    Delay,
    Hang,
    LoseAnswer,
    Reset,
    WatchBreak,
    empty,
    gone,
    html,
    server_error,
    too_many_requests,
)
from tests.cluster.resources import SECRETS

if TYPE_CHECKING:
    from tests.cluster.cluster import Cluster


@pytest.mark.parametrize(
    ("action", "code", "content_type"),
    [
        (too_many_requests(7), 429, "text/plain"),
        (server_error(), 500, "application/json"),
        (gone(), 410, "application/json"),
        (html(200), 200, "text/html"),
        (html(502), 502, "text/html"),
        (empty(), 200, "application/json"),
    ],
)
async def test_a_fault_answers_instead_of_the_server_and_changes_nothing(
    api: Cluster, action: Action, code: int, content_type: str
) -> None:
    fault = api.server.faults.add(action, verb="create", resource="secrets")
    version = api.store.version

    async with aiohttp.ClientSession() as session:
        url = api.url + path_of(SECRETS, "default")
        async with session.post(url, json=secret()) as response:
            assert (response.status, response.content_type) == (code, content_type)
            if code == 429:
                assert response.headers["Retry-After"] == "7"

    assert api.store.version == version
    assert fault.hits == 1
    assert api.requests.entries[-1].fault == "Answer"


async def test_a_fault_strikes_as_often_as_told_after_as_many_as_told(api: Cluster, client: Client) -> None:
    api.server.faults.add(server_error(), verb="list", resource="secrets", skip=1, times=2)

    codes = [(await client.get(SECRETS, "default")).code for _ in range(5)]

    assert codes == [200, 500, 500, 200, 200]


async def test_a_fault_leaves_other_requests_alone(api: Cluster, client: Client) -> None:
    api.server.faults.add(server_error(), verb="list|watch", resource="pods", times=None)

    assert (await client.get(SECRETS, "default")).code == 200


async def test_a_reset_breaks_the_connection_before_the_write(api: Cluster, client: Client) -> None:
    api.server.faults.add(Reset(), verb="create")

    with pytest.raises(aiohttp.ClientConnectionError):
        await client.create(SECRETS, "default", secret())

    assert (await client.get(SECRETS, "default", "notebook-demo")).code == 404


async def test_a_lost_answer_is_lost_after_the_write(api: Cluster, client: Client) -> None:
    api.server.faults.add(LoseAnswer(), verb="create")

    with pytest.raises(aiohttp.ClientConnectionError):
        await client.create(SECRETS, "default", secret())

    assert (await client.get(SECRETS, "default", "notebook-demo")).code == 200


async def test_a_silent_peer_never_answers(api: Cluster, client: Client) -> None:
    fault = api.server.faults.add(Hang(), verb="get")

    asking = asyncio.create_task(client.get(SECRETS, "default", "x"))
    await fault.struck.wait()
    await asyncio.wait({asking}, timeout=0.05)

    assert not asking.done()
    asking.cancel()


async def test_a_delayed_answer_comes_when_it_is_let(api: Cluster, client: Client) -> None:
    let = asyncio.Event()
    fault = api.server.faults.add(Delay(until=let), verb="create")

    asking = asyncio.create_task(client.create(SECRETS, "default", secret()))
    await fault.struck.wait()
    assert api.store.get(SECRETS, "default", "notebook-demo") is None
    let.set()

    assert (await asking).code == 201


async def test_a_watch_can_be_ended_after_some_events(api: Cluster, client: Client) -> None:
    api.server.faults.add(BreakWatch("end", after_events=1), resource="secrets")

    async with client.watch(SECRETS, "default") as events:
        await client.create(SECRETS, "default", secret("a"))
        await client.create(SECRETS, "default", secret("b"))
        seen = await events.take(2)

    assert [event["object"]["metadata"]["name"] for event in seen] == ["a"]


async def open_watch(api: Cluster, client: Client, how: WatchBreak) -> bytes:
    """Break a watch that is open and return what was sent."""
    version = api.store.version
    url = f"{api.url}{path_of(SECRETS, 'default')}?watch=true&resourceVersion={version}"
    headers = {"Authorization": f"Bearer {api.access.admin.token}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(url) as response:
        assert response.status == 200
        api.break_watches(how, "secrets")
        return await response.read()


async def test_an_open_watch_can_be_expired(api: Cluster, client: Client) -> None:
    event = json.loads(await open_watch(api, client, "expire"))

    assert (event["type"], event["object"]["code"], event["object"]["reason"]) == ("ERROR", 410, "Expired")


async def test_an_open_watch_can_be_ended_cleanly(api: Cluster, client: Client) -> None:
    assert await open_watch(api, client, "end") == b""


async def test_an_open_watch_can_send_a_page(api: Cluster, client: Client) -> None:
    assert (await open_watch(api, client, "garbage")).startswith(b"<html>")


@pytest.mark.parametrize("how", ["cut", "reset"])
async def test_an_open_watch_can_be_broken(api: Cluster, client: Client, how: WatchBreak) -> None:
    with pytest.raises(aiohttp.ClientError):
        await open_watch(api, client, how)


async def test_a_muted_watch_says_nothing_more(api: Cluster, client: Client) -> None:
    async with client.watch(SECRETS, "default", resourceVersion=api.store.version) as events:
        api.break_watches("mute")
        await client.create(SECRETS, "default", secret())

        with pytest.raises(TimeoutError):
            await events.next(0.05)


async def test_bookmarks_come_when_asked_for(api: Cluster, client: Client) -> None:
    query = {"resourceVersion": api.store.version, "allowWatchBookmarks": "true"}
    async with client.watch(SECRETS, "default", **query) as events:
        await client.create(SECRETS, "kube-system", secret())
        api.send_bookmarks()
        (bookmark,) = await events.take(1)

    assert bookmark["type"] == "BOOKMARK"
    assert int(bookmark["object"]["metadata"]["resourceVersion"]) == api.store.version
