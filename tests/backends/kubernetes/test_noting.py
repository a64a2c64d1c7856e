"""What is kept on a workspace's PersistentVolumeClaim, and what it makes of the next start; and time that was given."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from proxy.errors import NotKept
from proxy.workspace import Phase
from proxy.workspace_settings import WorkspaceSettings
from tests.backends.kubernetes.proxies import KEY, Proxies, Proxy, get, look, until
from tests.cluster.resources import CLAIMS

if TYPE_CHECKING:
    from proxy.report import Report
    from tests.cluster import Cluster

HOUR = 3600
GRACE = timedelta(seconds=0.3)
BIG = {"description": "for large data", "memory_limit": "8Gi", "pod_overlay": {"spec": {"hostname": "big"}}}
SETTINGS: dict[str, Any] = {"reap_grace": GRACE, "profiles": {"big": BIG, "small": {"memory_limit": "2Gi"}}}
OVERLAY = {"metadata": {"labels": {"team": "a"}}}
CHOSEN = WorkspaceSettings(idle_ttl=timedelta(hours=10), profile="big")


def report(proxy: Proxy) -> Report:
    found = proxy.supervisor.report(KEY)
    assert found is not None
    return found


def claim(cluster: Cluster) -> dict[str, Any]:
    found = cluster.store.get(CLAIMS, "default", "ws-demo")
    assert found is not None
    return dict(found)


def notes(cluster: Cluster) -> dict[str, str]:
    said = claim(cluster)["metadata"].get("annotations") or {}
    return {name.removeprefix("notebook-proxy/"): text for name, text in said.items() if name.startswith("notebook-")}


def memory(cluster: Cluster) -> str:
    return str(get(cluster)["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])


async def test_profile_takes_effect_at_the_next_start_by_whichever_replica(cluster: Cluster, proxies: Proxies) -> None:
    one = await proxies.run(**SETTINGS, pod_overlay=OVERLAY)
    other = await proxies.run(**SETTINGS, pod_overlay=OVERLAY)
    await one.ensure()

    told = await one.supervisor.set_settings(KEY, CHOSEN)
    await until(lambda: report(other).settings == CHOSEN)
    before = memory(cluster)
    await one.supervisor.stop(KEY)
    await until(lambda: report(other).phase is Phase.STOPPED)
    await other.ensure()

    assert (told.profile, told.running_profile, before) == ("big", "", "4Gi")
    assert "when it starts next" in told.warnings[0]
    assert memory(cluster) == "8Gi"
    template = get(cluster)["spec"]["template"]
    assert (template["metadata"]["labels"]["team"], template["spec"]["hostname"]) == ("a", "big")
    await until(lambda: report(one).running_profile == "big")
    assert (report(other).running_profile, report(other).warnings) == ("big", ())
    assert (notes(cluster)["idle-ttl"], notes(cluster)["profile"]) == ("10h", "big")


async def test_profile_that_is_not_offered_any_more_is_passed_over(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(**SETTINGS)
    await proxy.ensure()
    await proxy.supervisor.set_settings(KEY, CHOSEN)
    await proxy.supervisor.stop(KEY)

    async with proxies.running(reap_grace=GRACE, profiles={"small": {}}) as later:
        await later.ensure()
        await until(lambda: report(later).settings == CHOSEN)

        assert memory(cluster) == "4Gi"
        assert report(later).warnings == ("There is no profile 'big'; it starts without one.",)


async def test_own_time_holds_for_a_replica_that_starts_later(cluster: Cluster, proxies: Proxies) -> None:
    one = await proxies.run(**SETTINGS)
    await one.ensure()
    await one.supervisor.set_settings(KEY, CHOSEN)
    later = await proxies.run(**SETTINGS)
    await until(lambda: later.is_running() and report(later).settings == CHOSEN)

    proxies.clock.shift(8 * HOUR)
    await later.reap()
    kept = look(cluster)
    proxies.clock.shift(5 * HOUR)
    await later.reap()

    assert kept is not None
    assert look(cluster) is None


async def test_reap_is_kept_on_the_claim_with_its_reason_and_outlives_every_proxy(
    cluster: Cluster, proxies: Proxies
) -> None:
    async with proxies.running(**SETTINGS) as one:
        await one.ensure()
        used = one.supervisor.last_active(KEY)
        proxies.clock.shift(6 * HOUR)
        await one.reap()
        await until(lambda: "stop-reason" in notes(cluster))

    later = await proxies.run(**SETTINGS)
    await until(lambda: later.supervisor.report(KEY) is not None)

    told = report(later)
    assert used is not None
    assert told.last_active is not None
    assert abs(told.last_active - used) < timedelta(seconds=2)
    assert told.stopped is not None
    assert told.stopped.reason == "It has not been used for 4h."


async def test_claim_of_an_operator_is_never_written_on(cluster: Cluster, proxies: Proxies) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "ws-demo", "namespace": "default"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    cluster.registry.create(CLAIMS, "default", body)
    proxy = await proxies.run(**SETTINGS)
    await proxy.ensure()

    with pytest.raises(NotKept, match="not of notebook-proxy"):
        await proxy.supervisor.set_settings(KEY, CHOSEN)
    await proxy.supervisor.stop(KEY)

    assert notes(cluster) == {}
    assert report(proxy).settings == WorkspaceSettings()


async def test_settings_of_what_has_no_volume_are_refused(proxies: Proxies) -> None:
    proxy = await proxies.run(**SETTINGS)

    with pytest.raises(NotKept, match="start it first"):
        await proxy.supervisor.set_settings(KEY, CHOSEN)


async def test_time_that_was_given_holds_on_other_replicas_over_a_restart_and_against_a_reap(
    cluster: Cluster, proxies: Proxies
) -> None:
    async with proxies.running(**SETTINGS) as one:
        await one.ensure()
        until_then = one.supervisor.extend(KEY, timedelta(hours=10)).extended_until
        await until(lambda: "notebook-proxy/extended-until" in get(cluster)["metadata"]["annotations"])

    assert until_then is not None
    later = await proxies.run(**SETTINGS)
    await until(later.is_running)
    extended = report(later).extended_until
    assert extended is not None
    assert abs(extended - until_then) < timedelta(seconds=2)
    proxies.clock.shift(8 * HOUR)
    await later.reap()
    kept = look(cluster)
    proxies.clock.shift(8 * HOUR)
    await later.reap()

    assert kept is not None
    assert look(cluster) is None


async def test_kernel_that_computes_keeps_its_workspace_on_a_cluster(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(**SETTINGS)
    handle = await proxy.ensure()
    busy = b'[{"id": "k", "execution_state": "busy", "last_activity": "2026-01-01T00:00:00Z"}]'
    await put_state(handle, "api/kernels", busy)
    proxies.clock.shift(6 * HOUR)

    await proxy.reap()
    kept = look(cluster)
    await put_state(handle, "api/kernels", b"[]")
    proxies.clock.shift(6 * HOUR)
    await proxy.reap()

    assert kept is not None
    assert look(cluster) is None


async def put_state(handle: Any, path: str, body: bytes) -> None:
    """Let the notebook say this from now on."""
    host, port = handle.address
    async with (
        aiohttp.ClientSession(headers=dict(handle.headers)) as session,
        session.put(f"http://{host}:{port}/ws/demo/{path}", data=body) as response,
    ):
        assert response.status == 200
