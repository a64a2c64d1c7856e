"""The life of a workspace's objects: made in order, owned, ready, deleted in the foreground, refused by quota."""

from __future__ import annotations

import pytest

from tests.cluster.client import MERGE, Client, Reply, path_of
from tests.cluster.conditions import find_condition
from tests.cluster.examples import deployment, secret, service
from tests.cluster.resources import DEPLOYMENTS, EVENTS, PODS, QUOTAS, REPLICA_SETS, SECRETS, SERVICES, Obj
from tests.conformance.conftest import eventually

NAME = "notebook-demo"


async def start(client: Client, namespace: str, **pod: str) -> Obj:
    """Make a workspace as the proxy does: 0 replicas, what it owns, then 1."""
    created = await client.create(DEPLOYMENTS, namespace, deployment(replicas=0, **pod))
    assert created.code == 201
    assert (await client.create(SECRETS, namespace, secret(owner=created.body))).code == 201
    assert (await client.create(SERVICES, namespace, service(owner=created.body))).code == 201
    assert (await client.patch(DEPLOYMENTS, namespace, NAME, {"spec": {"replicas": 1}})).code == 200
    body: Obj = created.body
    return body


async def wait_for_pod(client: Client, namespace: str) -> Obj:
    reply = await eventually(
        lambda: client.get(PODS, namespace, labelSelector=f"app={NAME}"), lambda r: r.body["items"]
    )
    pod: Obj = reply.body["items"][0]
    return pod


async def wait_until_gone(client: Client, namespace: str) -> None:
    await eventually(lambda: client.get(DEPLOYMENTS, namespace, NAME), lambda reply: reply.code == 404)


async def test_scaling_to_one_makes_one_pod_with_the_templates_labels(client: Client, namespace: str) -> None:
    await start(client, namespace)

    pod = await wait_for_pod(client, namespace)

    assert pod["metadata"]["labels"].items() >= {"app": NAME, "managed-by": "conformance"}.items()
    (owner,) = pod["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"]) == ("ReplicaSet", True)
    assert pod["metadata"]["labels"]["pod-template-hash"] in owner["name"]


async def test_the_scale_of_a_deployment_is_its_replicas(client: Client, namespace: str) -> None:
    await client.create(DEPLOYMENTS, namespace, deployment(replicas=0))
    path = path_of(DEPLOYMENTS, namespace, NAME, "scale")

    before = await client.request("GET", path)
    after = await client.patch(DEPLOYMENTS, namespace, NAME, {"spec": {"replicas": 1}}, MERGE, subresource="scale")
    missing = await client.request("GET", path_of(DEPLOYMENTS, namespace, "nothing", "scale"))

    assert (before.body["kind"], before.body["spec"].get("replicas", 0)) == ("Scale", 0)
    assert (after.code, after.body["spec"]["replicas"], missing.code) == (200, 1, 404)
    assert (await client.get(DEPLOYMENTS, namespace, NAME)).body["spec"]["replicas"] == 1
    assert (await wait_for_pod(client, namespace))["metadata"]["labels"]["app"] == NAME


async def test_a_status_patched_as_a_kubelet_would_makes_the_deployment_ready(client: Client, namespace: str) -> None:
    await start(client, namespace)
    pod = await wait_for_pod(client, namespace)

    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"status": {"phase": "Running", "conditions": [ready]}}
    await client.patch(PODS, namespace, pod["metadata"]["name"], status, MERGE, subresource="status")

    reply = await eventually(
        lambda: client.get(DEPLOYMENTS, namespace, NAME), lambda reply: reply.body["status"].get("readyReplicas") == 1
    )
    available = find_condition(reply.body["status"]["conditions"], "Available")
    assert available is not None
    assert available["status"] == "True"


async def test_a_delete_in_the_background_takes_what_is_owned(client: Client, namespace: str) -> None:
    await start(client, namespace)
    await wait_for_pod(client, namespace)

    reply = await client.delete(DEPLOYMENTS, namespace, NAME, propagationPolicy="Background")

    assert (reply.code, reply.body["status"]) == (200, "Success")
    await eventually(lambda: client.get(SECRETS, namespace, NAME), lambda reply: reply.code == 404)
    await eventually(lambda: client.get(SERVICES, namespace, NAME), lambda reply: reply.code == 404)
    await eventually(lambda: client.get(REPLICA_SETS, namespace), lambda reply: not reply.body["items"])


