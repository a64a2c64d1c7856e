"""What the API server adds to and refuses in an object of each kind: defaults and validation.

Pure functions over dictionaries. Only what this project can meet is here; a field nobody reads has no default.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from tests.cluster import answers, resources
from tests.cluster.selectors import match_selector

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.resources import Obj, Resource

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_SUBDOMAIN}')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with "
    f"an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_LABEL}')"
)
_SERVICE_NAME = "[a-z]([-a-z0-9]*[a-z0-9])?"
_SERVICE_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is "
    f"'{_SERVICE_NAME}')"
)
_LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_TOLERATIONS = [
    {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for state in ("not-ready", "unreachable")
]


def validate_name(resource: Resource, name: str) -> None:
    """Refuse a name that the kind does not allow.

    Raises:
        ApiError: 422.
    """
    pattern, rule, longest = _SUBDOMAIN, _SUBDOMAIN_RULE, 253
    if resource == resources.NAMESPACES:
        pattern, rule, longest = _LABEL, _LABEL_RULE, 63
    elif resource == resources.SERVICES:
        pattern, rule, longest = _SERVICE_NAME, _SERVICE_RULE, 63
    if not name:
        why = "Required value: name or generateName is required"
        raise answers.invalid(resource, name, "metadata.name", why, "FieldValueRequired")
    if len(name) > longest or not re.fullmatch(pattern, name):
        rule = rule if len(name) <= longest else f"must be no more than {longest} characters"
        raise answers.invalid(resource, name, "metadata.name", f"{answers.bad_value(name)}: {rule}")


def validate(resource: Resource, obj: Obj, before: Obj | None) -> None:
    """Refuse an object that breaks a rule of its kind.

    Raises:
        ApiError: 422.
    """
    name = resources.name_of(obj)
    for key, value in resources.labels_of(obj).items():
        if not isinstance(value, str) or len(value) > 63 or not _LABEL_VALUE.fullmatch(value):
            why = f"{answers.bad_value(value)}: a valid label must be an empty string or consist of alphanumeric ..."
            raise answers.invalid(resource, name, "metadata.labels", why)
        if not key:
            raise answers.invalid(resource, name, "metadata.labels", f"{answers.bad_value(key)}: name part must ...")
    if resource in (resources.DEPLOYMENTS, resources.REPLICA_SETS):
        _validate_workload(resource, obj, before)
    if resource == resources.PODS and before is not None:
        _validate_pod_update(obj, before)
    if resource == resources.SECRETS and before and before.get("immutable") and obj.get("data") != before.get("data"):
        why = "Forbidden: field is immutable when `immutable` is set"
        raise answers.invalid(resource, name, "data", why, "FieldValueForbidden")


def _validate_workload(resource: Resource, obj: Obj, before: Obj | None) -> None:
    name, spec = resources.name_of(obj), obj.get("spec") or {}
    if not spec.get("selector"):
        raise answers.invalid(resource, name, "spec.selector", "Required value", "FieldValueRequired")
    labels = spec["template"].get("metadata", {}).get("labels") or {}
    if not match_selector(spec["selector"], labels):
        why = f"{answers.bad_value(labels)}: `selector` does not match template `labels`"
        raise answers.invalid(resource, name, "spec.template.metadata.labels", why)
    if not spec["template"].get("spec", {}).get("containers"):
        raise answers.invalid(resource, name, "spec.template.spec.containers", "Required value", "FieldValueRequired")
    if spec["replicas"] < 0:
        why = f"{answers.bad_value(spec['replicas'])}: must be greater than or equal to 0"
        raise answers.invalid(resource, name, "spec.replicas", why)
    if before is not None and before["spec"]["selector"] != spec["selector"]:
        why = f"{answers.bad_value(spec['selector'])}: field is immutable"
        raise answers.invalid(resource, name, "spec.selector", why)


def _validate_pod_update(obj: Obj, before: Obj) -> None:
    def fixed(pod: Obj) -> Obj:
        spec = {k: v for k, v in pod["spec"].items() if k not in {"tolerations", "activeDeadlineSeconds", "nodeName"}}
        spec["containers"] = [{**c, "image": ""} for c in spec.get("containers", [])]
        return spec

    if fixed(obj) != fixed(before):
        why = "Forbidden: pod updates may not change fields other than `spec.containers[*].image`"
        raise answers.invalid(resources.PODS, resources.name_of(obj), "spec", why, "FieldValueForbidden")


def apply_defaults(resource: Resource, obj: Obj) -> None:
    """Fill in, in place, what the server fills in on every write."""
    if fill := _DEFAULTS.get(resource):
        fill(obj)


def initialise(resource: Resource, obj: Obj) -> None:
    """Set, in place, what a new object of the kind begins with, whatever its creator wrote."""
    if resource.has_status:
        obj["status"] = {}
    if begin := _BEGINNINGS.get(resource):
        begin(obj)


def _default_pod_spec(spec: Obj) -> None:
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        image: str = container.get("image", "")
        newest = image.endswith(":latest") or ":" not in image.rpartition("/")[2]
        container.setdefault("resources", {})
        container.setdefault("terminationMessagePath", "/dev/termination-log")
        container.setdefault("terminationMessagePolicy", "File")
        container.setdefault("imagePullPolicy", "Always" if newest else "IfNotPresent")
        for port in container.get("ports", []):
            port.setdefault("protocol", "TCP")
    for field, value in _POD_DEFAULTS.items():
        spec.setdefault(field, value)
    spec.setdefault("securityContext", {})


_POD_DEFAULTS: dict[str, Any] = {
    "restartPolicy": "Always",
    "terminationGracePeriodSeconds": 30,
    "dnsPolicy": "ClusterFirst",
    "schedulerName": "default-scheduler",
}


def _default_workload(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("replicas", 1)
    template = spec.setdefault("template", {})
    _default_pod_spec(template.setdefault("spec", {}))


def _default_deployment(obj: Obj) -> None:
    _default_workload(obj)
    spec = obj["spec"]
    strategy = spec.setdefault("strategy", {})
    if strategy.setdefault("type", "RollingUpdate") == "RollingUpdate":
        strategy.setdefault("rollingUpdate", {"maxUnavailable": "25%", "maxSurge": "25%"})
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def _default_pod(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _default_pod_spec(spec)
    spec.setdefault("priority", 0)
    spec.setdefault("enableServiceLinks", True)
    spec.setdefault("preemptionPolicy", "PreemptLowerPriority")
    tolerations = spec.setdefault("tolerations", [])
    tolerations.extend(dict(t) for t in _TOLERATIONS if all(t["key"] != known.get("key") for known in tolerations))


def _default_service(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    for port in spec.get("ports", []):
        port.setdefault("protocol", "TCP")
        port.setdefault("targetPort", port["port"])
    spec.setdefault("type", "ClusterIP")
    spec.setdefault("sessionAffinity", "None")
    spec.setdefault("ipFamilies", ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "SingleStack")
    spec.setdefault("internalTrafficPolicy", "Cluster")


def _default_secret(obj: Obj) -> None:
    plain = obj.pop("stringData", None)
    if plain:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in plain.items()}
        obj["data"] = {**(obj.get("data") or {}), **encoded}
    obj.setdefault("type", "Opaque")


def _default_claim(obj: Obj) -> None:
    obj.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")
    obj["spec"].setdefault("storageClassName", "standard")


def _begin_namespace(obj: Obj) -> None:
    obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = resources.name_of(obj)
    obj["spec"] = {"finalizers": ["kubernetes"]}
    obj["status"] = {"phase": "Active"}


def _begin_node(obj: Obj) -> None:
    obj.setdefault("spec", {}).setdefault("taints", [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}])


def _begin_pod(obj: Obj) -> None:
    obj["status"] = {"phase": "Pending", "qosClass": _quality_of_service(obj["spec"])}


def _quality_of_service(spec: Obj) -> str:
    wanted = [container.get("resources", {}) for container in spec.get("containers", [])]
    if not any(r.get("requests") or r.get("limits") for r in wanted):
        return "BestEffort"
    sure = all(r.get("limits") and r.get("requests", r["limits"]) == r["limits"] for r in wanted)
    return "Guaranteed" if sure and all({"cpu", "memory"} <= set(r["limits"]) for r in wanted) else "Burstable"


_DEFAULTS: dict[Resource, Callable[[Obj], None]] = {
    resources.DEPLOYMENTS: _default_deployment,
    resources.REPLICA_SETS: _default_workload,
    resources.PODS: _default_pod,
    resources.SERVICES: _default_service,
    resources.SECRETS: _default_secret,
    resources.CLAIMS: _default_claim,
}
_BEGINNINGS: dict[Resource, Callable[[Obj], None]] = {
    resources.NAMESPACES: _begin_namespace,
    resources.NODES: _begin_node,
    resources.PODS: _begin_pod,
    resources.SERVICES: lambda obj: obj.update(status={"loadBalancer": {}}),
    resources.CLAIMS: lambda obj: obj.update(status={"phase": "Pending"}),
    resources.REPLICA_SETS: lambda obj: obj.update(status={"replicas": 0}),
}
