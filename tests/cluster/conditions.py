"""Status conditions as controllers keep them, after `k8s.io/kubernetes/pkg/controller/deployment/util`. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cluster.resources import Obj


def find_condition(conditions: list[Obj], kind: str) -> Obj | None:
    """Return the condition of a type, or None."""
    return next((condition for condition in conditions if condition["type"] == kind), None)


def set_condition(conditions: list[Obj], condition: Obj) -> list[Obj]:
    """Return the conditions with this one; one that says the same already stays, and its times with it."""
    known = find_condition(conditions, condition["type"])
    if known and (known["status"], known["reason"]) == (condition["status"], condition["reason"]):
        return conditions
    if known and known["status"] == condition["status"]:
        condition = {**condition, "lastTransitionTime": known["lastTransitionTime"]}
    return [*remove_condition(conditions, condition["type"]), condition]


def remove_condition(conditions: list[Obj], kind: str) -> list[Obj]:
    """Return the conditions without those of a type."""
    return [condition for condition in conditions if condition["type"] != kind]


def is_pod_ready(pod: Obj) -> bool:
    """Tell whether a pod's condition Ready is true."""
    ready = find_condition(pod["status"].get("conditions") or [], "Ready")
    return ready is not None and ready["status"] == "True"
