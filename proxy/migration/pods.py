"""What the chart says of a Pod, as this proxy's quantities and `pod_overlay`. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from proxy.migration.shapes import listed, mapping

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

    def listing(name: str) -> list[Any]:
        return listed(take(name), name)

    def naming(name: str) -> Mapping[str, Any]:
        return mapping(take(name), name)

    spec: dict[str, Any] = {
        "nodeSelector": naming("singleuser.nodeSelector"),
        "tolerations": listing("singleuser.extraTolerations"),
        "serviceAccountName": take("singleuser.serviceAccountName"),
        "initContainers": listing("singleuser.initContainers"),
        "volumes": listing("singleuser.storage.extraVolumes"),
        "imagePullSecrets": secrets_of([*listing("imagePullSecrets"), *listing("singleuser.image.pullSecrets")]),
    }
    container = {
        "volumeMounts": listing("singleuser.storage.extraVolumeMounts"),
        "lifecycle": naming("singleuser.lifecycleHooks"),
        "resources": resources(
            naming("singleuser.extraResource.limits"), naming("singleuser.extraResource.guarantees")
        ),
    }
    extra = listing("singleuser.extraContainers")
    metadata = {"labels": naming("singleuser.extraLabels"), "annotations": naming("singleuser.extraAnnotations")}
    return filled({"metadata": filled(metadata), "spec": filled({**spec, "containers": _containers(container, extra)})})


def secrets_of(found: list[Any]) -> list[dict[str, str]]:
    """Return the Secrets that images are pulled with; the chart takes names, and mappings that have one."""
    names = [text(each.get("name") if isinstance(each, dict) else each) for each in found]
    return [{"name": name} for name in dict.fromkeys(names) if name]


def resources(limits: Mapping[str, Any], guarantees: Mapping[str, Any]) -> dict[str, Any]:
    """Return resources such as GPUs, which Kubernetes wants as text."""
    return filled({"limits": _amounts(limits), "requests": _amounts(guarantees)})


def of_override(override: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that a profile's `kubespawner_override` stands for, and the names of what has none.

    Raises:
        ValueError: a value is not what the chart allows.
    """
    left = dict(override)

    def listing(name: str) -> list[Any]:
        return listed(left.pop(name, None), name)

    def naming(name: str) -> Mapping[str, Any]:
        return mapping(left.pop(name, None), name)

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
        "resources": resources(naming("extra_resource_limits"), naming("extra_resource_guarantees")),
        "env": [{"name": name, "value": text(value)} for name, value in naming("environment").items()],
        "volumeMounts": listing("volume_mounts"),
    }
    spec = {
        "nodeSelector": naming("node_selector"),
        "tolerations": listing("tolerations"),
        "serviceAccountName": left.pop("service_account", None),
        "volumes": listing("volumes"),
        "containers": _containers(container, []),
    }
    metadata = {"labels": naming("extra_labels"), "annotations": naming("extra_annotations")}
    added = filled({"metadata": filled(metadata), "spec": filled(spec)})
    if added:
        changes["pod_overlay"] = added
    left.pop("default_url", None)  # a link leads where it leads
    return changes, sorted(left)


def filled(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return it without what is empty."""
    return {name: value for name, value in tree.items() if value not in (None, "", {}, [])}


def _amounts(found: Mapping[str, Any]) -> dict[str, str]:
    return {name: text(value) for name, value in found.items()}


def _containers(ours: Mapping[str, Any], others: list[Any]) -> list[Any]:
    own = filled(ours)
    return [*([{"name": CONTAINER, **own}] if own else []), *others]
