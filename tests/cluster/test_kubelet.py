"""Pods are real processes behind real addresses, and fail in the ways that real ones do."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from tests.cluster.client import connect
from tests.cluster.cluster import Cluster
from tests.cluster.conditions import find_condition
from tests.cluster.examples import claim, deployment, secret, service
from tests.cluster.images import Image
from tests.cluster.kubelet import Timings
from tests.cluster.programs.watchdog import marked
from tests.cluster.registry import DeleteOptions
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, EVENTS, PODS, SECRETS, SERVICES, Obj, name_of

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "notebook-demo"
TOKEN_ENV = {"name": "JUPYTER_TOKEN", "valueFrom": {"secretKeyRef": {"name": NAME, "key": "token"}}}


def start(cluster: Cluster, image: str = "tiny", **pod: Any) -> Obj:
    """Create a Deployment and its Service, and return the Service."""
    cluster.registry.create(DEPLOYMENTS, "default", deployment(image=image, **pod))
    return cluster.registry.create(SERVICES, "default", service())


def is_ready(cluster: Cluster) -> bool:
    found = cluster.store.get(DEPLOYMENTS, "default", NAME)
    return found is not None and found["status"].get("readyReplicas") == 1


def state(cluster: Cluster) -> Obj:
    """Return the state of the only pod's container, by what it is."""
    statuses = [s for pod in cluster.pods("default") for s in pod["status"].get("containerStatuses", [])]
    return next(({"is": kind, **value} for kind, value in statuses[0]["state"].items()), {}) if statuses else {}


def reported(cluster: Cluster) -> dict[str, str]:
    return {event["reason"]: event["message"] for event in cluster.store.items(EVENTS, "default")}


async def fetch(address: str, path: str, **headers: str) -> tuple[int, Obj]:
    """Ask until somebody answers: a pod is ready before its server listens."""
    async with asyncio.timeout(60), aiohttp.ClientSession(headers=headers) as session:
        while True:
            try:
                async with session.get(f"http://{address}:8888{path}") as response:
                    return response.status, await response.json()
            except aiohttp.ClientError:
                await asyncio.sleep(0.005)


async def is_refused(address: str) -> bool:
    try:
        _, writer = await asyncio.open_connection(address, 8888)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def test_a_services_address_reaches_the_pods_process(cluster: Cluster) -> None:
    cluster.registry.create(SECRETS, "default", secret())
    address = start(cluster, container={"env": [TOKEN_ENV]})["spec"]["clusterIP"]

    assert await fetch(address, "/ws/demo/api") == (200, {"version": "2.21.0"})
    assert (await fetch(address, "/ws/demo/x"))[0] == 403
    status, seen = await fetch(address, "/ws/demo/x", Authorization="token open sesame")

    assert (status, seen["pod"]) == (200, name_of(cluster.pods()[0]))
    assert (await fetch(address, "/ws/other/api"))[0] == 404


async def test_a_service_without_a_ready_pod_refuses(cluster: Cluster) -> None:
    found = cluster.registry.create(SERVICES, "default", service())
    await cluster.manager.settled()

    assert await is_refused(found["spec"]["clusterIP"])


async def test_a_started_pod_is_reported_as_a_kubelet_does(cluster: Cluster) -> None:
    start(cluster)
    await cluster.until(lambda: is_ready(cluster))

    (pod,) = cluster.pods()
    conditions = {c["type"]: c["status"] for c in pod["status"]["conditions"]}
    assert pod["status"]["phase"] == "Running"
    assert set(conditions) == {"PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"}
    assert set(conditions.values()) == {"True"}
    assert {"Scheduled", "Pulling", "Pulled", "Created", "Started"} <= set(reported(cluster))


async def test_files_on_a_claim_outlive_the_pod(cluster: Cluster) -> None:
    cluster.registry.create(CLAIMS, "default", claim("files"))
    volumes = [{"name": "files", "persistentVolumeClaim": {"claimName": "files"}}]
    write = {
        "command": ["sh", "-c", "echo $(GREETING) > /workspace/note; exec start-notebook.py"],
        "env": [{"name": "GREETING", "value": "hello"}],
        "volumeMounts": [{"name": "files", "mountPath": "/workspace"}],
    }
    address = start(cluster, volumes=volumes, container=write)["spec"]["clusterIP"]
    await fetch(address, "/api")

    cluster.registry.delete(DEPLOYMENTS, "default", NAME, DeleteOptions("Foreground"))
    await cluster.until(lambda: not cluster.store.items(DEPLOYMENTS))

    assert cluster.pods() == []
    assert (cluster.volumes.claim_directory("default", "files") / "note").read_text() == "hello\n"


