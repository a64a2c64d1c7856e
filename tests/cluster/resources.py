"""The kinds of object the cluster serves, and what the API says of each.

One table; nothing else in the package lists kinds. A real server has far more, and a request for those is answered 404.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Obj = dict[str, Any]


# Each is one object of this module, so identity is equality.
@dataclass(frozen=True, eq=False)
class Resource:
    """One served kind: its group, version, plural and the rules that differ between kinds."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    has_status: bool = False
    has_generation: bool = False
    # A delete that removes the object at once answers with the object for these, with a Status for the rest.
    returns_deleted: bool = False

    @property
    def api_version(self) -> str:
        """What an object of this kind carries in `apiVersion`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The plural with its group, as messages write it: `deployments.apps`, but `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """The kind with its group, as messages of failed preconditions and validation write it."""
        return f"{self.kind}.{self.group}" if self.group else self.kind


NAMESPACES = Resource("", "v1", "namespaces", "Namespace", namespaced=False, has_status=True)
NODES = Resource("", "v1", "nodes", "Node", namespaced=False, has_status=True)
PODS = Resource("", "v1", "pods", "Pod", has_status=True, has_generation=True, returns_deleted=True)
SERVICES = Resource("", "v1", "services", "Service", has_status=True, returns_deleted=True)
SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
EVENTS = Resource("", "v1", "events", "Event")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", has_status=True, returns_deleted=True)
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota", has_status=True, returns_deleted=True)
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount", returns_deleted=True)
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment", has_status=True, has_generation=True)
REPLICA_SETS = Resource("apps", "v1", "replicasets", "ReplicaSet", has_status=True, has_generation=True)
NETWORK_POLICIES = Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", has_generation=True)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
ENDPOINT_SLICES = Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", has_generation=True)

RESOURCES: tuple[Resource, ...] = (
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    SECRETS,
    CONFIG_MAPS,
    EVENTS,
    CLAIMS,
    QUOTAS,
    SERVICE_ACCOUNTS,
    DEPLOYMENTS,
    REPLICA_SETS,
    NETWORK_POLICIES,
    LEASES,
    ENDPOINT_SLICES,
)
BY_PATH = {(r.group, r.version, r.plural): r for r in RESOURCES}
BY_KIND = {(r.api_version, r.kind): r for r in RESOURCES}


def clone(value: Any) -> Any:
    """Return a deep copy of what JSON can hold; several times as fast as `copy.deepcopy`."""
    if isinstance(value, dict):
        return {key: clone(one) for key, one in value.items()}
    if isinstance(value, list):
        return [clone(one) for one in value]
    return value


def name_of(obj: Obj) -> str:
    """Return the object's name."""
    return str(obj["metadata"]["name"])


def namespace_of(obj: Obj) -> str:
    """Return the object's namespace; empty for a cluster-wide kind."""
    return str(obj["metadata"].get("namespace", ""))


def labels_of(obj: Obj) -> dict[str, str]:
    """Return the object's labels, empty if it has none."""
    return obj["metadata"].get("labels") or {}


def is_terminating(obj: Obj) -> bool:
    """Tell whether a delete was accepted and the object is still there."""
    return "deletionTimestamp" in obj["metadata"]


def is_owned_by(obj: Obj, owner: Obj) -> bool:
    """Tell whether `owner` is the controller of `obj`."""
    uid = owner["metadata"]["uid"]
    return any(r.get("controller") and r["uid"] == uid for r in obj["metadata"].get("ownerReferences") or [])
