"""What keeps a workspace from becoming ready is named within seconds; what may heal is shown, and heals."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from proxy.errors import ProxyError, StartFailed, StartStalled
from tests.backends.kubernetes.proxies import KEY, NAME, Proxies, Proxy, fetch, get, look, put, until
from tests.cluster.faults import Hang, unavailable
from tests.cluster.images import Image
from tests.cluster.registry import DeleteOptions
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, PODS, QUOTAS, SECRETS, SERVICES

if TYPE_CHECKING:
    from tests.cluster import Cluster

IN_TIME = 5.0  # seconds


async def fail(proxy: Proxy) -> ProxyError:
    """Do what a request does, and return why it fails: in time."""
    began = time.monotonic()
    with pytest.raises((StartFailed, StartStalled)) as failed:
        await proxy.ensure()
    assert time.monotonic() - began < IN_TIME
    assert isinstance(failed.value, ProxyError)
    assert failed.value.retry_after
    return failed.value


@pytest.mark.parametrize(
    ("image", "code", "message", "log"),
    [
        ("crash", "crash-loop", "with status 1", "ModuleNotFoundError: No module named 'x'"),
        ("oom", "out-of-memory", "memory_limit", ""),
        ("full", "disk-full", "volume is full", "No space left on device"),
    ],
)
async def test_what_cannot_heal_fails_with_its_reason(
    proxies: Proxies, image: str, code: str, message: str, log: str
) -> None:
    proxy = await proxies.run(image=f"example.invalid/{image}:1")

    error = await fail(proxy)

    assert isinstance(error, StartFailed)
    assert error.code == code
    assert message in str(error)
    assert log in error.detail


STALLS = [
    ("missing", "image-pull", "not found"),
    ("misconfigured", "container-config", "couldn't find key token"),
    ("unschedulable", "unschedulable", "nvidia.com/gpu"),
    ("unmountable", "volume-mount", "mount failed: exit status 32"),
    ("multi-attach", "volume-in-use", "Multi-Attach"),
]


@pytest.mark.parametrize(("image", "code", "message"), STALLS)
async def test_what_may_heal_is_shown_at_once_and_heals(
    cluster: Cluster, proxies: Proxies, image: str, code: str, message: str
) -> None:
    proxy = await proxies.run(image=f"example.invalid/{image}:1")

    error = await fail(proxy)

    assert isinstance(error, StartStalled)
    assert error.code == code
    assert message in str(error)
    assert KEY in proxy.supervisor.phases()
    cluster.images.set(image, Image())
    if image == "unschedulable":
        cluster.add_node("node-3")  # has the scheduler look again
    assert (await fetch(await proxy.eventually()))[0] == 200


@pytest.mark.parametrize(("image", "code"), [(image, code) for image, code, _ in STALLS] + [("deaf", "no-answer")])
async def test_what_does_not_heal_fails_after_a_while_and_is_removed(
    cluster: Cluster, proxies: Proxies, image: str, code: str
) -> None:
    proxy = await proxies.run(image=f"example.invalid/{image}:1", failed_ttl=timedelta(seconds=3))

    with pytest.raises(StartFailed) as failed:
        await proxy.eventually()

    assert failed.value.code == code
    assert look(cluster) is None
    assert look(cluster, SERVICES) is None
    assert cluster.pods() == []
    assert cluster.store.get(CLAIMS, "default", "ws-demo") is not None


async def test_a_quota_is_named(cluster: Cluster, proxy: Proxy) -> None:
    cluster.registry.create(QUOTAS, "default", {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}})

    error = await fail(proxy)

    assert error.code == "quota"
    assert "exceeded quota: few" in str(error)


async def test_a_quota_that_is_lifted_is_not_in_the_way_of_the_next_start(cluster: Cluster, proxy: Proxy) -> None:
    cluster.registry.create(QUOTAS, "default", {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "0"}}})
    error = await fail(proxy)

    cluster.registry.delete(QUOTAS, "default", "few")
    await asyncio.sleep(error.retry_after or 0)

    assert (await fetch(await proxy.ensure()))[0] == 200


@pytest.mark.parametrize("resource", [DEPLOYMENTS, SERVICES, CLAIMS, PODS])
async def test_a_webhooks_denial_is_named(cluster: Cluster, proxy: Proxy, resource: Any) -> None:
    cluster.deny("policy.example.invalid", "images must be signed", resource=resource)

    error = await fail(proxy)

    assert isinstance(error, StartFailed)
    assert error.code == "denied"
    assert "images must be signed" in str(error)


async def test_a_volume_that_goes_before_its_pod_is_placed_is_made_again(cluster: Cluster, proxy: Proxy) -> None:
    cluster.manager.hold()
    request = asyncio.create_task(proxy.eventually())
    await cluster.until(lambda: (found := look(cluster)) is not None and found["spec"]["replicas"] == 1)
    cluster.store.remove(CLAIMS, cluster.registry.get(CLAIMS, "default", "ws-demo"))
    cluster.manager.release()

    assert (await fetch(await request))[0] == 200


async def test_a_volume_that_goes_is_the_reason_where_none_is_to_be_made(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run()
    await proxy.ensure()
    await proxy.supervisor.stop(KEY)
    strict = await proxies.run(workspace_pvc_size="")
    cluster.manager.hold()
    request = asyncio.create_task(fail(strict))
    await cluster.until(lambda: (found := look(cluster)) is not None and found["spec"]["replicas"] == 1)
    cluster.store.remove(CLAIMS, cluster.registry.get(CLAIMS, "default", "ws-demo"))
    cluster.manager.release()

    assert (await request).code == "pvc-missing"


async def test_a_secret_that_goes_during_a_start_is_made_again(cluster: Cluster, proxy: Proxy) -> None:
    pulled = asyncio.Event()
    cluster.images.set("tiny", Image(pull_until=pulled))
    request = asyncio.create_task(proxy.eventually())
    await cluster.until(lambda: bool(cluster.pods()))

    cluster.registry.delete(SECRETS, "default", NAME)
    pulled.set()

    assert (await fetch(await request))[0] == 200
    assert "container-config" in proxy.supervisor.troubles


async def test_a_container_that_will_never_be_allowed_fails_with_its_reason(cluster: Cluster, proxies: Proxies) -> None:
    never = "container has runAsNonRoot and image has non-numeric user (jovyan), cannot verify user is non-root"
    cluster.images.set("rooted", Image(config_error=never))
    proxy = await proxies.run(image="example.invalid/rooted:1")

    error = await fail(proxy)

    assert isinstance(error, StartFailed)
    assert (error.code, never in str(error)) == ("container-config", True)


@pytest.mark.parametrize("fault", [Hang(), unavailable(retry_after=1)], ids=["silent", "503"])
async def test_an_api_server_that_does_not_answer_is_told_in_seconds_and_the_start_goes_on(
    cluster: Cluster, proxy: Proxy, fault: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With this Retry-After the call is repeated for more than four seconds.
    monkeypatch.setattr("proxy.backends.kubernetes.api.ATTEMPT", 4.0)  # the silence of one call, and nothing else
    await cluster.until(lambda: cluster.requests.count(verb="watch") >= 3)
    away = cluster.server.faults.add(fault, verb="get|create", times=None)

    error = await fail(proxy)

    assert (error.status, error.code) == (503, "api-unavailable")
    assert isinstance(error, StartStalled)
    assert "127.0.0.1" not in str(error)
    cluster.server.faults.remove(away)
    assert (await fetch(await proxy.eventually()))[0] == 200
    assert proxy.supervisor.troubles[-1] == ""


async def test_a_pod_that_its_node_evicted_does_not_speak_for_the_one_in_its_place(
    cluster: Cluster, proxy: Proxy
) -> None:
    pulled = asyncio.Event()
    cluster.images.set("tiny", Image(pull_until=pulled))
    request = asyncio.create_task(proxy.ensure())
    await cluster.until(lambda: bool(cluster.pods()))
    template = get(cluster)["spec"]["template"]
    metadata = {**template["metadata"], "name": f"{NAME}-evicted"}
    evicted = cluster.registry.create(PODS, "default", {"metadata": metadata, "spec": template["spec"]})
    status = {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."}
    cluster.registry.set_status(PODS, evicted, status)
    seen = proxy.backend.following.sight
    await until(lambda: any(pod["status"].get("phase") == "Failed" for pod in seen.pods_of(KEY)))

    pulled.set()

    assert (await fetch(await request))[0] == 200
    assert proxy.supervisor.troubles == []


async def test_events_that_do_not_come_hold_no_start_up(cluster: Cluster, proxy: Proxy) -> None:
    pulled = asyncio.Event()
    cluster.images.set("tiny", Image(pull_until=pulled))
    silence = cluster.server.faults.add(Hang(), verb="list", resource="events", times=None)
    request = asyncio.create_task(proxy.ensure())
    await asyncio.wait_for(silence.struck.wait(), 10)

    pulled.set()

    async with asyncio.timeout(8):  # a call that is repeated until its deadline would take 30
        assert (await fetch(await request))[0] == 200


async def test_what_does_not_end_is_told_long_before_it_is_given_up(
    cluster: Cluster, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.backends.kubernetes.start._LONG_END", 0.0)
    await proxy.ensure()
    cluster.manager.hold()
    cluster.registry.delete(DEPLOYMENTS, "default", NAME, DeleteOptions("Foreground"))
    await until(lambda: not proxy.is_running())

    error = await fail(proxy)
    cluster.manager.release()

    assert isinstance(error, StartStalled)
    assert error.code == "still-terminating"
    assert (await fetch(await proxy.eventually()))[0] == 200


@pytest.mark.parametrize("image", ["crash", "missing"])
async def test_what_never_became_ready_is_swept_up(cluster: Cluster, proxies: Proxies, image: str) -> None:
    async with proxies.running(image=f"example.invalid/{image}:1") as dies:
        await fail(dies)
    proxy = await proxies.run(reap_grace=timedelta(seconds=0.01))
    await proxy.backend.sweeper.tick()
    assert look(cluster) is not None  # it was used of late

    proxies.clock.shift(700)
    async with asyncio.timeout(20):
        while look(cluster) is not None:  # one that crashes is ready for a moment now and then
            await proxy.backend.sweeper.tick()
            await asyncio.sleep(0.05)

    assert cluster.pods() == []


async def test_a_sweep_leaves_what_is_ready_or_being_started_or_was_scaled_to_zero(
    cluster: Cluster, proxies: Proxies
) -> None:
    proxy = await proxies.run(reap_grace=timedelta(seconds=0.05))
    await proxy.ensure()
    proxies.clock.shift(700)
    await proxy.backend.sweeper.tick()
    assert look(cluster) is not None

    cluster.registry.patch(DEPLOYMENTS, "default", NAME, {"spec": {"replicas": 0}})
    await until(lambda: not proxy.is_running())
    proxies.clock.shift(700)
    await proxy.backend.sweeper.tick()
    assert look(cluster) is not None


async def test_what_a_crash_left_without_a_replica_is_swept_up_when_nobody_wants_it(
    cluster: Cluster, proxies: Proxies
) -> None:
    proxy = await proxies.run(reap_grace=timedelta(seconds=0.01))
    put(cluster, proxy.config, replicas=0, resources="deployment secret")
    await proxy.backend.sweeper.tick()
    assert look(cluster) is not None

    proxies.clock.shift(6 * 3600)
    await until(lambda: proxy.backend.following.sight.deployment(KEY) is not None)
    await proxy.backend.sweeper.tick()

    assert look(cluster) is None


async def test_a_start_objects_to_another_replicas_sweep(cluster: Cluster, proxies: Proxies) -> None:
    grace = timedelta(seconds=0.5)
    cluster.images.set("slow", Image(pull_until=asyncio.Event()))
    starts = await proxies.run(image="example.invalid/slow:1", reap_grace=grace, failed_ttl=timedelta(hours=1))
    sweeps = await proxies.run(reap_grace=grace, failed_ttl=timedelta(minutes=1))
    request = asyncio.create_task(starts.ensure())
    await cluster.until(lambda: bool(cluster.pods()))
    proxies.clock.shift(700)

    await sweeps.backend.sweeper.tick()

    assert look(cluster) is not None
    request.cancel()
