"""How far a start has come, read from its pod and the pod's events, in words for people.

Pure: objects in, one `Progress` out. What the API server does not say is not guessed: without events an image that is
being pulled looks like a node that prepares.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.kubernetes import failures
from proxy.backends.kubernetes.pods import CONTAINER
from proxy.report import Progress, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Object = Mapping[str, Any]

_NO_POD: Final = Progress(Step.PREPARING, "What it needs is being made.")
_PULL_EVENTS: Final = ("Pulling", "Pulled", "Failed")


def progress_of(pods: Iterable[Object], events: Iterable[Object], *, has_answered: bool) -> Progress:
    """Return how far the furthest of a workspace's pods has come.

    Args:
        pods: of its current template.
        events: of those pods, as far as they were asked for.
        has_answered: the server has answered HTTP.
    """
    pod = max(pods, key=failures.step_of, default=None)
    if pod is None:
        return _NO_POD
    if has_answered:
        return Progress(Step.ANSWERING, "It answers; Kubernetes has yet to say that it is ready.")
    step = failures.step_of(pod)
    if step is failures.Step.STARTED:
        return Progress(Step.STARTING, "The notebook server starts.", _running_since(pod))
    if step is failures.Step.PULLED:
        return Progress(Step.CREATING, "Its container is being made.")
    return _on_node(pod, events)


def _on_node(pod: Object, events: Iterable[Object]) -> Progress:
    """Return what a pod waits for that has no container yet."""
    spec = _map(pod, "spec")
    node = spec.get("nodeName")
    if not node:
        return Progress(Step.PREPARING, "A node with room for it is being looked for.")
    pull = _last_pull(events)
    if pull is not None and pull.get("reason") == "Pulling":
        return Progress(Step.PULLING, f"The node pulls the image {_image(spec)}.", _moment_of(pull))
    return Progress(Step.SCHEDULED, f"It has a place on node {node}, which prepares its volume and image.", _bound(pod))


def _last_pull(events: Iterable[Object]) -> Object | None:
    """Return the newest event about the image of the notebook's container."""
    about = [
        event
        for event in events
        if event.get("reason") in _PULL_EVENTS
        and _map(event, "involvedObject").get("fieldPath") in (None, f"spec.containers{{{CONTAINER}}}")
        and _moment_of(event) is not None
    ]
    return max(about, key=lambda event: str(_moment_of(event)), default=None)


def _moment_of(event: Object) -> datetime | None:
    """Return when an event happened last; of one form or another, each of which may be missing."""
    return _time(event.get("lastTimestamp")) or _time(event.get("eventTime")) or _time(event.get("firstTimestamp"))


def _bound(pod: Object) -> datetime | None:
    for condition in _map(pod, "status").get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "True":
            return _time(condition.get("lastTransitionTime"))
    return None


def _running_since(pod: Object) -> datetime | None:
    for container in _map(pod, "status").get("containerStatuses") or ():
        if container.get("name") == CONTAINER:
            return _time(_map(_map(container, "state"), "running").get("startedAt"))
    return None


def _image(spec: Object) -> str:
    named = (str(each.get("image")) for each in spec.get("containers") or () if each.get("name") == CONTAINER)
    return next(named, "")


def _map(obj: Object, name: str) -> Object:
    return obj.get(name) or {}


def _time(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
