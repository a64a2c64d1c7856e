"""The `scale` of a Deployment, which `kubectl scale` reads and writes: its replicas in an object of another group.

Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from tests.cluster.resources import DEPLOYMENTS

if TYPE_CHECKING:
    from tests.cluster.resources import Obj

_KEPT: Final = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")

DISCOVERED: Final[Obj] = {
    "name": f"{DEPLOYMENTS.plural}/scale",
    "singularName": "",
    "namespaced": True,
    "group": "autoscaling",
    "version": "v1",
    "kind": "Scale",
    "verbs": ["get", "patch", "update"],
}


def scale_of(deployment: Obj) -> Obj:
    """Return a Deployment's scale."""
    labels = deployment["spec"]["selector"]["matchLabels"]
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: value for name, value in deployment["metadata"].items() if name in _KEPT},
        "spec": {"replicas": deployment["spec"]["replicas"]},
        "status": {
            "replicas": (deployment.get("status") or {}).get("replicas", 0),
            "selector": ",".join(f"{name}={value}" for name, value in sorted(labels.items())),
        },
    }


def patch_of(scale: Any) -> Obj:
    """Return the merge patch of the Deployment that a written scale, or a merge patch of one, means."""
    patch: Obj = {"spec": {"replicas": int(scale["spec"]["replicas"])}}
    if version := (scale.get("metadata") or {}).get("resourceVersion"):
        patch["metadata"] = {"resourceVersion": version}
    return patch
