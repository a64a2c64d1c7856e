"""Merge what an operator adds into what we build.

Pure: returns new objects, changes none. Mappings are merged by key and null deletes, as in a JSON merge patch
(RFC 7396); lists of named things are merged by name; any other list takes the other's place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from proxy.naming import fill

# A volume may be mounted twice; Kubernetes, too, tells mounts apart by their path.
_KEYS: Final = {"volumeMounts": "mountPath", "volumeDevices": "devicePath"}


def merge(base: Any, overlay: Any, *, field: str = "") -> Any:
    """Return `base` with `overlay` merged into it.

    Args:
        base: what JSON can say.
        overlay: what JSON can say; what is null in it is removed from `base`.
        field: the name of the field that both are the value of.
    """
    if isinstance(overlay, Mapping):
        merged = dict(base) if isinstance(base, Mapping) else {}
        for name, value in overlay.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = merge(merged.get(name), value, field=name)
        return merged
    if isinstance(overlay, list):
        return _merge_lists(base, overlay, _KEYS.get(field, "name"))
    return overlay


def _merge_lists(base: Any, overlay: list[Any], key: str) -> list[Any]:
    """Merge two lists whose items all have a `key` of their own; the order is the base's, then the overlay's."""
    fresh = [merge(None, item) for item in overlay]
    if not _is_named(base, key) or not _is_named(overlay, key):
        return fresh
    added = {item[key]: item for item in overlay}
    kept = [merge(item, added.pop(item[key], {})) for item in base]
    return kept + [item for item in fresh if item[key] in added]


def _is_named(items: Any, key: str) -> bool:
    if not isinstance(items, list) or not all(isinstance(item, Mapping) for item in items):
        return False
    names = [item.get(key) for item in items]
    return all(isinstance(name, str) for name in names) and len(set(names)) == len(names)


def fill_all(value: Any, values: Mapping[str, str]) -> Any:
    """Return a copy in which the placeholders of every text are replaced; the names of fields stay."""
    if isinstance(value, str):
        return fill(value, values)
    if isinstance(value, list):
        return [fill_all(item, values) for item in value]
    if isinstance(value, Mapping):
        return {name: fill_all(item, values) for name, item in value.items()}
    return value
