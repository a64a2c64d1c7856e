"""The test cluster answers as a real Kubernetes 1.36 did: each recorded exchange, in order."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.replay import Exchange, Replay, read_recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

# What is not compared, by the recording's note, and why. Everything else is.
NOT_COMPARED: dict[str, str] = {}
# The recorded controllers were late here, so several writes came before they looked: (hold before, release after).
LATE = [("create node", "node taint removed")]
LATE += [("merge patch of an annotation", "merge patch that removes an annotation")]
LATE += [("strategic merge patch of the template's image", "server-side apply of an annotation")]
EXCHANGES = read_recording()
BY_NOTE = {exchange["note"]: number for number, exchange in enumerate(EXCHANGES)}


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def part(first: str, last: str) -> list[Exchange]:
    return EXCHANGES[BY_NOTE[first] : BY_NOTE[last] + 1]


async def replay(cluster: Cluster, session: aiohttp.ClientSession, exchanges: list[Exchange]) -> None:
    run = Replay(cluster, session)
    nobody = cluster.add_user("system:serviceaccount:rec:nobody", rules=set())
    tokens = {"a wrong token": "wrong", "what a service account without rights gets": nobody.token}
    holds, releases = {first for first, _ in LATE}, {last for _, last in LATE}
    held = False
    found: list[str] = []

    for exchange in exchanges:
        note = exchange["note"]
        if note in holds:
            held = True
            cluster.manager.hold()
        differences = await run.differences(exchange, tokens.get(note, cluster.access.admin.token))
        if note not in NOT_COMPARED:
            found += [f"{note}: {difference}" for difference in differences]
        if note in releases:
            held = False
            cluster.manager.release()
        if not held:
            await cluster.manager.settled()

    assert not found, "\n".join(found)
    assert run.misordered() == []


async def test_it_answers_a_workspaces_life_as_recorded(session: aiohttp.ClientSession) -> None:
    async with Cluster(kubelet=False, nodes=(), namespaces=("default",)) as cluster:
        await replay(cluster, session, part("create namespace", "create in a namespace that is not there"))


async def test_it_refuses_compacted_versions_as_recorded(session: aiohttp.ClientSession) -> None:
    async with Cluster(kubelet=False, namespaces=("default",)) as cluster:
        cluster.compact()

        first, last = (
            "after compaction and a restart: watch from an old version",
            "after compaction: list at an old version",
        )
        await replay(cluster, session, part(first, last))


async def test_it_deletes_in_the_foreground_as_recorded(session: aiohttp.ClientSession) -> None:
    async with Cluster(kubelet=False, nodes=("rig-1",)) as cluster:
        await replay(cluster, session, part("foreground: namespace", "foreground: namespace goes"))


def test_every_recorded_exchange_is_replayed_or_listed() -> None:
    assert set(NOT_COMPARED) <= set(BY_NOTE)
    assert len(EXCHANGES) == len(BY_NOTE) == 73
