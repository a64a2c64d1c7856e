"""What `kubectl` asks before anything else: versions, groups and resources."""

from __future__ import annotations

from tests.cluster import scale
from tests.cluster.resources import DEPLOYMENTS, PODS, REPLICA_SETS, RESOURCES, SERVICES, Obj, Resource

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]
_SHORT_NAMES = {
    "namespaces": "ns",
    "nodes": "no",
    "pods": "po",
    "services": "svc",
    "configmaps": "cm",
    "events": "ev",
    "persistentvolumeclaims": "pvc",
    "resourcequotas": "quota",
    "serviceaccounts": "sa",
    "deployments": "deploy",
    "replicasets": "rs",
    "networkpolicies": "netpol",
}
_ALL = (PODS, SERVICES, DEPLOYMENTS, REPLICA_SETS)  # what `kubectl get all` shows


def discover(path: str) -> Obj | None:
    """Return the answer to a discovery request, or None if it is none."""
    groups = sorted({(r.group, r.version) for r in RESOURCES if r.group})
    if path == "/version":
        return {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    if path in {"/healthz", "/livez", "/readyz"}:
        return {"status": "ok"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"]}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*group) for group in groups]}
    for group, version in [("", "v1"), *groups]:
        api_version = f"{group}/{version}" if group else version
        if path == (f"/apis/{api_version}" if group else f"/api/{version}"):
            served = [r for r in RESOURCES if (r.group, r.version) == (group, version)]
            resources = [entry for resource in served for entry in _resource(resource)]
            return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": api_version, "resources": resources}
    return None


def _group(group: str, version: str) -> Obj:
    entry = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [entry], "preferredVersion": entry}


def _resource(resource: Resource) -> list[Obj]:
    entry = {
        "name": resource.plural,
        "singularName": resource.kind.lower(),
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": _VERBS,
        "categories": ["all"] if resource in _ALL else [],
        "shortNames": [_SHORT_NAMES[resource.plural]] if resource.plural in _SHORT_NAMES else [],
    }
    found = [entry]
    if resource.has_status:
        found.append({**entry, "name": f"{resource.plural}/status", "shortNames": [], "categories": []})
    return [*found, scale.DISCOVERED] if resource is DEPLOYMENTS else found