@pytest.mark.parametrize(
    ("image", "reason", "event"),
    [
        ("missing", "ImagePullBackOff", "BackOff"),
        ("misconfigured", "CreateContainerConfigError", "Failed"),
        ("crash", "CrashLoopBackOff", "BackOff"),
        ("full", "CrashLoopBackOff", "BackOff"),
        ("unmountable", "ContainerCreating", "FailedMount"),
        ("multi-attach", "ContainerCreating", "FailedAttachVolume"),
        ("oom", "CrashLoopBackOff", "BackOff"),
    ],
)
async def test_a_pod_that_fails_says_why(cluster: Cluster, image: str, reason: str, event: str) -> None:
    start(cluster, image)

    await cluster.until(lambda: state(cluster).get("reason") == reason and event in reported(cluster))

    assert not any(pod["status"].get("phase") == "Failed" for pod in cluster.pods())


async def test_a_missing_secret_is_a_config_error_until_it_is_there(cluster: Cluster) -> None:
    start(cluster, container={"env": [TOKEN_ENV]})
    await cluster.until(lambda: state(cluster).get("reason") == "CreateContainerConfigError")
    assert state(cluster)["message"] == 'secret "notebook-demo" not found'

    cluster.registry.create(SECRETS, "default", secret())

    await cluster.until(lambda: is_ready(cluster))


async def test_an_image_that_is_mended_is_pulled_at_the_next_try(cluster: Cluster) -> None:
    start(cluster, "missing")
    await cluster.until(lambda: state(cluster).get("reason") == "ImagePullBackOff")

    cluster.images.set("missing", Image())

    await cluster.until(lambda: is_ready(cluster))


async def test_a_slow_pull_is_creating_until_it_is_done(cluster: Cluster) -> None:
    pulled = asyncio.Event()
    cluster.images.set("tiny", Image(pull_until=pulled))
    start(cluster)
    await cluster.until(lambda: "Pulling" in reported(cluster))
    assert state(cluster)["reason"] == "ContainerCreating"

    pulled.set()

    await cluster.until(lambda: is_ready(cluster))


async def test_a_crash_leaves_its_last_words_in_the_log(cluster: Cluster) -> None:
    start(cluster, "crash")
    await cluster.until(lambda: state(cluster).get("reason") == "CrashLoopBackOff")
    (pod,) = cluster.pods()

    async with connect(cluster.kubeconfig()) as client:
        path = f"/api/v1/namespaces/default/pods/{name_of(pod)}/log"
        reply = await client.request("GET", path, tailLines=1, previous="true")

    assert reply.body == "ModuleNotFoundError: No module named 'x'\n"


async def test_running_out_of_memory_is_named_in_the_last_state(cluster: Cluster) -> None:
    start(cluster)
    await cluster.until(lambda: is_ready(cluster))

    cluster.kill(cluster.pods()[0], out_of_memory=True)

    def last_state() -> Obj:
        found: Obj = cluster.pods()[0]["status"]["containerStatuses"][0]["lastState"].get("terminated", {})
        return found

    await cluster.until(lambda: last_state().get("reason") == "OOMKilled")
    await cluster.until(lambda: is_ready(cluster))
    assert last_state()["exitCode"] == 137
    assert cluster.pods()[0]["status"]["containerStatuses"][0]["restartCount"] == 1


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda cluster: [cluster.cordon(node) for node in ("node-1", "node-2")], "were unschedulable"),
        (lambda cluster: cluster.images.set("tiny", Image(unschedulable="0/2 nodes are available: no GPU.")), "no GPU"),
    ],
)
async def test_a_pod_without_a_place_is_unschedulable(
    cluster: Cluster, spoil: Callable[[Cluster], object], why: str
) -> None:
    spoil(cluster)
    start(cluster)

    await cluster.until(lambda: "FailedScheduling" in reported(cluster))

    condition = find_condition(cluster.pods()[0]["status"]["conditions"], "PodScheduled")
    assert condition is not None
    assert condition["reason"] == "Unschedulable"
    assert why in condition["message"]


async def test_a_pod_with_a_missing_claim_waits_for_it(cluster: Cluster) -> None:
    start(cluster, volumes=[{"name": "files", "persistentVolumeClaim": {"claimName": "files"}}])
    await cluster.until(lambda: "FailedScheduling" in reported(cluster))
    assert 'persistentvolumeclaim "files" not found' in reported(cluster)["FailedScheduling"]

    cluster.registry.create(CLAIMS, "default", claim("files"))

    await cluster.until(lambda: is_ready(cluster))


