"""The ReplicaSet controller: keeps as many pods as a ReplicaSet asks for, and says in its status how many there are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster import resources
from tests.cluster.answers import ApiError
from tests.cluster.conditions import is_pod_ready
from tests.cluster.registry import Registry, random_suffix
from tests.cluster.resources import PODS, REPLICA_SETS, Obj, is_owned_by, is_terminating, name_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.cluster.recorder import Recorder
    from tests.cluster.store import Change, Key

COMPONENT = "replicaset-controller"


def owner_reference(owner: Obj) -> Obj:
    """Return the reference that a controller puts on what it makes."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def controller_key(obj: Obj, kind: str) -> Key | None:
    """Return the key of the object's controller, if that is of this kind."""
    for ref in obj["metadata"].get("ownerReferences") or []:
        if ref.get("controller") and ref["kind"] == kind:
            return namespace_of(obj), ref["name"]
    return None


class ReplicaSetController:
    """Creates and deletes the pods of ReplicaSets."""

    is_last = False

    def __init__(self, registry: Registry, recorder: Recorder) -> None:
        self._registry = registry
        self._recorder = recorder

    def concerns(self, change: Change) -> Iterable[Key]:
        """Its own, the owner of a pod, and, after a quota changed, all in that namespace."""
        if change.resource == REPLICA_SETS:
            return [change.key]
        if change.resource == PODS and (owner := controller_key(change.obj, "ReplicaSet")):
            return [owner]
        if change.resource == resources.QUOTAS:
            found = self._registry.store.items(REPLICA_SETS, namespace_of(change.obj))
            return [(namespace_of(obj), name_of(obj)) for obj in found]
        return []

    def sync(self, key: Key) -> None:
        """Make the number of pods right, then write the status, then report what failed."""
        replica_set = self._registry.store.get(REPLICA_SETS, *key)
        if replica_set is None:
            return
        owned = [obj for kind, obj in self._registry.store.dependents(replica_set["metadata"]["uid"]) if kind == PODS]
        pods = [pod for pod in owned if is_owned_by(pod, replica_set)]
        active = [p for p in pods if not is_terminating(p) and p["status"].get("phase") not in {"Succeeded", "Failed"}]
        failure = None
        if not is_terminating(replica_set):
            failure = self._manage(replica_set, active)
        status = self._status(replica_set, pods, active, failure)
        self._registry.set_status(REPLICA_SETS, replica_set, status)
        if failure:
            raise failure

    def _manage(self, replica_set: Obj, active: list[Obj]) -> ApiError | None:
        missing = replica_set["spec"]["replicas"] - len(active)
        for _ in range(missing):
            try:
                self._create_pod(replica_set)
            except ApiError as error:
                self._recorder.warning(COMPONENT, replica_set, "FailedCreate", f"Error creating: {error}")
                return error
        # Those that do not run yet are given up first.
        for pod in sorted(active, key=is_pod_ready)[: max(0, -missing)]:
            self._registry.delete(PODS, namespace_of(pod), name_of(pod))
            self._recorder.normal(COMPONENT, replica_set, "SuccessfulDelete", f"Deleted pod: {name_of(pod)}")
        return None

    def _create_pod(self, replica_set: Obj) -> None:
        prefix = f"{name_of(replica_set)}-"
        template = replica_set["spec"]["template"]
        metadata = {
            **template.get("metadata", {}),
            "name": prefix + random_suffix(),
            "generateName": prefix,
            "ownerReferences": [owner_reference(replica_set)],
        }
        pod = self._registry.create(PODS, namespace_of(replica_set), {"metadata": metadata, "spec": template["spec"]})
        self._recorder.normal(COMPONENT, replica_set, "SuccessfulCreate", f"Created pod: {name_of(pod)}")

    def _status(self, replica_set: Obj, pods: list[Obj], active: list[Obj], failure: ApiError | None) -> Obj:
        ready = sum(is_pod_ready(pod) for pod in active)
        status: Obj = {"replicas": len(active)}
        if active:
            status["fullyLabeledReplicas"] = len(active)
        if ready:
            status |= {"readyReplicas": ready, "availableReplicas": ready}
        status["terminatingReplicas"] = sum(is_terminating(pod) for pod in pods)
        status["observedGeneration"] = replica_set["metadata"]["generation"]
        if failure:
            known = replica_set["status"].get("conditions")
            condition = {"type": "ReplicaFailure", "status": "True", "lastTransitionTime": self._registry.now()}
            status["conditions"] = known or [{**condition, "reason": "FailedCreate", "message": str(failure)}]
        return status
