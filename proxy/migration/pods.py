"""What the chart says of a Pod, as this proxy's quantities and `pod_overlay`. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.migration.values import Values

CONTAINER: Final = "notebook"
_MEMORY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([KMGT]?)")  # JupyterHub's suffixes are powers of 1024


def text(value: Any) -> str:
    """Return a scalar as text; nothing for null."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def memory(value: Any, name: str) -> str:
    """Return an amount of memory as Kubernetes writes it.

    Raises:
        ValueError: it is none.
    """
    if value is None:
        return ""
    found = _MEMORY.fullmatch(text(value))
    if found is None:
        raise ValueError(f"{name} is {text(value)!r}: must be a number of bytes with K, M, G, T or nothing behind it")
    number, suffix = found.groups()
    if "." in number and suffix:  # Kubernetes would take a fraction of it, and round
        factor = 1024 ** ("KMGT".index(suffix) + 1)
        return str(round(float(number) * factor))
    return f"{number}{suffix}i" if suffix else number


def overlay(values: Values) -> dict[str, Any]:
    """Return what the chart adds to every Pod."""
    take = values.take
    spec: dict[str, Any] = {
        "nodeSelector": take("singleuser.nodeSelector"),
        "tolerations": take("singleuser.extraTolerations"),
        "serviceAccountName": take("singleuser.serviceAccountName"),
        "initContainers": take("singleuser.initContainers"),
        "volumes": take("singleuser.storage.extraVolumes"),
        "imagePullSecrets": [{"name": name} for name in take("singleuser.image.pullSecrets") or []],
    }
    container = {
        "volumeMounts": take("singleuser.storage.extraVolumeMounts"),
        "lifecycle": take("singleuser.lifecycleHooks"),
        "resources": resources(take("singleuser.extraResource.limits"), take("singleuser.extraResource.guarantees")),
    }
    extra = take("singleuser.extraContainers") or []
    metadata = {"labels": take("singleuser.extraLabels"), "annotations": take("singleuser.extraAnnotations")}
    return filled({"metadata": filled(metadata), "spec": filled({**spec, "containers": _containers(container, extra)})})


def resources(limits: Any, guarantees: Any) -> dict[str, Any]:
    """Return resources such as GPUs, which Kubernetes wants as text."""
    return filled({"limits": _amounts(limits), "requests": _amounts(guarantees)})


def of_override(override: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that a profile's `kubespawner_override` stands for, and the names of what has none.

    Raises:
        ValueError: a value is not what the chart allows.
    """
    left = dict(override)
    readers: dict[str, tuple[str, Callable[[Any], str]]] = {
        "image": ("image", text),
        "image_pull_policy": ("image_pull_policy", text),
        "cpu_limit": ("cpu_limit", text),
        "cpu_guarantee": ("cpu_request", text),
        "mem_limit": ("memory_limit", lambda value: memory(value, "mem_limit")),
        "mem_guarantee": ("memory_request", lambda value: memory(value, "mem_guarantee")),
    }
    changes: dict[str, Any] = {
        ours: read(left.pop(theirs)) for theirs, (ours, read) in readers.items() if left.get(theirs) is not None
    }
    container = {
        "resources": resources(left.pop("extra_resource_limits", None), left.pop("extra_resource_guarantees", None)),
        "env": [{"name": name, "value": text(value)} for name, value in (left.pop("environment", None) or {}).items()],
        "volumeMounts": left.pop("volume_mounts", None),
    }
    spec = {
        "nodeSelector": left.pop("node_selector", None),
        "tolerations": left.pop("tolerations", None),
        "serviceAccountName": left.pop("service_account", None),
        "volumes": left.pop("volumes", None),
        "containers": _containers(container, []),
    }
    metadata = {"labels": left.pop("extra_labels", None), "annotations": left.pop("extra_annotations", None)}
    added = filled({"metadata": filled(metadata), "spec": filled(spec)})
    if added:
        changes["pod_overlay"] = added
    left.pop("default_url", None)  # a link leads where it leads
    return changes, sorted(left)


def filled(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return it without what is empty."""
    return {name: value for name, value in tree.items() if value not in (None, "", {}, [])}


def _amounts(found: Any) -> dict[str, str]:
    return {name: text(value) for name, value in (found or {}).items()}


def _containers(ours: Mapping[str, Any], others: list[Any]) -> list[Any]:
    own = filled(ours)
    return [*([{"name": CONTAINER, **own}] if own else []), *others]
