"""The EndpointSlice controller: which pods are behind a Service."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from tests.cluster.conditions import is_pod_ready
from tests.cluster.registry import Registry, random_suffix
from tests.cluster.replicasets import owner_reference
from tests.cluster.resources import (
    ENDPOINT_SLICES,
    PODS,
    SERVICES,
    Obj,
    is_owned_by,
    is_terminating,
    labels_of,
    name_of,
    namespace_of,
)
from tests.cluster.selectors import match_labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.cluster.store import Change, Key

SERVICE_LABEL = "kubernetes.io/service-name"
_Label = tuple[str, str, str]


class EndpointSliceController:
    """Keeps one slice per Service with a selector."""

    is_last = False

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        # By one label of theirs, so that a thousand pods and a thousand Services are not all compared.
        self._pods: dict[_Label, dict[Key, None]] = defaultdict(dict)
        self._services: dict[_Label, dict[Key, None]] = defaultdict(dict)

    def concerns(self, change: Change) -> Iterable[Key]:
        """The Service that changed, or those that select the pod that did."""
        namespace = namespace_of(change.obj)
        if change.resource == SERVICES:
            for label in (change.obj["spec"].get("selector") or {}).items():
                _keep(self._services[namespace, *label], change)
            return [change.key]
        if change.resource != PODS:
            return []
        found: dict[Key, None] = {}
        for label in labels_of(change.obj).items():
            _keep(self._pods[namespace, *label], change)
            found |= self._services.get((namespace, *label), {})
        return found

    def sync(self, key: Key) -> None:
        """Write who is behind the Service now."""
        service = self._registry.store.get(SERVICES, *key)
        selector = (service or {}).get("spec", {}).get("selector")
        if service is None or not selector:
            return
        first = next(iter(selector.items()))
        pods = [self._registry.store.get(PODS, *pod) for pod in self._pods.get((key[0], *first), {})]
        behind = [pod for pod in pods if pod and match_labels(selector, labels_of(pod)) and pod["status"].get("podIP")]
        ports = [
            {"name": port.get("name", ""), "protocol": port["protocol"], "port": _target_port(port, behind)}
            for port in service["spec"].get("ports", [])
        ]
        endpoints = [_endpoint(pod) for pod in behind]
        owned = self._registry.store.dependents(service["metadata"]["uid"])
        slices = [obj for kind, obj in owned if kind == ENDPOINT_SLICES and is_owned_by(obj, service)]
        if slices:
            changed = {**slices[0], "endpoints": endpoints, "ports": ports}
            self._registry.update(ENDPOINT_SLICES, key[0], name_of(slices[0]), changed)
            return
        labels = {
            **labels_of(service),
            SERVICE_LABEL: name_of(service),
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }
        prefix = f"{name_of(service)}-"
        metadata: Obj = {"name": prefix + random_suffix(), "generateName": prefix, "labels": labels}
        metadata |= {"ownerReferences": [owner_reference(service)]}
        created = {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints, "ports": ports}
        self._registry.create(ENDPOINT_SLICES, key[0], created)


def _keep(index: dict[Key, None], change: Change) -> None:
    if change.type == "DELETED":
        index.pop(change.key, None)
    else:
        index[change.key] = None


def _target_port(port: Obj, pods: list[Obj]) -> int:
    target = port["targetPort"]
    if isinstance(target, int):
        return target
    declared = [p for pod in pods[:1] for c in pod["spec"]["containers"] for p in c.get("ports", [])]
    found: int = next((p["containerPort"] for p in declared if p.get("name") == target), port["port"])
    return found


def _endpoint(pod: Obj) -> Obj:
    ready = is_pod_ready(pod)
    ending = is_terminating(pod)
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready and not ending, "serving": ready, "terminating": ending},
        "targetRef": {
            "kind": "Pod",
            "namespace": namespace_of(pod),
            "name": name_of(pod),
            "uid": pod["metadata"]["uid"],
        },
        "nodeName": pod["spec"].get("nodeName", ""),
    }