async def test_a_pod_that_never_listens_is_ready_all_the_same(cluster: Cluster) -> None:
    address = start(cluster, "deaf")["spec"]["clusterIP"]
    await cluster.until(lambda: is_ready(cluster))

    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.get(f"http://{address}:8888/ws/demo/api")


async def test_a_drained_nodes_pods_move_and_the_address_follows(cluster: Cluster) -> None:
    address = start(cluster)["spec"]["clusterIP"]
    _, before = await fetch(address, "/ws/demo/")
    (pod,) = cluster.pods()

    assert cluster.drain(pod["spec"]["nodeName"]) == [name_of(pod)]

    await cluster.until(lambda: is_ready(cluster) and name_of(pod) not in map(name_of, cluster.pods()))
    _, after = await fetch(address, "/ws/demo/")
    assert after["pid"] != before["pid"]
    assert cluster.pods()[0]["spec"]["nodeName"] != pod["spec"]["nodeName"]


async def test_a_process_that_ignores_the_request_to_end_is_killed_when_its_grace_is_over(cluster: Cluster) -> None:
    start(cluster, "stubborn", terminationGracePeriodSeconds=1)
    await cluster.until(lambda: is_ready(cluster))
    container = cluster.worker(cluster.pods()[0]).container
    assert container is not None

    cluster.registry.delete(DEPLOYMENTS, "default", NAME, DeleteOptions("Foreground"))
    assert cluster.store.items(DEPLOYMENTS)
    await cluster.until(lambda: not cluster.store.items(PODS))

    assert not container.is_running


async def test_a_forced_delete_kills_at_once(cluster: Cluster) -> None:
    start(cluster, "stubborn")
    await cluster.until(lambda: is_ready(cluster))
    (pod,) = cluster.pods()
    container = cluster.worker(pod).container
    assert container is not None

    cluster.force_delete(pod)

    assert name_of(pod) not in map(name_of, cluster.pods())
    assert await container.wait() == 128 + signal.SIGKILL


async def test_phantoms_are_ready_without_a_process(cluster: Cluster) -> None:
    start(cluster, "phantom")

    await cluster.until(lambda: is_ready(cluster))

    assert cluster.worker(cluster.pods()[0]).container is None


async def test_a_real_jupyter_answers_under_its_base_url(cluster: Cluster) -> None:
    command = ["start-notebook.py", "--ServerApp.base_url=/ws/demo/", "--ServerApp.ip=0.0.0.0"]
    cluster.registry.create(SECRETS, "default", secret())
    address = start(cluster, "jupyter", container={"command": command, "env": [TOKEN_ENV]})["spec"]["clusterIP"]

    assert (await fetch(address, "/ws/demo/api", Host="notebook-demo:8888"))[0] == 200
    assert (await fetch(address, "/ws/demo/api/status", Authorization="token open sesame"))[0] == 200
    assert (await fetch(address, "/ws/demo/api/status"))[0] == 403


DIES = """
import asyncio, os, signal
from tests.cluster import Cluster
from tests.cluster.examples import deployment
from tests.cluster.resources import DEPLOYMENTS

async def main():
    async with Cluster() as cluster:
        command = ["sh", "-c", "setsid sleep 1000 & exec sleep 1000"]
        cluster.registry.create(DEPLOYMENTS, "default", deployment(container={"command": command}))
        await cluster.until(lambda: cluster.store.items(DEPLOYMENTS)[0]["status"].get("readyReplicas"))
        name, _, mark = cluster.worker(cluster.pods()[0])._node.mark.partition("=")
        print(f"{name}={mark}-{cluster.pods()[0]['metadata']['uid']}", cluster.root, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_no_process_outlives_a_cluster_that_is_killed() -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", DIES, env=env, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    mark, root = output.split()
    shutil.rmtree(root)

    async with asyncio.timeout(10):
        while marked(mark):
            await asyncio.sleep(0.01)


async def test_no_process_outlives_the_cluster() -> None:
    async with Cluster(timings=Timings()) as cluster:
        start(cluster, container={"command": ["sh", "-c", "setsid sleep 1000 & exec sleep 1000"]})
        await cluster.until(lambda: is_ready(cluster))
        mark = f"{cluster.worker(cluster.pods()[0])._node.mark}-{cluster.pods()[0]['metadata']['uid']}".encode()
        assert marked(mark)

    assert not marked(mark)
    assert not cluster.root.exists()
    assert json.dumps(cluster.pods())
