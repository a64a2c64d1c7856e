"""A first request makes everything, in an order that no crash spoils; the next one finds it."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from proxy.backends.kubernetes import manifests
from proxy.errors import StartFailed, StartStalled, StartTimeout
from proxy.report import Step
from tests.backends.kubernetes.proxies import (
    KEY,
    NAME,
    Proxies,
    Proxy,
    fetch,
    get,
    is_ready,
    look,
    put,
    uid,
    until,
)
from tests.cluster.faults import LoseAnswer, Reset, server_error, too_many_requests
from tests.cluster.images import Image
from tests.cluster.registry import DeleteOptions
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, SECRETS, SERVICES

if TYPE_CHECKING:
    from tests.cluster import Cluster


async def test_first_request_makes_deployment_secret_service_and_then_the_replica(
    cluster: Cluster, proxy: Proxy
) -> None:
    changes = cluster.record_changes()

    handle = await proxy.ensure()

    ours = [c for c in changes if c.obj["metadata"]["name"] == NAME]
    made = [
        (c.type, c.resource.kind, c.obj["spec"].get("replicas") if c.resource == DEPLOYMENTS else None) for c in ours
    ]
    first = [made[0], *(step for step in made if step[0] == "ADDED" and step[1] in {"Secret", "Service"})]
    assert first == [("ADDED", "Deployment", 0), ("ADDED", "Secret", None), ("ADDED", "Service", None)]
    assert made.index(("MODIFIED", "Deployment", 1)) > made.index(("ADDED", "Service", None))
    assert handle.address == (get(cluster, SERVICES)["spec"]["clusterIP"], 8888)
    assert (await fetch(handle))[0] == 200


async def test_all_that_is_made_belongs_to_the_deployment(cluster: Cluster, proxy: Proxy) -> None:
    await proxy.ensure()

    for resource in (SECRETS, SERVICES):
        (owner,) = get(cluster, resource)["metadata"]["ownerReferences"]
        assert owner["uid"] == uid(cluster)


async def test_second_request_makes_no_api_call(cluster: Cluster, proxy: Proxy) -> None:
    first = await proxy.ensure()
    cluster.requests.clear()

    assert await proxy.ensure() is first

    assert cluster.requests.entries == []


@pytest.mark.parametrize("left", ["deployment", "deployment secret", "deployment service", "deployment secret service"])
@pytest.mark.parametrize("replicas", [0, 1])
async def test_what_a_crash_left_is_completed(cluster: Cluster, proxy: Proxy, left: str, replicas: int) -> None:
    made = put(cluster, proxy.config, replicas=replicas, resources=left)

    handle = await proxy.eventually()

    assert uid(cluster) == made["metadata"]["uid"]
    assert (await fetch(handle))[0] == 200


async def test_what_was_made_by_hand_without_a_token_is_adopted(cluster: Cluster, proxy: Proxy) -> None:
    cluster.registry.create(CLAIMS, "default", manifests.build_pvc(KEY, proxy.config))
    made = cluster.registry.create(DEPLOYMENTS, "default", manifests.build_deployment(KEY, proxy.config))
    address = cluster.registry.create(SERVICES, "default", manifests.build_service(KEY))["spec"]["clusterIP"]

    handle = await proxy.eventually()

    assert uid(cluster) == made["metadata"]["uid"]
    assert handle.address[0] == address
    assert (await fetch(handle))[0] == 200


async def test_a_service_of_an_older_deployment_is_replaced(cluster: Cluster, proxy: Proxy) -> None:
    old = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME, "uid": "old"}}
    body = manifests.build_service(KEY, owner=manifests.owner_reference(old))
    cluster.manager.hold()  # the garbage collector has not come yet
    before = cluster.registry.create(SERVICES, "default", body)
    request = asyncio.create_task(proxy.ensure())
    await cluster.until(lambda: look(cluster, SERVICES) not in (None, before))
    cluster.manager.release()

    await request

    assert get(cluster, SERVICES)["metadata"]["ownerReferences"][0]["uid"] == uid(cluster)


@pytest.mark.parametrize("is_owned", [True, False])
async def test_a_secret_that_holds_another_token_is_replaced_before_a_pod_takes_it(
    cluster: Cluster, proxy: Proxy, is_owned: bool
) -> None:
    deployment = put(cluster, proxy.config, replicas=0, resources="deployment service")
    body = manifests.build_secret(KEY, None, "another", manifests.owner_reference(deployment))
    if not is_owned:
        del body["metadata"]["ownerReferences"]
    cluster.registry.create(SECRETS, "default", body)

    handle = await proxy.eventually()

    token = base64.b64decode(get(cluster, SECRETS)["data"]["token"]).decode()
    assert handle.headers["Authorization"] == f"token {token}"
    assert token != "another"


@pytest.mark.parametrize("resource", ["deployments", "secrets", "services", "persistentvolumeclaims"])
@pytest.mark.parametrize("fault", [LoseAnswer(), Reset(), server_error(), too_many_requests(0)])
async def test_a_write_that_goes_wrong_on_the_way_is_looked_at(
    cluster: Cluster, proxy: Proxy, resource: str, fault: Any
) -> None:
    struck = cluster.server.faults.add(fault, verb="create", resource=resource)

    handle = await proxy.ensure()

    assert struck.hits == 1
    assert (await fetch(handle))[0] == 200


def hash_of(cluster: Cluster) -> str:
    return str(get(cluster)["metadata"]["annotations"]["notebook-proxy/template-hash"])


async def test_a_template_that_changed_is_updated_while_it_is_not_ready(cluster: Cluster, proxies: Proxies) -> None:
    broken = await proxies.run(image="example.invalid/missing:1")
    with pytest.raises(StartStalled):
        await broken.ensure()
    before = uid(cluster), hash_of(cluster)
    mended = await proxies.run(image="example.invalid/tiny:1")

    handle = await mended.ensure()

    assert (await fetch(handle))[0] == 200
    assert uid(cluster) == before[0]
    assert hash_of(cluster) != before[1]


async def test_a_template_that_changed_is_left_while_it_is_ready(cluster: Cluster, proxies: Proxies) -> None:
    async with proxies.running() as first:
        handle = await first.ensure()
    before = hash_of(cluster)
    other = await proxies.run(memory_limit="1Gi")

    assert (await other.ensure()) == handle

    assert hash_of(cluster) == before


async def test_a_start_waits_for_what_is_still_ending(cluster: Cluster, proxy: Proxy) -> None:
    await proxy.ensure()
    old = uid(cluster), cluster.worker(cluster.pods()[0]).container
    cluster.registry.delete(DEPLOYMENTS, "default", NAME, DeleteOptions("Foreground"))
    await until(lambda: not proxy.is_running())

    handle = await proxy.ensure()

    assert uid(cluster) != old[0]
    assert old[1] is not None
    assert not old[1].is_running
    assert (await fetch(handle))[0] == 200


async def test_a_start_waits_for_pods_whose_deployment_went_first(cluster: Cluster, proxy: Proxy) -> None:
    await proxy.ensure()
    (old,) = cluster.pods()
    container = cluster.worker(old).container
    cluster.registry.delete(DEPLOYMENTS, "default", NAME, DeleteOptions("Background"))
    await until(lambda: not proxy.is_running())

    handle = await proxy.ensure()

    assert container is not None
    assert not container.is_running
    assert (await fetch(handle))[1]["pod"] != old["metadata"]["name"]


async def test_what_does_not_end_is_the_reason(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(terminating_timeout=timedelta(seconds=0.5))
    await proxy.ensure()
    cluster.manager.hold()
    cluster.registry.delete(DEPLOYMENTS, "default", NAME, DeleteOptions("Foreground"))
    await until(lambda: not proxy.is_running())

    with pytest.raises(StartFailed) as failed:
        await proxy.ensure()

    cluster.manager.release()
    assert failed.value.code == "still-terminating"
    assert failed.value.retry_after


async def test_a_server_that_never_listens_does_not_become_ready(cluster: Cluster, proxies: Proxies) -> None:
    proxy = await proxies.run(image="example.invalid/deaf:1", ready_timeout=timedelta(seconds=1))

    with pytest.raises(StartTimeout):
        await proxy.ensure()

    assert is_ready(cluster)
    assert not proxy.is_running()


async def test_a_slow_server_becomes_ready_when_it_answers(cluster: Cluster, proxies: Proxies) -> None:
    command = [
        "sh",
        "-c",
        "until test -e /workspace/go; do sleep 0.02; done; exec jupyter --ServerApp.base_url=/ws/demo/",
    ]
    proxy = await proxies.run(notebook_command=command)
    request = asyncio.create_task(proxy.ensure())
    await cluster.until(lambda: is_ready(cluster))
    await asyncio.wait({request}, timeout=0.2)
    assert not request.done()

    (cluster.volumes.claim_directory("default", "ws-demo") / "go").touch()

    assert (await fetch(await request))[0] == 200


async def test_what_somebody_takes_away_during_a_start_is_made_again(cluster: Cluster, proxy: Proxy) -> None:
    pulled = asyncio.Event()
    cluster.images.set("tiny", Image(pull_until=pulled))
    request = asyncio.create_task(proxy.ensure())
    await cluster.until(lambda: bool(cluster.pods()))
    await until(lambda: proxy.backend.following.sight.handle_of(KEY) is not None)

    cluster.registry.delete(SERVICES, "default", NAME)
    await cluster.until(lambda: look(cluster, SERVICES) is not None)
    cluster.registry.delete(DEPLOYMENTS, "default", NAME)
    pulled.set()

    assert (await fetch(await request))[0] == 200


async def test_image_that_is_pulled_is_told_with_its_node_and_since_when(cluster: Cluster, proxy: Proxy) -> None:
    pulled = asyncio.Event()
    cluster.images.set("tiny", Image(pull_until=pulled))
    request = asyncio.create_task(proxy.ensure())

    seen = set[Step | None]()

    def is_pulling() -> bool:
        report = proxy.supervisor.report(KEY)
        seen.add(report.progress.step if report and report.progress else None)
        return Step.PULLING in seen

    await until(is_pulling)
    report = proxy.supervisor.report(KEY)
    pulled.set()
    await request

    assert seen & {Step.PREPARING, Step.SCHEDULED}
    assert report is not None
    assert report.progress is not None
    assert report.progress.words.startswith("The node pulls the image ")
    assert report.progress.since is not None
