"""Why a workspace does not become ready, read from what Kubernetes says of it.

Pure: objects in, a diagnosis out. The words for programs (`code`) are stable; those for people name the thing to mend.
What may heal by itself is not final: it is shown at once, and ends a start only after `failed_ttl` without progress.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

Object: TypeAlias = Mapping[str, Any]

CONTAINER: Final = "notebook"
_CRASHES_UNTIL_FINAL: Final = 2  # the first restart may be chance, and comes at once
_CONFIG_ERRORS: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "InvalidImageName", "RunContainerError"}
)
# What the kubelet cannot configure is mostly something that is missing, and may be made yet, or was only just made by
# this very start; no waiting makes a non-root container of an image that runs as root.
_NEVER_CONFIGURED: Final = ("runAsNonRoot", "non-root policy")
# A node that is too busy, or has not yet cleared up what it made before.
_NOT_CREATED_YET: Final = ("deadline exceeded", "timed out", "is reserved for")
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
_ENDED: Final = frozenset({"Failed", "Succeeded"})  # phases that a pod never leaves
# What a full disk makes programs write: ENOSPC and EDQUOT as Python shows them, and SQLite's words.
_FULL: Final = ("[Errno 28]", "No space left on device", "[Errno 122]", "Disk quota exceeded", "disk is full")


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


SILENCE: Final = Diagnosis(
    "api-unavailable", "Kubernetes does not answer just now; what runs already goes on running.", is_final=False
)
STILL_ENDING: Final = Diagnosis(
    "still-terminating",
    "What ran before has not ended yet (a node that does not answer?); Kubernetes goes on ending it.",
    is_final=False,
)


def diagnose(deployment: Object, pods: Iterable[Object], events: Iterable[Object] = ()) -> Diagnosis | None:
    """Return the worst of what is wrong with a workspace that is to become ready, or None.

    Args:
        deployment: its Deployment.
        pods: the pods of its current template; those that are being deleted are passed over.
        events: recent events of those pods.
    """
    alive = current(pods)
    found = [diagnosis for pod in alive for diagnosis in _of_pod(pod)]
    if not found and not alive:
        found += _of_deployment(deployment)
    if not any(diagnosis.is_final for diagnosis in found):
        uids = {_text(_map(pod, "metadata"), "uid") for pod in alive if step_of(pod) < Step.STARTED}
        found += _of_events(event for event in events if _text(_map(event, "involvedObject"), "uid") in uids)
    return max(found, key=lambda diagnosis: diagnosis.is_final, default=None)


def current(pods: Iterable[Object]) -> list[Object]:
    """Return the pods that count: not those that are being deleted, nor those that ended, if there is another.

    A pod that a node has evicted or refused stays, ended, beside the one that takes its place.
    """
    alive = [pod for pod in pods if not _map(pod, "metadata").get("deletionTimestamp")]
    return [pod for pod in alive if _text(_map(pod, "status"), "phase") not in _ENDED] or alive


def step_of(pod: Object) -> Step:
    """Return how far a pod has come."""
    container = _container_status(pod)
    state = _map(container, "state")
    if _is_running(state) or container.get("started") or _count(container, "restartCount"):
        return Step.STARTED
    if container.get("imageID"):
        return Step.PULLED
    if _map(pod, "spec").get("nodeName"):
        waiting = _text(_map(state, "waiting"), "reason")
        return Step.PULLING if waiting in ("ContainerCreating", *_PULL_ERRORS) else Step.SCHEDULED
    return Step.CREATED


def restarts_of(pod: Object) -> int:
    """Return how often the notebook's container was started again."""
    return _count(_container_status(pod), "restartCount")


def with_log(diagnosis: Diagnosis, log: str) -> Diagnosis:
    """Return what the last lines of a container that ended make of a diagnosis."""
    if diagnosis.wants_log and any(sign in log for sign in _FULL):
        return replace(diagnosis, code="disk-full", message="Its volume is full: delete files, or enlarge it.")
    return diagnosis


def of_refusal(reason: str, message: str, causes: Iterable[str], status: int) -> Diagnosis:
    """Read the API server's refusal of an object that the backend wants to create.

    Args:
        reason: `Status.reason`, such as `Forbidden`.
        message: `Status.message`.
        causes: the reasons of `Status.details.causes`.
        status: the HTTP status.
    """
    if "NamespaceTerminating" in causes or "because it is being terminated" in message:
        return Diagnosis(
            "namespace-terminating", "Its namespace is being deleted; wait until it is gone.", is_final=True
        )
    by_message = next((found for part, *found in _REFUSED_FOR if part in message), None)
    code, text = by_message or _REFUSED_AS.get(
        reason, ("api-refused", f"The API server refuses ({status} {_literal(reason)}): {{}}")
    )
    return Diagnosis(code, text.format(message), is_final=True)