async def test_a_delete_in_the_foreground_keeps_the_name_until_the_pods_are_gone(
    client: Client, namespace: str
) -> None:
    await start(client, namespace)
    pod = await wait_for_pod(client, namespace)
    name = pod["metadata"]["name"]
    # A finalizer stands for a pod that takes its time: this works with a kubelet and without.
    await client.patch(PODS, namespace, name, {"metadata": {"finalizers": ["example.com/held"]}})

    deleted = await client.delete(DEPLOYMENTS, namespace, NAME, propagationPolicy="Foreground")
    meanwhile = await client.create(DEPLOYMENTS, namespace, deployment(replicas=0))
    again = await client.delete(DEPLOYMENTS, namespace, NAME)

    assert deleted.code == again.code == 200
    assert deleted.body["metadata"]["finalizers"] == ["foregroundDeletion"]
    assert "deletionTimestamp" in deleted.body["metadata"]
    assert (meanwhile.code, meanwhile.reason) == (409, "AlreadyExists")
    await _let_go(client, namespace, name)
    await wait_until_gone(client, namespace)
    assert (await client.create(DEPLOYMENTS, namespace, deployment(replicas=0))).code == 201


async def _let_go(client: Client, namespace: str, pod: str) -> None:
    terminating = await eventually(
        lambda: client.get(PODS, namespace, pod), lambda reply: "deletionTimestamp" in reply.body["metadata"]
    )
    assert terminating.code == 200
    await client.patch(PODS, namespace, pod, {"metadata": {"finalizers": None}})
    await client.delete(PODS, namespace, pod, gracePeriodSeconds=0)


async def test_what_names_an_owner_that_is_not_there_is_deleted(client: Client, namespace: str) -> None:
    owner = (await client.create(DEPLOYMENTS, namespace, deployment(replicas=0))).body
    await client.delete(DEPLOYMENTS, namespace, NAME, propagationPolicy="Background")
    await wait_until_gone(client, namespace)

    await client.create(SECRETS, namespace, secret("late", owner=owner))

    await eventually(lambda: client.get(SECRETS, namespace, "late"), lambda reply: reply.code == 404)


async def test_an_exhausted_quota_shows_in_the_deployments_condition_and_in_an_event(
    client: Client, namespace: str
) -> None:
    await client.create(QUOTAS, namespace, {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}})
    # The quota counts once its controller has seen it; until then a real server may refuse for another reason.
    await start(client, namespace)

    def failure(reply: Reply) -> Obj | None:
        return find_condition(reply.body["status"].get("conditions", []), "ReplicaFailure")

    reply = await eventually(lambda: client.get(DEPLOYMENTS, namespace, NAME), failure)
    condition = failure(reply)
    assert condition is not None
    assert (condition["status"], condition["reason"]) == ("True", "FailedCreate")
    assert "quota" in condition["message"]
    events = await client.get(EVENTS, namespace, fieldSelector="reason=FailedCreate")
    assert {event["involvedObject"]["kind"] for event in events.body["items"]} == {"ReplicaSet"}


async def test_scaling_to_zero_ends_the_pod(client: Client, namespace: str) -> None:
    await start(client, namespace)
    pod = await wait_for_pod(client, namespace)

    await client.patch(DEPLOYMENTS, namespace, NAME, {"spec": {"replicas": 0}})

    name = pod["metadata"]["name"]
    await eventually(
        lambda: client.get(PODS, namespace, name),
        lambda reply: reply.code == 404 or "deletionTimestamp" in reply.body["metadata"],
    )


@pytest.mark.kubelet
async def test_an_image_that_is_not_there_is_named_in_the_pods_status(client: Client, namespace: str) -> None:
    await start(client, namespace, image="example.invalid/missing:1")

    def reasons(reply: Reply) -> set[str]:
        statuses = [s for pod in reply.body["items"] for s in pod["status"].get("containerStatuses", [])]
        return {status["state"].get("waiting", {}).get("reason", "") for status in statuses}

    await eventually(lambda: client.get(PODS, namespace), lambda r: reasons(r) & {"ErrImagePull", "ImagePullBackOff"})


@pytest.mark.kubelet
async def test_a_pod_that_is_deleted_is_replaced_by_another(client: Client, namespace: str) -> None:
    await start(client, namespace, image="registry.k8s.io/pause:3.10")
    pod = await wait_for_pod(client, namespace)

    await client.delete(PODS, namespace, pod["metadata"]["name"], gracePeriodSeconds=0)

    await eventually(
        lambda: client.get(PODS, namespace, labelSelector=f"app={NAME}"),
        lambda reply: {item["metadata"]["uid"] for item in reply.body["items"]} - {pod["metadata"]["uid"]},
    )
