"""What is told of a start, from what Kubernetes shows of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from proxy.backends.kubernetes.progress import progress_of
from proxy.report import Progress, Step

AT = "2026-01-01T00:00:05Z"
MOMENT = datetime(2026, 1, 1, 0, 0, 5, tzinfo=UTC)
IMAGE = "quay.io/jupyter/minimal-notebook:latest"


def pod(state: dict[str, Any] | None = None, *, node: str | None = "node-1", **status: Any) -> dict[str, Any]:
    conditions = [{"type": "PodScheduled", "status": "True" if node else "False", "lastTransitionTime": AT}]
    container = {"name": "notebook", "state": state or {}} | status
    return {
        "metadata": {"uid": "u", "name": "p"},
        "spec": {"containers": [{"name": "sidecar", "image": "other"}, {"name": "notebook", "image": IMAGE}]}
        | ({"nodeName": node} if node else {}),
        "status": {"conditions": conditions, "containerStatuses": [container] if state is not None else []},
    }


def event(reason: str, at: str | None, *, container: str = "notebook", **form: Any) -> dict[str, Any]:
    about = {"uid": "u", "fieldPath": f"spec.containers{{{container}}}"}
    return {"reason": reason, "involvedObject": about, "lastTimestamp": at} | form


CREATING = {"waiting": {"reason": "ContainerCreating"}}
PULLING = Progress(Step.PULLING, f"The node pulls the image {IMAGE}.", MOMENT)


@pytest.mark.parametrize(
    ("pods", "events", "expected"),
    [
        ([], [], Progress(Step.PREPARING, "What it needs is being made.")),
        ([pod(node=None)], [], Progress(Step.PREPARING, "A node with room for it is being looked for.")),
        (
            [pod()],
            [],
            Progress(Step.SCHEDULED, "It has a place on node node-1, which prepares its volume and image.", MOMENT),
        ),
        ([pod(CREATING)], [event("Pulling", AT)], PULLING),
        ([pod(CREATING)], [event("Pulling", None, eventTime=AT)], PULLING),
        ([pod(CREATING)], [event("Failed", "2026-01-01T00:00:01Z"), event("Pulling", AT)], PULLING),
        ([pod(imageID="sha256:1", state=CREATING)], [], Progress(Step.CREATING, "Its container is being made.")),
        (
            [pod({"running": {"startedAt": AT}})],
            [event("Pulling", AT)],
            Progress(Step.STARTING, "The notebook server starts.", MOMENT),
        ),
    ],
    ids=range(8),
)
def test_step_is_told_with_its_beginning(
    pods: list[dict[str, Any]], events: list[dict[str, Any]], expected: Progress
) -> None:
    assert progress_of(pods, events, has_answered=False) == expected


@pytest.mark.parametrize(
    "events",
    [
        [event("Pulling", AT), event("Pulled", "2026-01-01T00:00:09Z")],
        [event("Pulling", AT, container="sidecar")],
        [event("Pulling", None)],
        [event("Scheduled", AT)],
        [{"reason": "Pulling"}],
    ],
    ids=range(5),
)
def test_what_the_events_do_not_say_is_not_guessed(events: list[dict[str, Any]]) -> None:
    assert progress_of([pod(CREATING)], events, has_answered=False).step is Step.SCHEDULED


def test_what_answers_has_come_furthest() -> None:
    found = progress_of([pod(CREATING), pod({"running": {"startedAt": AT}})], [], has_answered=True)

    assert found.step is Step.ANSWERING


def test_pod_that_has_come_furthest_is_told() -> None:
    found = progress_of([pod(node=None), pod({"running": {"startedAt": AT}})], [], has_answered=False)

    assert found.step is Step.STARTING