def _of_pod(pod: Object) -> Iterable[Diagnosis]:
    status = _map(pod, "status")
    reason, message = _text(status, "reason"), _text(status, "message") or "no reason given"
    if reason == "Evicted":
        code = "disk-full" if "ephemeral" in message or "disk" in message.lower() else "evicted"
        yield Diagnosis(code, f"Its pod was evicted: {message}", is_final=False)
    elif reason and _text(status, "phase") in _ENDED:
        yield Diagnosis("node-refused", f"Its node ended its pod ({reason}): {message}", is_final=False)
    for condition in _maps(status, "conditions"):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            yield _unscheduled(condition)
    for container in (*_maps(status, "initContainerStatuses"), *_maps(status, "containerStatuses")):
        yield from _of_container(container)


def _unscheduled(condition: Object) -> Diagnosis:
    message = _text(condition, "message")
    if "persistentvolumeclaim" in message and "not found" in message:
        # Not final by itself: the scheduler may not have seen it yet.
        return Diagnosis(
            "pvc-missing", f"Its volume is missing: {message}; create it, or set workspace_pvc_size.", is_final=False
        )
    return Diagnosis("unschedulable", f"No node can take it now: {message}", is_final=False)


def _of_container(container: Object) -> Iterable[Diagnosis]:
    state = _map(container, "state")
    waiting = _map(state, "waiting")
    reason, message = _text(waiting, "reason"), _text(waiting, "message")
    if reason in _PULL_ERRORS:
        image = _text(container, "image")
        yield Diagnosis("image-pull", f"The image {image} cannot be pulled: {message or reason}", is_final=False)
    elif reason in _CONFIG_ERRORS:
        code = "image-name" if reason == "InvalidImageName" else "container-config"
        if reason == "CreateContainerConfigError":
            is_final = any(words in message for words in _NEVER_CONFIGURED)
        else:
            is_final = not any(words in message for words in _NOT_CREATED_YET)
        yield Diagnosis(code, f"The container cannot be made: {message or reason}", is_final=is_final)
    elif not _is_running(state):
        yield from _of_crash(container, state, reason)


def _of_crash(container: Object, state: Object, reason: str) -> Iterable[Diagnosis]:
    """What ended again and again; a first end is no news, for it is started again at once."""
    ended = _map(state, "terminated") or _map(_map(container, "lastState"), "terminated")
    if not (reason == "CrashLoopBackOff" or (ended and _count(container, "restartCount") >= _CRASHES_UNTIL_FINAL)):
        return
    if ended.get("reason") == "OOMKilled":
        message = "It used more memory than memory_limit allows and was killed."
        yield Diagnosis("out-of-memory", message, is_final=True, wants_log=True)
    else:
        status = ended.get("exitCode", "unknown")
        message = f"It ends by itself again and again, with status {status}."
        yield Diagnosis("crash-loop", message, is_final=True, wants_log=True)


def _of_deployment(deployment: Object) -> Iterable[Diagnosis]:
    """What keeps a Deployment from having a pod at all."""
    for condition in _maps(_map(deployment, "status"), "conditions"):
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            found = of_refusal(_text(condition, "reason"), _text(condition, "message"), (), 403)
            # What is not known may heal (a new namespace lacks its service account for a moment).
            yield found if found.code != "api-refused" else replace(found, code="no-pod", is_final=False)


def _of_events(events: Iterable[Object]) -> Iterable[Diagnosis]:
    for event in events:
        reason, message = _text(event, "reason"), _text(event, "message")
        if event.get("type") != "Warning" or reason not in _MOUNT_EVENTS:
            continue
        if "Multi-Attach" in message:
            yield Diagnosis("volume-in-use", f"Its volume is still attached elsewhere: {message}", is_final=False)
        elif "no space left" in message:
            yield Diagnosis("disk-full", f"Its volume is full: {message}", is_final=False)
        else:
            yield Diagnosis(_MOUNT_EVENTS[reason], f"Its volume cannot be mounted: {message}", is_final=False)


# Absent, null and of another type are the same: nothing to say.


def _container_status(pod: Object) -> Object:
    return next((c for c in _maps(_map(pod, "status"), "containerStatuses") if c.get("name") == CONTAINER), {})


def _is_running(state: Object) -> bool:
    return isinstance(state.get("running"), Mapping)


def _map(obj: Object, name: str) -> Object:
    found = obj.get(name)
    return found if isinstance(found, Mapping) else {}


def _maps(obj: Object, name: str) -> list[Object]:
    found = obj.get(name)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _text(obj: Object, name: str) -> str:
    found = obj.get(name)
    return found if isinstance(found, str) else ""


def _count(obj: Object, name: str) -> int:
    found = obj.get(name)
    return found if isinstance(found, int) else 0


def _literal(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")
