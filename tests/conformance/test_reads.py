"""Lists and watches: selectors, pages, versions and bookmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.examples import secret
from tests.cluster.resources import SECRETS, Obj

if TYPE_CHECKING:
    from tests.cluster.client import Client
    from tests.cluster.cluster import Cluster

OURS = "managed-by=conformance"


def labelled(name: str, **labels: str) -> Obj:
    return {**secret(), "metadata": {"name": name, "labels": labels}}


async def test_a_list_honours_label_selectors(client: Client, namespace: str) -> None:
    for name, labels in {"a": {"tier": "x"}, "b": {"tier": "y"}, "c": {}}.items():
        await client.create(SECRETS, namespace, labelled(name, **labels))

    async def names(selector: str) -> list[str]:
        reply = await client.get(SECRETS, namespace, labelSelector=selector)
        return [item["metadata"]["name"] for item in reply.body["items"]]

    assert await names("tier=x") == ["a"]
    assert await names("tier!=x") == ["b", "c"]
    assert await names("tier in (x,y)") == ["a", "b"]
    assert await names("tier notin (x)") == ["b", "c"]
    assert await names("tier") == ["a", "b"]
    assert await names("!tier") == ["c"]


async def test_a_list_honours_field_selectors(client: Client, namespace: str) -> None:
    for name in ("a", "b"):
        await client.create(SECRETS, namespace, labelled(name))

    reply = await client.get(SECRETS, namespace, fieldSelector="metadata.name=b")

    assert [item["metadata"]["name"] for item in reply.body["items"]] == ["b"]


async def test_pages_are_of_one_version(client: Client, namespace: str) -> None:
    for name in ("a", "b", "c"):
        await client.create(SECRETS, namespace, labelled(name, tier="x"))

    first = await client.get(SECRETS, namespace, limit=2)
    await client.create(SECRETS, namespace, labelled("d", tier="x"))
    second = await client.get(SECRETS, namespace, limit=2, **{"continue": first.body["metadata"]["continue"]})

    assert [item["metadata"]["name"] for item in first.body["items"]] == ["a", "b"]
    assert first.body["metadata"]["remainingItemCount"] == 1
    assert [item["metadata"]["name"] for item in second.body["items"]] == ["c"]
    assert second.version == first.version


async def test_items_of_a_list_carry_no_kind(client: Client, namespace: str) -> None:
    await client.create(SECRETS, namespace, secret())

    reply = await client.get(SECRETS, namespace)

    assert reply.body["kind"] == "SecretList"
    assert all("kind" not in item and "apiVersion" not in item for item in reply.body["items"])


async def test_a_watch_from_a_list_sees_what_came_after_it(client: Client, namespace: str) -> None:
    await client.create(SECRETS, namespace, labelled("before", **{"managed-by": "conformance"}))
    listed = await client.get(SECRETS, namespace, labelSelector=OURS)

    async with client.watch(SECRETS, namespace, labelSelector=OURS, resourceVersion=listed.version) as events:
        await client.create(SECRETS, namespace, labelled("after", **{"managed-by": "conformance"}))
        await client.create(SECRETS, namespace, labelled("other"))
        await client.patch(SECRETS, namespace, "after", {"metadata": {"annotations": {"a": "1"}}})
        await client.delete(SECRETS, namespace, "after")
        seen = await events.take(3)

    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert {event["object"]["metadata"]["name"] for event in seen} == {"after"}
    versions = [int(event["object"]["metadata"]["resourceVersion"]) for event in seen]
    assert versions == sorted(set(versions))


async def test_losing_the_label_is_seen_as_deleted_and_gaining_it_as_added(client: Client, namespace: str) -> None:
    created = await client.create(SECRETS, namespace, labelled("a", **{"managed-by": "conformance"}))

    async with client.watch(SECRETS, namespace, labelSelector=OURS, resourceVersion=created.version) as events:
        await client.patch(SECRETS, namespace, "a", {"metadata": {"labels": {"managed-by": None}}})
        await client.patch(SECRETS, namespace, "a", {"metadata": {"labels": {"managed-by": "conformance"}}})
        seen = await events.take(2)

    assert [event["type"] for event in seen] == ["DELETED", "ADDED"]


async def test_a_watch_without_a_version_begins_with_what_is_there(client: Client, namespace: str) -> None:
    await client.create(SECRETS, namespace, labelled("a", **{"managed-by": "conformance"}))

    async with client.watch(SECRETS, namespace, labelSelector=OURS) as events:
        (first,) = await events.take(1)

    assert (first["type"], first["object"]["metadata"]["name"]) == ("ADDED", "a")


async def test_a_bookmark_tells_the_version_that_was_reached(client: Client, namespace: str) -> None:
    created = await client.create(SECRETS, namespace, labelled("a", **{"managed-by": "conformance"}))

    # The initial events end with a bookmark, so none has to be waited for.
    query = {"allowWatchBookmarks": "true", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
    async with client.watch(SECRETS, namespace, labelSelector=OURS, **query) as events:
        seen = await events.until("BOOKMARK")

    assert [event["type"] for event in seen] == ["ADDED", "BOOKMARK"]
    assert seen[-1]["object"]["kind"] == "Secret"
    assert int(seen[-1]["object"]["metadata"]["resourceVersion"]) >= int(created.version)


async def test_a_watch_ends_cleanly_at_its_timeout(client: Client, namespace: str) -> None:
    async with client.watch(SECRETS, namespace, timeoutSeconds=1, labelSelector=OURS) as events:
        assert await events.next() is None


async def test_a_version_from_the_future_is_a_timeout(client: Client, namespace: str) -> None:
    query = {"resourceVersion": "999999999999", "resourceVersionMatch": "Exact"}
    reply = await client.get(SECRETS, namespace, **query)

    assert (reply.code, reply.reason) == (504, "Timeout")


@pytest.mark.double
async def test_a_watch_from_a_compacted_version_gets_an_error_event(
    client: Client, namespace: str, cluster: Cluster
) -> None:
    old = await client.create(SECRETS, namespace, secret())
    await client.patch(SECRETS, namespace, "notebook-demo", {"metadata": {"labels": {"a": "1"}}})
    cluster.compact()

    async with client.watch(SECRETS, namespace, resourceVersion=old.version) as events:
        seen = await events.take(2)

    assert events.code == 200
    assert [(event["type"], event["object"]["code"], event["object"]["reason"]) for event in seen] == [
        ("ERROR", 410, "Expired")
    ]


@pytest.mark.double
async def test_a_page_of_a_compacted_version_is_gone(client: Client, namespace: str, cluster: Cluster) -> None:
    for name in ("a", "b"):
        await client.create(SECRETS, namespace, labelled(name))
    first = await client.get(SECRETS, namespace, limit=1)
    await client.create(SECRETS, namespace, labelled("c"))
    cluster.compact()

    reply = await client.get(SECRETS, namespace, limit=1, **{"continue": first.body["metadata"]["continue"]})

    assert (reply.code, reply.reason) == (410, "Expired")
