"""Objects in, a diagnosis out; whatever the objects look like."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.kubernetes.failures import (
    Diagnosis,
    Step,
    diagnose,
    of_refusal,
    restarts_of,
    step_of,
    with_log,
)

HEALTHY: dict[str, Any] = {"metadata": {"name": "notebook-demo"}}


def pod(state: dict[str, Any] | None = None, *, node: str = "node-1", **status: Any) -> dict[str, Any]:
    container = {"name": "notebook", "image": "tiny:1", "state": state or {}, **status}
    spec = {"nodeName": node} if node else {}
    return {"metadata": {"uid": "1"}, "spec": spec, "status": {"containerStatuses": [container]}}


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def ended(reason: str = "Error", code: int = 1) -> dict[str, Any]:
    return {"terminated": {"reason": reason, "exitCode": code}}


def event(reason: str, message: str) -> dict[str, Any]:
    return {"type": "Warning", "reason": reason, "message": message, "involvedObject": {"uid": "1"}}


def unready(reason: str, message: str) -> dict[str, Any]:
    condition = {"type": "ReplicaFailure", "status": "True", "reason": reason, "message": message}
    return {"status": {"conditions": [condition]}}


@pytest.mark.parametrize(
    ("found", "code", "is_final"),
    [
        (pod(waiting("ErrImagePull", "no such image")), "image-pull", False),
        (pod(waiting("ImagePullBackOff")), "image-pull", False),
        (pod(waiting("InvalidImageName")), "image-name", True),
        (pod(waiting("CreateContainerConfigError", "no key")), "container-config", False),
        (pod(waiting("CreateContainerConfigError", 'secret "x" not found')), "container-config", False),
        (
            pod(waiting("CreateContainerConfigError", "container has runAsNonRoot and image will run as root")),
            "container-config",
            True,
        ),
        (
            pod(waiting("CreateContainerConfigError", "container's runAsUser breaks non-root policy")),
            "container-config",
            True,
        ),
        (pod(waiting("CreateContainerError", "no such file")), "container-config", True),
        (pod(waiting("CreateContainerError", "context deadline exceeded")), "container-config", False),
        (pod(waiting("CreateContainerError", 'name "x" is reserved for "y"')), "container-config", False),
        (pod(waiting("RunContainerError", "executable file not found in $PATH")), "container-config", True),
        (pod(waiting("CrashLoopBackOff"), lastState=ended()), "crash-loop", True),
        (pod(waiting("CrashLoopBackOff"), lastState=ended("OOMKilled", 137)), "out-of-memory", True),
        (pod(ended(), restartCount=2), "crash-loop", True),
    ],
)
def test_a_container_says_what_is_wrong(found: dict[str, Any], code: str, is_final: bool) -> None:
    diagnosis = diagnose(HEALTHY, [found])

    assert diagnosis is not None
    assert (diagnosis.code, diagnosis.is_final) == (code, is_final)


@pytest.mark.parametrize(
    "found",
    [
        pod({"running": {}}),
        pod(waiting("ContainerCreating")),
        pod(waiting("PodInitializing")),
        pod(ended()),  # the first restart may be chance, and comes at once
        pod({"running": {}}, lastState=ended("OOMKilled"), restartCount=5),
    ],
)
def test_what_is_under_way_is_not_wrong(found: dict[str, Any]) -> None:
    assert diagnose(HEALTHY, [found]) is None


def test_what_is_final_comes_first() -> None:
    found = diagnose(HEALTHY, [pod(waiting("ErrImagePull")), pod(waiting("CrashLoopBackOff"))])

    assert found is not None
    assert found.code == "crash-loop"


def ended_by_its_node(reason: str, message: str = "") -> dict[str, Any]:
    return {"metadata": {"uid": "0"}, "status": {"phase": "Failed", "reason": reason, "message": message}}


@pytest.mark.parametrize(
    ("reason", "message", "code"),
    [
        ("Evicted", "The node was low on resource: memory.", "evicted"),
        ("Evicted", "Pod ephemeral local storage usage exceeds the total limit of containers 5Gi.", "disk-full"),
        ("OutOfcpu", "Node didn't have enough resource: cpu", "node-refused"),
        ("UnexpectedAdmissionError", "Allocate failed", "node-refused"),
    ],
)
def test_a_pod_that_its_node_ended_says_why_until_another_takes_its_place(reason: str, message: str, code: str) -> None:
    gone = ended_by_its_node(reason, message)

    found = diagnose(HEALTHY, [gone])

    assert found is not None
    assert (found.code, found.is_final) == (code, False)
    assert message in found.message
    assert diagnose(HEALTHY, [gone, pod(waiting("ContainerCreating"))]) is None
    crashing = diagnose(HEALTHY, [gone, pod(waiting("CrashLoopBackOff"))])
    assert crashing is not None
    assert crashing.code == "crash-loop"


def test_a_pod_that_is_deleted_says_nothing() -> None:
    dying = pod(waiting("CrashLoopBackOff"))
    dying["metadata"]["deletionTimestamp"] = "2024-02-29T12:00:00Z"

    assert diagnose(HEALTHY, [dying]) is None


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (event("FailedMount", "exit status 32"), "volume-mount"),
        (event("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1"'), "volume-in-use"),
        (event("FailedAttachVolume", "timed out"), "volume-attach"),
        (event("FailedMount", "write: no space left on device"), "disk-full"),
    ],
)
def test_an_event_of_a_pod_that_does_not_run_is_read(said: dict[str, Any], code: str) -> None:
    found = diagnose(HEALTHY, [pod(waiting("ContainerCreating"))], [said])

    assert found is not None
    assert (found.code, found.is_final) == (code, False)


def test_an_event_of_another_pod_or_of_one_that_runs_is_not_read() -> None:
    said = event("FailedMount", "exit status 32")

    assert diagnose(HEALTHY, [pod({"running": {}})], [said]) is None
    assert diagnose(HEALTHY, [pod()], [{**said, "involvedObject": {"uid": "2"}}]) is None


@pytest.mark.parametrize(
    ("message", "code", "is_final"),
    [
        ('pods "x" is forbidden: exceeded quota: few, requested: pods=1', "quota", True),
        ('admission webhook "policy" denied the request: no', "denied", True),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "denied", True),
        ("unable to create new content in namespace x because it is being terminated", "namespace-terminating", True),
        ('error looking up service account x/default: serviceaccount "default" not found', "no-pod", False),
    ],
)
def test_a_deployment_without_a_pod_says_why(message: str, code: str, is_final: bool) -> None:
    found = diagnose(unready("FailedCreate", message), [])

    assert found is not None
    assert (found.code, found.is_final) == (code, is_final)
    assert code == "namespace-terminating" or message in found.message


def test_a_deployment_whose_pod_is_there_is_not_asked() -> None:
    assert diagnose(unready("FailedCreate", "exceeded quota: few"), [pod()]) is None


@pytest.mark.parametrize(
    ("reason", "code"), [("Forbidden", "forbidden"), ("NotFound", "namespace-missing"), ("Invalid", "invalid-object")]
)
def test_a_refusal_is_named_by_its_reason(reason: str, code: str) -> None:
    assert of_refusal(reason, "because", (), 400).code == code


def test_a_refusal_that_nobody_knows_is_quoted() -> None:
    assert "(418 Teapot{}): I am {0}" in of_refusal("Teapot{}", "I am {0}", (), 418).message


def test_a_full_volume_is_read_from_the_log() -> None:
    crash = Diagnosis("crash-loop", "It ends.", is_final=True, wants_log=True)

    assert with_log(crash, "OSError: [Errno 28] No space left on device").code == "disk-full"
    assert with_log(crash, "KeyError") == crash


@pytest.mark.parametrize(
    ("found", "step"),
    [
        (pod(node=""), Step.CREATED),
        (pod(), Step.SCHEDULED),
        (pod(waiting("ContainerCreating")), Step.PULLING),
        (pod(imageID="sha256:0"), Step.PULLED),
        (pod({"running": {}}), Step.STARTED),
        (pod(waiting("CrashLoopBackOff"), restartCount=3), Step.STARTED),
    ],
)
def test_how_far_a_pod_has_come(found: dict[str, Any], step: Step) -> None:
    assert step_of(found) is step


WORDS = st.sampled_from(
    ["metadata", "status", "spec", "conditions", "containerStatuses", "initContainerStatuses", "state", "lastState",
     "waiting", "terminated", "running", "reason", "message", "name", "notebook", "uid", "involvedObject", "type",
     "PodScheduled", "ReplicaFailure", "False", "True", "Warning", "FailedMount", "CrashLoopBackOff", "OOMKilled",
     "ErrImagePull", "restartCount", "nodeName", "Evicted", "FailedCreate", "{}", "{0}"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers() | WORDS | st.text(max_size=5)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5), max_leaves=30
)
OBJECTS = st.dictionaries(WORDS, JSON, max_size=5)


@given(OBJECTS, st.lists(OBJECTS, max_size=3), st.lists(OBJECTS, max_size=3))
def test_odd_objects_are_no_defect(
    deployment: dict[str, Any], pods: list[dict[str, Any]], events: list[dict[str, Any]]
) -> None:
    diagnose(deployment, pods, events)
    for each in pods:
        step_of(each)
        restarts_of(each)


STATUSES = st.fixed_dictionaries(
    {"name": st.just("notebook")}, optional={"state": JSON, "lastState": JSON, "restartCount": LEAVES, "image": LEAVES}
)
PODS = st.fixed_dictionaries(
    {"metadata": st.fixed_dictionaries({"uid": st.just("1")}), "status": st.fixed_dictionaries(
        {}, optional={"containerStatuses": st.lists(STATUSES | JSON, max_size=2), "conditions": JSON, "reason": WORDS}
    )}
)  # fmt: skip


@given(PODS, st.lists(OBJECTS, max_size=2))
def test_odd_parts_of_objects_are_no_defect(found: dict[str, Any], events: list[dict[str, Any]]) -> None:
    diagnose(HEALTHY, [found], events)
    step_of(found)
