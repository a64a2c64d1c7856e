"""Objects to try things with: a workspace's Deployment, Service and claim as a client would write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.cluster.resources import Obj


def deployment(
    name: str = "notebook-demo", *, replicas: int = 1, image: str = "example.invalid/tiny:1", **pod: Any
) -> Obj:
    """Return a Deployment of one notebook; `pod` goes into the pod's spec."""
    labels = {"app": name, "managed-by": "conformance"}
    workspace = name.removeprefix("notebook-")
    container = {
        "name": "notebook",
        "image": image,
        "command": ["start-notebook.py", f"--ServerApp.base_url=/ws/{workspace}/", "--ServerApp.ip=0.0.0.0"],
        "ports": [{"name": "http", "containerPort": 8888}],
        **pod.pop("container", {}),
    }
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": replicas,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container], **pod}},
        },
    }


def service(name: str = "notebook-demo", owner: Obj | None = None) -> Obj:
    """Return a Service for the Deployment of that name, owned by it or not."""
    metadata: Obj = {"name": name, "labels": {"app": name}}
    if owner:
        metadata["ownerReferences"] = [owner_reference(owner)]
    return {"metadata": metadata, "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 8888}]}}


def secret(name: str = "notebook-demo", owner: Obj | None = None) -> Obj:
    """Return a Secret with a token, owned by a Deployment or not."""
    metadata: Obj = {"name": name}
    if owner:
        metadata["ownerReferences"] = [owner_reference(owner)]
    return {"metadata": metadata, "stringData": {"token": "open sesame"}}


def claim(name: str) -> Obj:
    """Return a claim for a volume that one node may write."""
    return {
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def owner_reference(owner: Obj) -> Obj:
    """Return a reference to an owner, as a client writes it."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
    }
