"""Why a workspace does not become ready, read from what Kubernetes says of it.

Pure: objects in, a diagnosis out. The words for programs (`code`) are stable; those for people name the thing to mend.
What may heal by itself is not final: it is shown at once, and ends a start only after `failed_ttl` without progress.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Object: TypeAlias = Mapping[str, Any]

CONTAINER: Final = "notebook"
_CRASHES_UNTIL_FINAL: Final = 2  # the first restart may be chance
_CONFIG_ERRORS: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "InvalidImageName", "RunContainerError"}
)
_PULL_ERRORS: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "ImageInspectError", "RegistryUnavailable"}
)
_MOUNT_EVENTS: Final = {
    "FailedMount": "volume-mount",
    "FailedAttachVolume": "volume-attach",
    "FailedMapVolume": "volume-mount",
}


# What stands in a refusal's message, where `Status.reason` is the same for many causes.
_REFUSED_FOR: Final = (
    ("exceeded quota", "quota", "The namespace's quota does not allow it: {}"),
    ("admission webhook", "denied", "The cluster's policy denies it: {}"),
    ("ValidatingAdmissionPolicy", "denied", "The cluster's policy denies it: {}"),
    ("violates PodSecurity", "denied", "The namespace's Pod Security Standard denies it: {}"),
)
_REFUSED_AS: Final = {
    "Forbidden": ("forbidden", "The proxy's service account may not do this: {}"),
    "NotFound": ("namespace-missing", "{}; create it, or set create_namespace."),
    "Invalid": ("invalid-object", "The API server refuses the object that the settings make: {}"),
}


class Step(enum.IntEnum):
    """How far a start has come; only ever grows within one pod's life."""

    CREATED = 0
    SCHEDULED = 1
    PULLING = 2
    PULLED = 3
    STARTED = 4


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that is wrong.

    Args:
        code: for programs.
        message: for people: what it is and what to do.
        is_final: waiting will not help.
        wants_log: the container ran, so its last lines say more.
    """

    code: str
    message: str
    is_final: bool
    wants_log: bool = False


def diagnose(deployment: Object, pods: Iterable[Object], events: Iterable[Object] = ()) -> Diagnosis | None:
    """Return the worst of what is wrong with a workspace that is to become ready, or None.

    Args:
        deployment: its Deployment.
        pods: the pods of its current ReplicaSet; those that are being deleted are passed over.
        events: recent events of those pods.
    """
    alive = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    found = [diagnosis for pod in alive for diagnosis in _of_pod(pod)]
    if not found and not alive:
        found += _of_deployment(deployment)
    if not any(diagnosis.is_final for diagnosis in found):
        uids = {pod["metadata"]["uid"] for pod in alive if step_of(pod) < Step.STARTED}
        found += _of_events(event for event in events if event.get("involvedObject", {}).get("uid") in uids)
    return max(found, key=lambda diagnosis: diagnosis.is_final, default=None)


def step_of(pod: Object) -> Step:
    """Return how far a pod has come."""
    status = pod.get("status", {})
    container = _container_status(status)
    state = container.get("state", {})
    if state.get("running") or container.get("started"):
        return Step.STARTED
    if container.get("imageID"):
        return Step.PULLED
    if pod.get("spec", {}).get("nodeName"):
        waiting = state.get("waiting", {}).get("reason")
        return Step.PULLING if waiting in ("ContainerCreating", *_PULL_ERRORS) else Step.SCHEDULED
    return Step.CREATED


def of_refusal(reason: str, message: str, causes: Iterable[str], status: int) -> Diagnosis:
    """Read the API server's refusal of an object that the backend wants to create.

    Args:
        reason: `Status.reason`, such as `Forbidden`.
        message: `Status.message`.
        causes: the reasons of `Status.details.causes`.
        status: the HTTP status.
    """
    if "NamespaceTerminating" in causes:
        return Diagnosis(
            "namespace-terminating", "Its namespace is being deleted; wait until it is gone.", is_final=True
        )
    by_message = next((found for part, *found in _REFUSED_FOR if part in message), None)
    code, text = by_message or _REFUSED_AS.get(
        reason, ("api-refused", f"The API server refuses ({status} {reason}): {{}}")
    )
    return Diagnosis(code, text.format(message), is_final=True)


def _container_status(status: Object) -> Object:
    named = [found for found in status.get("containerStatuses") or () if found.get("name") == CONTAINER]
    return named[0] if named else {}


def _of_pod(pod: Object) -> Iterable[Diagnosis]:
    status = pod.get("status", {})
    if status.get("reason") == "Evicted":
        message = status.get("message", "no reason given")
        code = "disk-full" if "ephemeral" in message or "disk" in message.lower() else "evicted"
        yield Diagnosis(code, f"Its pod was evicted: {message}", is_final=False)
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _unscheduled(condition)
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        yield from _of_container(container)


def _unscheduled(condition: Object) -> Diagnosis:
    message = condition.get("message", "")
    if "persistentvolumeclaim" in message and "not found" in message:
        return Diagnosis(
            "pvc-missing", f"Its volume is missing: {message}; create it, or set workspace_pvc_size.", is_final=True
        )
    return Diagnosis("unschedulable", f"No node can take it now: {message}", is_final=False)


def _of_container(container: Object) -> Iterable[Diagnosis]:
    state = container.get("state", {})
    waiting = state.get("waiting", {})
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    ended = state.get("terminated") or container.get("lastState", {}).get("terminated") or {}
    crashes = container.get("restartCount", 0)
    if reason in _PULL_ERRORS:
        yield Diagnosis(
            "image-pull", f"The image {container.get('image')} cannot be pulled: {message or reason}", is_final=False
        )
    elif reason in _CONFIG_ERRORS:
        code = "image-name" if reason == "InvalidImageName" else "container-config"
        yield Diagnosis(code, f"The container cannot be made: {message or reason}", is_final=True)
    elif ended.get("reason") == "OOMKilled" and not state.get("running"):
        yield Diagnosis(
            "out-of-memory",
            "It used more memory than memory_limit allows and was killed.",
            is_final=crashes >= _CRASHES_UNTIL_FINAL or reason == "CrashLoopBackOff",
            wants_log=True,
        )
    elif reason == "CrashLoopBackOff" or (state.get("terminated") and not state.get("running")):
        status = ended.get("exitCode", "unknown")
        yield Diagnosis(
            "crash-loop",
            f"It ends by itself again and again, with status {status}.",
            is_final=reason == "CrashLoopBackOff" or crashes >= _CRASHES_UNTIL_FINAL,
            wants_log=True,
        )


def _of_deployment(deployment: Object) -> Iterable[Diagnosis]:
    """What keeps a Deployment from having a pod at all."""
    for condition in deployment.get("status", {}).get("conditions") or ():
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            message = condition.get("message", "")
            causes = ["NamespaceTerminating"] if "being terminated" in message else []
            yield of_refusal(condition.get("reason", ""), message, causes, 403)


def _of_events(events: Iterable[Object]) -> Iterable[Diagnosis]:
    for event in events:
        reason, message = event.get("reason", ""), event.get("message", "")
        if event.get("type") != "Warning" or reason not in _MOUNT_EVENTS:
            continue
        if "Multi-Attach" in message:
            yield Diagnosis("volume-in-use", f"Its volume is still attached elsewhere: {message}", is_final=False)
        elif "no space left" in message:
            yield Diagnosis("disk-full", f"Its volume is full: {message}", is_final=False)
        else:
            yield Diagnosis(_MOUNT_EVENTS[reason], f"Its volume cannot be mounted: {message}", is_final=False)
