"""Check objects against the API's schemas, as the client's models hold them: fields, types, what is required."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kubernetes_asyncio.client import models

_SCALARS: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "int": (int,),
    "bool": (bool,),
    "float": (int, float),
    "datetime": (str,),
    "object": (object,),
}
_LIST = re.compile(r"list\[(.+)\]")
_MAPPING = re.compile(r"dict[\[(]str, ?(.+)[\])]")
_GROUPS = {"apps": "", "rbac.authorization.k8s.io": "", "networking.k8s.io": "", "policy": "", "": ""}


def complaints(found: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with an object of a built-in kind, each with its path; none if it is well-formed."""
    group, _, version = str(found.get("apiVersion")).rpartition("/")
    name = f"{version.capitalize()}{found.get('kind')}"
    if group not in _GROUPS or not hasattr(models, name):
        return [f"no such kind: {found.get('apiVersion')} {found.get('kind')}"]
    missing = [] if found.get("metadata", {}).get("name") else ["metadata.name: missing"]
    return missing + _of(found, name, "")


def _of(value: Any, kind: str, path: str) -> list[str]:
    if kind in _SCALARS:
        is_right = isinstance(value, _SCALARS[kind]) and (kind in ("bool", "object") or not isinstance(value, bool))
        return [] if is_right else [f"{path}: {value!r} is no {kind}"]
    if items := _LIST.fullmatch(kind):
        if not isinstance(value, list):
            return [f"{path}: {value!r} is no list"]
        return [one for index, item in enumerate(value) for one in _of(item, items[1], f"{path}[{index}]")]
    if not isinstance(value, Mapping):
        return [f"{path}: {value!r} is no mapping"]
    if entries := _MAPPING.fullmatch(kind):
        return [one for name, item in value.items() for one in _of(item, entries[1], f"{path}.{name}")]
    return _of_model(value, getattr(models, kind), path)


def _of_model(value: Mapping[str, Any], model: Any, path: str) -> list[str]:
    attributes = {field: attribute for attribute, field in model.attribute_map.items()}
    found = [f"{path}.{field}: no such field of {model.__name__}" for field in value if field not in attributes]
    known = {attributes[field]: item for field, item in value.items() if field in attributes}
    try:
        model(**known)
    except ValueError as error:  # a required field is missing
        found.append(f"{path}: {error}")
    for attribute, item in known.items():
        found += _of(item, model.openapi_types[attribute], f"{path}.{model.attribute_map[attribute]}")
    return found
