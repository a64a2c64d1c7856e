"""Two proxies on one cluster, with no leader: what one knows, the other does not take away."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.backends.kubernetes.fence import format_time
from proxy.errors import Contested
from tests.backends.kubernetes.proxies import (
    KEY,
    Proxies,
    Proxy,
    annotate,
    fetch,
    get,
    look,
    stored,
    uid,
    until,
)
from tests.cluster.faults import Delay
from tests.cluster.resources import DEPLOYMENTS, PODS, REPLICA_SETS, SECRETS, SERVICES

if TYPE_CHECKING:
    from tests.cluster import Cluster

MARK = "notebook-proxy/reap-mark"
GRACE = timedelta(seconds=0.3)
HOUR = 3600
MADE = (DEPLOYMENTS, PODS, REPLICA_SETS, SECRETS, SERVICES)


async def pair(proxies: Proxies) -> tuple[Proxy, Proxy]:
    """Return two proxies that know of one workspace; the first has started it."""
    one = await proxies.run(reap_grace=GRACE)
    other = await proxies.run(reap_grace=GRACE)
    await one.ensure()
    await until(other.is_running)
    return one, other


def deletes(cluster: Cluster) -> int:
    """Count the deletions of a Deployment that were carried out."""
    return cluster.requests.count(verb="delete", resource="deployments", code=200)


def mark_of(cluster: Cluster) -> str | None:
    found: str | None = get(cluster)["metadata"]["annotations"].get(MARK)
    return found


async def test_traffic_on_one_keeps_what_the_other_would_reap(cluster: Cluster, proxies: Proxies) -> None:
    one, other = await pair(proxies)
    proxies.clock.shift(5 * HOUR)
    one.supervisor.touch(KEY)
    # What the touch would have stored by itself has not come through.
    annotate(cluster, last_active=format_time(proxies.clock.now() - timedelta(hours=6)))

    await other.reap()

    assert deletes(cluster) == 0
    await until(lambda: mark_of(cluster) is None)
    assert proxies.clock.now() - stored(cluster) < timedelta(minutes=1)
    await other.reap()  # it has learnt
    assert deletes(cluster) == 0
    assert one.is_running()


async def test_an_idle_workspace_is_reaped_by_whoever_comes_first(cluster: Cluster, proxies: Proxies) -> None:
    one, other = await pair(proxies)
    proxies.clock.shift(6 * HOUR)

    await other.reap()

    assert look(cluster) is None
    await until(lambda: not one.is_running())
    assert cluster.pods() == []


async def test_what_was_stored_by_the_one_who_reaps_is_no_objection(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(reap_grace=GRACE)
    await proxy.ensure()
    used = proxy.supervisor.last_active(KEY)
    assert used is not None
    annotate(cluster, last_active=format_time(used + timedelta(milliseconds=3)))  # a clock that was slewed meanwhile
    proxies.clock.shift(6 * HOUR)

    await proxy.reap()

    assert look(cluster) is None


@pytest.mark.parametrize("who", ["who reaps", "the other", "a third"])
async def test_a_request_between_mark_and_delete_wins(cluster: Cluster, proxies: Proxies, who: str) -> None:
    one, other = await pair(proxies)
    before = uid(cluster)
    proxies.clock.shift(6 * HOUR)
    reaping = asyncio.create_task(one.reap())
    await cluster.until(lambda: mark_of(cluster) is not None)

    if who == "a third":  # which knows nothing of it, and finds it only now
        third = await proxies.run(reap_grace=GRACE)
        third.supervisor._tracked.clear()
        handle = await third.ensure()
    else:
        handle = await (one if who == "who reaps" else other).ensure()
    await reaping

    assert deletes(cluster) == 0
    assert uid(cluster) == before
    assert (await fetch(handle))[0] == 200
    await until(lambda: mark_of(cluster) is None)


async def test_both_reaping_at_once_delete_once(cluster: Cluster, proxies: Proxies) -> None:
    one, other = await pair(proxies)
    proxies.clock.shift(6 * HOUR)

    await asyncio.gather(one.reap(), other.reap())

    assert look(cluster) is None
    assert deletes(cluster) == 1
    await until(lambda: not one.is_running() and not other.is_running())


async def test_fifty_first_requests_make_one_deployment(cluster: Cluster, proxies: Proxies) -> None:
    one, other = await proxies.run(), await proxies.run()
    changes = cluster.record_changes()

    handles = await asyncio.gather(*((one, other)[number % 2].ensure() for number in range(50)))

    made = [change.resource.kind for change in changes if change.type == "ADDED" and change.resource in MADE]
    assert sorted(made) == ["Deployment", "Pod", "ReplicaSet", "Secret", "Service"]
    assert len({handle.address for handle in handles}) == 1
    assert (await fetch(handles[0]))[0] == (await fetch(handles[1]))[0] == 200


async def test_activity_is_stored_at_most_once_a_quarter_of_idle_ttl(cluster: Cluster, proxies: Proxies) -> None:
    one, other = await pair(proxies)
    records = [asyncio.create_task(proxy.supervisor.run_reaper()) for proxy in (one, other)]
    await asyncio.sleep(0.05)
    cluster.requests.clear()
    quarters = 6

    for _ in range(quarters * 6):  # every ten minutes, over both
        for proxy in (one, other):
            proxy.supervisor.touch(KEY)
        proxies.clock.shift(HOUR / 6)
        await asyncio.sleep(0.03)

    writes = cluster.requests.count(verb="patch", resource="deployments", code=200)
    assert 1 <= writes <= quarters + 1
    assert proxies.clock.now() - stored(cluster) <= timedelta(hours=1, minutes=30)
    for record in records:
        record.cancel()
    await asyncio.gather(*records, return_exceptions=True)


async def test_a_mark_of_a_dead_replica_is_in_nobodys_way(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(reap_grace=GRACE)
    await proxy.ensure()
    proxies.clock.shift(6 * HOUR)
    dead = proxies.clock.now() - 4 * GRACE
    annotate(cluster, reap_mark=f"dead {format_time(dead)}")

    await proxy.reap()

    assert look(cluster) is None


async def test_a_fresh_mark_of_another_replica_is_respected(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(reap_grace=GRACE)
    await proxy.ensure()
    proxies.clock.shift(6 * HOUR)
    annotate(cluster, reap_mark=f"another {format_time(proxies.clock.now())}")

    with pytest.raises(Contested):
        await proxy.backend.mark(KEY, datetime.now(UTC))


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_mark_of_a_replica_whose_clock_is_wrong_is_objected_to(
    cluster: Cluster, proxies: Proxies, days: int
) -> None:
    proxy = await proxies.run(reap_grace=GRACE)
    await proxy.ensure()

    annotate(cluster, reap_mark=f"another {format_time(proxies.clock.now() + timedelta(days=days))}")

    await until(lambda: mark_of(cluster) is None)


@pytest.mark.parametrize("times", [1, 3])
async def test_status_writes_between_mark_and_delete_are_looked_at_again(
    cluster: Cluster, proxies: Proxies, times: int
) -> None:
    proxy = await proxies.run(reap_grace=GRACE)
    await proxy.ensure()
    proxies.clock.shift(6 * HOUR)
    let = [asyncio.Event() for _ in range(times)]
    faults = [cluster.server.faults.add(Delay(until=event), verb="delete", resource="deployments") for event in let]
    reaping = asyncio.create_task(proxy.reap())

    for number, (fault, event) in enumerate(zip(faults, let, strict=True)):
        await asyncio.wait_for(fault.struck.wait(), 10)
        deployment = get(cluster)
        cluster.registry.set_status(DEPLOYMENTS, deployment, {**deployment["status"], "collisionCount": number})
        event.set()
    await reaping

    assert look(cluster) is None
    assert cluster.requests.count(verb="delete", resource="deployments", code=409) == times


async def test_activity_that_is_stored_before_the_delete_wins(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(reap_grace=GRACE)
    await proxy.ensure()
    proxies.clock.shift(6 * HOUR)
    let = asyncio.Event()
    fault = cluster.server.faults.add(Delay(until=let), verb="delete", resource="deployments")
    reaping = asyncio.create_task(proxy.reap())

    await asyncio.wait_for(fault.struck.wait(), 10)
    annotate(cluster, last_active=format_time(proxies.clock.now() - timedelta(minutes=1)))
    let.set()
    await reaping

    assert look(cluster) is not None
    assert proxy.is_running()
    await proxy.reap()
    assert look(cluster) is not None


async def test_what_was_started_anew_is_not_reaped_for_its_predecessor(cluster: Cluster, proxies: Proxies) -> None:
    one, other = await pair(proxies)
    proxies.clock.shift(6 * HOUR)
    mark = await one.backend.mark(KEY, proxies.clock.now() - timedelta(hours=6))
    await other.supervisor.stop(KEY)
    handle = await other.ensure()

    with pytest.raises(Contested):
        await one.backend.stop(KEY, mark)

    assert (await fetch(handle))[0] == 200
