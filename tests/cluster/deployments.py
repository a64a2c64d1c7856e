"""The Deployment controller, after `k8s.io/kubernetes/pkg/controller/deployment`: ReplicaSets, roll-outs, status.

The order of its steps is that of the original, because watchers see every status in between.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any

from tests.cluster.conditions import find_condition, remove_condition, set_condition
from tests.cluster.registry import SUFFIX_LETTERS, Registry
from tests.cluster.replicasets import controller_key, owner_reference
from tests.cluster.resources import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    Obj,
    is_owned_by,
    is_terminating,
    name_of,
    namespace_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.cluster.recorder import Recorder
    from tests.cluster.store import Change, Key

COMPONENT = "deployment-controller"
HASH_LABEL = "pod-template-hash"
DESIRED = "deployment.kubernetes.io/desired-replicas"
REVISION = "deployment.kubernetes.io/revision"


def template_hash(template: Obj) -> str:
    """Return the suffix of the ReplicaSet's name: equal for equal templates."""
    digits = str(zlib.crc32(json.dumps(template, sort_keys=True).encode()))
    return "".join(SUFFIX_LETTERS[ord(digit) % len(SUFFIX_LETTERS)] for digit in digits)


class DeploymentController:
    """Creates and scales the ReplicaSets of Deployments."""

    is_last = False

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder

    def concerns(self, change: Change) -> Iterable[Key]:
        """Its own, the owner of a ReplicaSet, and, when a pod is gone, the owner of its ReplicaSet."""
        if change.resource == DEPLOYMENTS:
            return [change.key]
        if change.resource == REPLICA_SETS and (owner := controller_key(change.obj, "Deployment")):
            return [owner]
        if change.resource == PODS and change.type == "DELETED" and (key := controller_key(change.obj, "ReplicaSet")):
            replica_set = self._registry.store.get(REPLICA_SETS, *key)
            owner = controller_key(replica_set, "Deployment") if replica_set else None
            return [owner] if owner else []
        return []

    def sync(self, key: Key) -> None:
        """Take one step of the roll-out and write the status."""
        deployment = self._registry.store.get(DEPLOYMENTS, *key)
        if deployment is None:
            return
        replica_sets = self._replica_sets(deployment)
        if is_terminating(deployment):
            self._write_status(deployment, self._count(deployment, replica_sets))
        elif self._is_scaling(deployment, replica_sets):
            for replica_set in replica_sets:
                if replica_set["spec"]["replicas"]:
                    self._scale(deployment, replica_set, deployment["spec"]["replicas"])
            self._write_status(deployment, self._count(deployment, replica_sets))
        else:
            self._roll_out(deployment, replica_sets)

    def _replica_sets(self, deployment: Obj) -> list[Obj]:
        owned = self._registry.store.dependents(deployment["metadata"]["uid"])
        return [obj for kind, obj in owned if kind == REPLICA_SETS and is_owned_by(obj, deployment)]

    def _is_scaling(self, deployment: Obj, replica_sets: list[Obj]) -> bool:
        wanted = str(deployment["spec"]["replicas"])
        active = [obj for obj in replica_sets if obj["spec"]["replicas"] > 0]
        return any(obj["metadata"].get("annotations", {}).get(DESIRED, wanted) != wanted for obj in active)

    def _roll_out(self, deployment: Obj, replica_sets: list[Obj]) -> None:
        suffix = template_hash(deployment["spec"]["template"])
        new = next((obj for obj in replica_sets if obj["metadata"]["labels"].get(HASH_LABEL) == suffix), None)
        old = [obj for obj in replica_sets if obj is not new]
        if deployment["spec"]["strategy"]["type"] == "Recreate":
            # Nothing new before the old pods are gone, terminating ones included.
            scaled = [self._scale(deployment, obj, 0) for obj in old if obj["spec"]["replicas"]]
            if scaled or any(self._has_pods(obj) for obj in old):
                self._finish(deployment, replica_sets, new)
                return
        if new is None:
            deployment, new = self._create(deployment, suffix)
            replica_sets = [*replica_sets, new]
        elif new["spec"]["replicas"] != deployment["spec"]["replicas"]:
            self._scale(deployment, new, deployment["spec"]["replicas"])
        elif new["status"].get("availableReplicas", 0) >= new["spec"]["replicas"]:
            for obj in old:  # a rolling update in its simplest form: the old go when the new are there
                self._scale(deployment, obj, 0)
        self._finish(deployment, replica_sets, new)

    def _has_pods(self, replica_set: Obj) -> bool:
        pods = [obj for kind, obj in self._registry.store.dependents(replica_set["metadata"]["uid"]) if kind == PODS]
        return any(pod["status"].get("phase") not in {"Succeeded", "Failed"} for pod in pods)

    def _create(self, deployment: Obj, suffix: str) -> tuple[Obj, Obj]:
        spec, template = deployment["spec"], deployment["spec"]["template"]
        labels = {**template["metadata"].get("labels", {}), HASH_LABEL: suffix}
        name = f"{name_of(deployment)}-{suffix}"
        revision = str(int(deployment["metadata"].get("annotations", {}).get(REVISION, "0")) + 1)
        replica_set = {
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": {DESIRED: str(spec["replicas"]), REVISION: revision},
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {
                "replicas": spec["replicas"],
                "selector": {"matchLabels": {**(spec["selector"].get("matchLabels") or {}), HASH_LABEL: suffix}},
                "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
            },
        }
        made = self._registry.create(REPLICA_SETS, namespace_of(deployment), replica_set)
        if spec["replicas"]:
            self._report_scaling(deployment, name, 0, spec["replicas"])
        message = f'Created new replica set "{name}"'
        progressing = self._condition("Progressing", "True", "NewReplicaSetCreated", message)
        conditions = set_condition(deployment["status"].get("conditions", []), progressing)
        metadata = dict(deployment["metadata"])
        metadata["annotations"] = {**metadata.get("annotations", {}), REVISION: revision}
        marked = {**deployment, "metadata": metadata, "status": {**deployment["status"], "conditions": conditions}}
        key = namespace_of(deployment), name_of(deployment)
        return self._registry.update(DEPLOYMENTS, *key, marked, subresource="status"), made

    def _scale(self, deployment: Obj, replica_set: Obj, replicas: int) -> bool:
        before: int = replica_set["spec"]["replicas"]
        wanted = str(deployment["spec"]["replicas"])
        patch: dict[str, Any] = {"spec": {"replicas": replicas}, "metadata": {"annotations": {DESIRED: wanted}}}
        self._registry.patch(REPLICA_SETS, namespace_of(replica_set), name_of(replica_set), patch)
        if before != replicas:
            self._report_scaling(deployment, name_of(replica_set), before, replicas)
        return before != replicas

    def _report_scaling(self, deployment: Obj, replica_set: str, before: int, after: int) -> None:
        direction = "up" if after > before else "down"
        message = f"Scaled {direction} replica set {replica_set} from {before} to {after}"
        self._recorder.normal(COMPONENT, deployment, "ScalingReplicaSet", message)

    def _finish(self, deployment: Obj, replica_sets: list[Obj], new: Obj | None) -> None:
        """Write the status of a roll-out: the counts, the progress and what keeps pods from being made."""
        before = deployment["status"]
        status = self._count(deployment, replica_sets, new)
        known = find_condition(status["conditions"], "Progressing")
        updated, total = status.get("updatedReplicas", 0), status.get("replicas", 0)
        if not (known and known["reason"] == "NewReplicaSetAvailable" and total == updated):
            if {updated, total, status.get("availableReplicas", 0)} == {deployment["spec"]["replicas"]}:
                message = f'ReplicaSet "{name_of(new)}" has successfully progressed.' if new else ""
                condition = self._condition("Progressing", "True", "NewReplicaSetAvailable", message)
                status["conditions"] = set_condition(status["conditions"], condition)
            elif _has_progressed(before, status):
                message = f'ReplicaSet "{name_of(new)}" is progressing.' if new else ""
                condition = self._condition("Progressing", "True", "ReplicaSetUpdated", message)
                if known and known["status"] == "True":
                    condition["lastTransitionTime"] = known["lastTransitionTime"]
                status["conditions"] = [*remove_condition(status["conditions"], "Progressing"), condition]
        failures = [
            c for obj in replica_sets for c in obj["status"].get("conditions", []) if c["type"] == "ReplicaFailure"
        ]
        if failures:
            failure = {**failures[0], "lastUpdateTime": failures[0]["lastTransitionTime"]}
            status["conditions"] = set_condition(status["conditions"], failure)
        else:
            status["conditions"] = remove_condition(status["conditions"], "ReplicaFailure")
        self._write_status(deployment, status)

    def _count(self, deployment: Obj, replica_sets: list[Obj], new: Obj | None = None) -> Obj:
        if new is None:
            suffix = template_hash(deployment["spec"]["template"])
            new = next((obj for obj in replica_sets if obj["metadata"]["labels"].get(HASH_LABEL) == suffix), None)
        total = {
            field: sum(obj["status"].get(field, 0) for obj in replica_sets)
            for field in ("replicas", "readyReplicas", "availableReplicas", "terminatingReplicas")
        }
        asked = sum(obj["spec"]["replicas"] for obj in replica_sets)
        counts = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": total["replicas"],
            "updatedReplicas": new["status"].get("replicas", 0) if new else 0,
            "readyReplicas": total["readyReplicas"],
            "availableReplicas": total["availableReplicas"],
            "unavailableReplicas": max(0, asked - total["availableReplicas"]),
        }
        status: Obj = {field: value for field, value in counts.items() if value}
        status["terminatingReplicas"] = total["terminatingReplicas"]
        if total["availableReplicas"] >= deployment["spec"]["replicas"]:
            message = "Deployment has minimum availability."
            available = self._condition("Available", "True", "MinimumReplicasAvailable", message)
        else:
            message = "Deployment does not have minimum availability."
            available = self._condition("Available", "False", "MinimumReplicasUnavailable", message)
        status["conditions"] = set_condition(deployment["status"].get("conditions", []), available)
        return status

    def _condition(self, kind: str, status: str, reason: str, message: str) -> Obj:
        now = self._registry.now()
        condition = {"type": kind, "status": status, "lastUpdateTime": now, "lastTransitionTime": now}
        return {**condition, "reason": reason, "message": message}

    def _write_status(self, deployment: Obj, status: Obj) -> None:
        self._registry.set_status(DEPLOYMENTS, deployment, status)


def _has_progressed(before: Obj, after: Obj) -> bool:
    def old_replicas(status: Obj) -> int:
        return int(status.get("replicas", 0)) - int(status.get("updatedReplicas", 0))

    grown = any(
        after.get(field, 0) > before.get(field, 0)
        for field in ("updatedReplicas", "readyReplicas", "availableReplicas")
    )
    return grown or old_replicas(after) < old_replicas(before)
