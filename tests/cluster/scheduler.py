"""The scheduler, and the provisioner of volumes: which node a pod goes to, and why it goes to none."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.cluster import resources
from tests.cluster.conditions import find_condition
from tests.cluster.quota import quantity, usage_of
from tests.cluster.resources import CLAIMS, NODES, PODS, Obj, is_terminating, name_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.cluster.recorder import Recorder
    from tests.cluster.registry import Registry
    from tests.cluster.store import Change, Key

COMPONENT = "default-scheduler"


class Scheduler:
    """Binds pods to nodes, those with the fewest pods first. `refuse` may say why a pod goes nowhere."""

    is_last = False

    def __init__(self, registry: Registry, recorder: Recorder, refuse: Callable[[Obj], str]) -> None:
        self._registry = registry
        self._recorder = recorder
        self._refuse = refuse
        self._pods_on: Counter[str] = Counter()
        self._cpus_on: dict[str, Decimal] = {}
        self._waiting: set[Key] = set()

    def concerns(self, change: Change) -> Iterable[Key]:
        """A pod without a node; all that wait, when there may be room now."""
        if change.resource == PODS:
            self._account(change)
            if change.type == "DELETED":
                self._waiting.discard(change.key)
                return sorted(self._waiting)
            return [] if change.obj["spec"].get("nodeName") else [change.key]
        return sorted(self._waiting) if change.resource in (NODES, CLAIMS) else []

    def _account(self, change: Change) -> None:
        before = change.before["spec"].get("nodeName") if change.before else None
        after = change.obj["spec"].get("nodeName") if change.type != "DELETED" else None
        if before != after:
            for node, sign in ((before, -1), (after, 1)):
                if node:
                    self._pods_on[node] += sign
                    cpus = usage_of(PODS, {**change.obj, "status": {}})["requests.cpu"]
                    self._cpus_on[node] = self._cpus_on.get(node, Decimal(0)) + sign * cpus

    def sync(self, key: Key) -> None:
        """Bind the pod, or say why not."""
        pod = self._registry.store.get(PODS, *key)
        if pod is None or pod["spec"].get("nodeName") or is_terminating(pod) or _has_ended(pod):
            self._waiting.discard(key)
            return
        nodes = self._registry.store.items(NODES)
        why = self._refuse(pod) or self._missing_claim(pod, len(nodes))
        obstacles = {name_of(node): self._obstacle(pod, node) for node in nodes}
        fitting = [name for name, obstacle in obstacles.items() if not obstacle]
        if not why and fitting:
            self._waiting.discard(key)
            node = min(fitting, key=lambda name: self._pods_on[name])
            self._registry.bind(*key, node)
            where = f"{namespace_of(pod)}/{name_of(pod)}"
            self._recorder.normal(COMPONENT, pod, "Scheduled", f"Successfully assigned {where} to {node}")
            return
        self._waiting.add(key)
        self._reject(pod, why or _summarise(obstacles))

    def _missing_claim(self, pod: Obj, nodes: int) -> str:
        for volume in pod["spec"].get("volumes", []):
            if claim := volume.get("persistentVolumeClaim"):
                name = claim["claimName"]
                found = self._registry.store.get(CLAIMS, namespace_of(pod), name)
                if found is None:
                    why = f'persistentvolumeclaim "{name}" not found'
                elif found["status"].get("phase") != "Bound":
                    why = "pod has unbound immediate PersistentVolumeClaims"
                else:
                    continue
                return f"0/{nodes} nodes are available: {why}."
        return ""

    def _obstacle(self, pod: Obj, node: Obj) -> str:
        wanted = pod["spec"].get("nodeSelector") or {}
        labels = {"kubernetes.io/hostname": name_of(node), **resources.labels_of(node)}
        if any(labels.get(key) != value for key, value in wanted.items()):
            return "node(s) didn't match Pod's node affinity/selector"
        for taint in node["spec"].get("taints", []):
            if taint["effect"] != "PreferNoSchedule" and not _is_tolerated(pod, taint):
                return f"node(s) had untolerated taint(s) {{{taint['key']}: {taint.get('value', '')}}}"
        if node["spec"].get("unschedulable"):
            return "node(s) were unschedulable"
        room = node["status"].get("allocatable", {}).get("cpu")
        cpus = usage_of(PODS, pod)["requests.cpu"] + self._cpus_on.get(name_of(node), Decimal(0))
        return "Insufficient cpu" if room and cpus > quantity(room) else ""

    def _reject(self, pod: Obj, why: str) -> None:
        conditions = pod["status"].get("conditions", [])
        known = find_condition(conditions, "PodScheduled")
        if known and known["status"] == "False" and known["message"] == why:
            return
        now = self._registry.now()
        condition = {
            "type": "PodScheduled",
            "observedGeneration": pod["metadata"]["generation"],
            "status": "False",
            "lastProbeTime": None,
            "lastTransitionTime": now,
            "reason": "Unschedulable",
            "message": why,
        }
        others = [c for c in conditions if c["type"] != "PodScheduled"]
        self._registry.set_status(PODS, pod, {**pod["status"], "conditions": [*others, condition]})
        self._recorder.warning(COMPONENT, pod, "FailedScheduling", why)


def _has_ended(pod: Obj) -> bool:
    return pod["status"].get("phase") in {"Succeeded", "Failed"}


def _is_tolerated(pod: Obj, taint: Obj) -> bool:
    for toleration in pod["spec"].get("tolerations", []):
        key_fits = toleration.get("key") in {None, taint["key"]}
        effect_fits = toleration.get("effect") in {None, taint["effect"]}
        value_fits = toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")
        if key_fits and effect_fits and value_fits:
            return True
    return False


def _summarise(obstacles: dict[str, str]) -> str:
    if not obstacles:
        return "no nodes available to schedule pods"
    counted = ", ".join(f"{count} {why}" for why, count in sorted(Counter(obstacles.values()).items()))
    helpless = f"preemption: 0/{len(obstacles)} nodes are available: {len(obstacles)} Preemption is not helpful"
    return f"0/{len(obstacles)} nodes are available: {counted}. {helpless} for scheduling."


class Provisioner:
    """Binds every claim to a volume at once, but for the storage class `none`."""

    is_last = False

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def concerns(self, change: Change) -> Iterable[Key]:
        """New claims."""
        return [change.key] if change.resource == CLAIMS and change.type == "ADDED" else []

    def sync(self, key: Key) -> None:
        """Bind the claim."""
        claim = self._registry.store.get(CLAIMS, *key)
        if claim is None or claim["spec"].get("storageClassName") == "none":
            return
        volume = {"spec": {"volumeName": f"pvc-{claim['metadata']['uid']}"}}
        claim = self._registry.patch(CLAIMS, *key, volume)
        asked = claim["spec"].get("resources", {}).get("requests", {})
        status = {"phase": "Bound", "accessModes": claim["spec"].get("accessModes", []), "capacity": asked}
        self._registry.set_status(CLAIMS, claim, status)
