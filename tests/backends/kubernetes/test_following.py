"""What happens outside is followed by watch event, and the next request is answered rightly."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.errors import StartFailed, StartStalled, StopFailed
from proxy.workspace import Key, Phase
from tests.backends.kubernetes.proxies import (
    KEY,
    NAME,
    Proxies,
    Proxy,
    ago,
    annotate,
    config_on,
    fetch,
    is_ready,
    put,
    uid,
    until,
)
from tests.cluster.faults import html
from tests.cluster.resources import DEPLOYMENTS, SERVICES

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster import Cluster
    from tests.cluster.faults import WatchBreak


def scale_to_zero(cluster: Cluster) -> None:
    cluster.registry.patch(DEPLOYMENTS, "default", NAME, {"spec": {"replicas": 0}})


HAPPENINGS: dict[str, tuple[Callable[[Cluster], object], str]] = {
    "the Deployment is deleted": (lambda c: c.registry.delete(DEPLOYMENTS, "default", NAME), "Deployment"),
    "the Service is deleted": (lambda c: c.registry.delete(SERVICES, "default", NAME), "Service"),
    "it is scaled to zero": (scale_to_zero, "zero"),
    "the pod is killed": (lambda c: c.kill(c.pods()[0]), "not ready"),
    "the pod is deleted": (lambda c: c.force_delete(c.pods()[0]), "not ready"),
    "the node is drained": (lambda c: c.drain(c.pods()[0]["spec"]["nodeName"]), "not ready"),
}  # fmt: skip


@pytest.mark.parametrize("what", HAPPENINGS)
async def test_what_happens_outside_is_followed(cluster: Cluster, proxy: Proxy, what: str) -> None:
    before = await fetch(await proxy.ensure())
    happen, reason = HAPPENINGS[what]

    happen(cluster)

    await until(lambda: bool(proxy.supervisor.losses))
    assert reason in proxy.supervisor.losses[0][1]
    status, after = await fetch(await proxy.ensure())
    assert status == 200
    if what != "the Service is deleted":
        assert after["pid"] != before[1]["pid"]


async def test_a_pod_that_comes_back_is_found_once_it_answers(cluster: Cluster, proxies: Proxies) -> None:
    command = ["sh", "-c", "while test -e /workspace/no; do sleep 0.02; done; exec jupyter --base-url=/ws/demo/"]
    proxy = await proxies.run(notebook_command=command)
    await proxy.ensure()
    wait = cluster.volumes.claim_directory("default", "ws-demo") / "no"
    wait.touch()

    cluster.kill(cluster.pods()[0])
    await until(lambda: not proxy.is_running())
    await cluster.until(lambda: is_ready(cluster))
    await asyncio.sleep(0.2)
    assert not proxy.is_running()

    wait.unlink()
    await until(proxy.is_running)
    cluster.requests.clear()
    assert (await fetch(await proxy.ensure()))[0] == 200
    assert cluster.requests.entries == []


async def test_what_one_proxy_starts_another_adopts_without_a_call_per_request(
    cluster: Cluster, proxies: Proxies
) -> None:
    one, other = await proxies.run(), await proxies.run()
    handle = await one.ensure()

    await until(other.is_running)
    cluster.requests.clear()

    assert await other.ensure() == handle
    assert (await fetch(handle))[0] == 200
    assert cluster.requests.entries == []


async def test_what_one_proxy_stops_another_loses(proxies: Proxies) -> None:
    one, other = await proxies.run(), await proxies.run()
    await one.ensure()
    await until(other.is_running)

    await one.supervisor.stop(KEY)

    await until(lambda: not other.is_running())


async def test_what_runs_is_adopted_with_its_last_activity_at_the_start(cluster: Cluster, proxies: Proxies) -> None:
    config = config_on(cluster)
    keys = [Key(f"demo-{number}", "default") for number in range(3)]
    for number, key in enumerate(keys):
        put(cluster, config, key)
        annotate(cluster, key, last_active=ago(3600 * (number + 2)))
    await cluster.until(lambda: all(is_ready(cluster, key) for key in keys))
    cluster.requests.clear()

    proxy = await proxies.run()

    assert proxy.supervisor.phases() == dict.fromkeys(keys, Phase.RUNNING)
    for number, key in enumerate(keys):
        used = proxy.supervisor.last_active(key)
        assert used is not None
        age = datetime.now(UTC) - used
        assert timedelta(hours=number + 1) - timedelta(minutes=1) < age < timedelta(hours=number + 2, minutes=1)
    assert cluster.requests.count(verb="list") == 4  # Deployments, Services, pods, volumes
    assert len(cluster.requests.entries) <= 8


async def test_a_token_of_another_secret_is_learnt(cluster: Cluster, proxies: Proxies) -> None:
    async with proxies.running(notebook_secret="before-the-rotation") as before:
        handle = await before.ensure()

    proxy = await proxies.run(notebook_secret="after-the-rotation!")

    await until(proxy.is_running)
    assert await proxy.ensure() == handle


async def test_what_crashes_again_and_again_is_not_adopted_while_it_looks_ready(
    cluster: Cluster, proxies: Proxies
) -> None:
    put(cluster, config_on(cluster, image="example.invalid/deaf:1"))
    await cluster.until(lambda: is_ready(cluster))
    cluster.kill(cluster.pods()[0])
    await cluster.until(lambda: not is_ready(cluster))
    await cluster.until(lambda: is_ready(cluster))

    proxy = await proxies.run()

    assert not proxy.is_running()


async def test_what_is_not_ours_is_not_adopted(cluster: Cluster, proxies: Proxies) -> None:
    config = config_on(cluster)
    put(cluster, config)
    cluster.registry.patch(
        DEPLOYMENTS, "default", NAME, {"metadata": {"annotations": {"notebook-proxy/workspace": None}}}
    )
    odd = Key("demo.odd", "default")  # which no workspace can be called
    body = cluster.registry.get(DEPLOYMENTS, "default", NAME)
    labels = {**body["metadata"]["labels"], "workspace-id": odd.workspace_id}
    marks = {"notebook-proxy/workspace": odd.workspace_id}
    meta = {"name": odd.deployment_name, "labels": labels, "annotations": marks}
    cluster.registry.create(DEPLOYMENTS, "default", {"metadata": meta, "spec": body["spec"]})
    await cluster.until(lambda: is_ready(cluster))

    proxy = await proxies.run()

    assert proxy.supervisor.phases() == {}


@pytest.mark.scale
@pytest.mark.timeout(180)
async def test_a_thousand_running_workspaces_are_adopted_in_seconds(cluster: Cluster, proxies: Proxies) -> None:
    config = config_on(cluster, image="example.invalid/phantom:1")
    keys = [Key(f"demo-{number}", "default") for number in range(1000)]
    for node in range(20):
        cluster.add_node(f"large-{node}", cpus="1000")
    for key in keys:
        put(cluster, config, key)
        await asyncio.sleep(0)
    await cluster.until(lambda: all(is_ready(cluster, key) for key in (keys[0], keys[-1])), 120)
    await until(lambda: all(is_ready(cluster, key) for key in keys), 120)
    cluster.requests.clear()
    began = time.monotonic()

    proxy = await proxies.run()

    assert len(proxy.supervisor.phases()) == len(keys)
    assert time.monotonic() - began < 10
    assert cluster.requests.count(verb="list") <= 3 * (1 + len(keys) // 500)  # pages
    assert len(cluster.requests.entries) < 15


async def test_an_api_server_that_is_away_at_the_start(
    cluster: Cluster, proxies: Proxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.backends.kubernetes.backend.FIRST_SYNC", 0.2)
    put(cluster, config_on(cluster))
    await cluster.until(lambda: is_ready(cluster))
    await cluster.stop_server()

    proxy = await proxies.run()
    with pytest.raises((StartFailed, StartStalled)) as failed:  # the latter where it is told before it is given up
        await proxy.ensure()

    assert (failed.value.status, failed.value.code) == (503, "api-unavailable")
    assert failed.value.retry_after
    await cluster.start_server()
    await until(proxy.is_running, 20)
    assert (await fetch(await proxy.ensure()))[0] == 200


async def test_an_api_server_that_is_away_for_a_while(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(idle_ttl=timedelta(minutes=10), reap_grace=timedelta(seconds=0.05))
    handle = await proxy.ensure()
    before = uid(cluster)

    await cluster.stop_server()
    proxies.clock.shift(3600)
    await proxy.reap()
    await proxy.backend.sweeper.tick()
    with pytest.raises((StartFailed, StartStalled)) as failed:
        await proxy.ensure(Key("other", "default"))

    assert (failed.value.status, failed.value.code) == (503, "api-unavailable")
    assert failed.value.retry_after
    assert await proxy.ensure() is handle
    assert (await fetch(handle))[0] == 200
    await cluster.start_server()
    await until(lambda: all(reflector.lists > 1 for reflector in proxy.backend.following.sight.reflectors), 30)
    assert proxy.supervisor.losses == []
    assert await proxy.ensure() is handle
    assert uid(cluster) == before


@pytest.mark.parametrize("what", ["start", "stop"])
async def test_what_was_lost_here_and_could_not_be_had_again_is_found_after_the_outage(
    cluster: Cluster, proxy: Proxy, what: str
) -> None:
    handle = await proxy.ensure()
    await cluster.stop_server()
    proxy.supervisor.lost(KEY, handle, "it refused a connection")

    if what == "start":
        with pytest.raises((StartFailed, StartStalled)):
            await proxy.ensure()
    else:
        with pytest.raises(StopFailed):
            await proxy.supervisor.stop(KEY)
    await cluster.start_server()

    await until(proxy.is_running)  # nobody asks for it, and somebody must reap it
    assert proxy.supervisor.last_active(KEY) is not None


async def test_a_generation_that_is_not_observed_yet_is_no_loss(cluster: Cluster, proxy: Proxy) -> None:
    handle = await proxy.ensure()
    cluster.manager.hold()

    annotate(cluster, last_active=ago(0))  # any write of an annotation makes a new generation

    seen = proxy.backend.following.sight
    await until(lambda: (found := seen.deployment(KEY)) is not None and found["metadata"]["generation"] == 3)
    assert await proxy.ensure() is handle
    cluster.manager.release()
    await cluster.manager.settled()
    assert proxy.supervisor.losses == []


@pytest.mark.parametrize("how", ["expire", "cut", "reset", "end", "garbage"])
async def test_a_watch_that_breaks_loses_nothing(cluster: Cluster, proxy: Proxy, how: WatchBreak) -> None:
    handle = await proxy.ensure()

    cluster.break_watches(how)
    cluster.registry.patch(DEPLOYMENTS, "default", NAME, {"metadata": {"labels": {"x": "y"}}})
    assert await proxy.ensure() is handle
    cluster.compact()
    put(cluster, proxy.config, Key("other", "default"))

    await until(lambda: Key("other", "default") in proxy.supervisor.phases(), 20)
    assert proxy.supervisor.losses == []
    cluster.registry.delete(DEPLOYMENTS, "default", NAME)
    await until(lambda: not proxy.is_running(), 20)


async def test_a_watch_that_falls_silent_is_given_up(
    cluster: Cluster, proxies: Proxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.backends.kubernetes.watching.SHORTEST_WATCH", 1)
    monkeypatch.setattr("proxy.backends.kubernetes.watching.LONGEST_WATCH", 1)
    monkeypatch.setattr("proxy.backends.kubernetes.watching.GRACE", 0.5)
    proxy = await proxies.run()
    await proxy.ensure()

    cluster.break_watches("mute")
    cluster.registry.delete(DEPLOYMENTS, "default", NAME)

    await until(lambda: not proxy.is_running(), 20)
    assert (await fetch(await proxy.ensure()))[0] == 200


async def test_requests_go_on_while_watches_cannot_be_had(cluster: Cluster, proxy: Proxy) -> None:
    handle = await proxy.ensure()
    fault = cluster.server.faults.add(html(200), verb="list|watch", times=None)
    cluster.break_watches("cut")
    await until(lambda: fault.hits > 2, 20)

    assert await proxy.ensure() is handle
    assert (await fetch(handle))[0] == 200
    assert proxy.supervisor.losses == []
