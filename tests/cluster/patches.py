"""The patch types of the API, as pure functions from an object and a patch to a new object.

Merge patch is RFC 7386, JSON patch RFC 6902; strategic merge patch knows the merge key of each list of named things in
the kinds that are served (https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.cluster.answers import bad_request, failed_test
from tests.cluster.resources import clone

if TYPE_CHECKING:
    from tests.cluster.resources import Obj

# The field's name decides: none of the served kinds uses one of these names for a list with another merge key.
MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "ephemeralContainers": "name",
    "env": "name",
    "volumes": "name",
    "volumeMounts": "mountPath",
    "imagePullSecrets": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "ownerReferences": "uid",
    "conditions": "type",
    "taints": "key",
    "secrets": "name",
}
# `ports` is merged by `containerPort` in a container and by `port` in a Service.
_PORT_KEYS = ("containerPort", "port")
_UNIONS = frozenset({"finalizers"})
_DIRECTIVES = ("$patch", "$retainKeys")


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a merge patch: null removes, objects are merged, everything else replaces."""
    if not isinstance(patch, dict):
        return clone(patch)
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge_patch(result.get(key), value)
    return result


def strategic_merge_patch(target: Any, patch: Any) -> Any:
    """Apply a strategic merge patch: as a merge patch, but lists of named things are merged by their key."""
    if not isinstance(patch, dict):
        return clone(patch)
    if patch.get("$patch") == "replace":
        return {key: clone(value) for key, value in patch.items() if key not in _DIRECTIVES}
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if key in _DIRECTIVES or key.startswith("$setElementOrder/"):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            field = key.partition("/")[2]
            result[field] = [item for item in result.get(field, []) if item not in value]
        elif value is None:
            result.pop(key, None)
        elif isinstance(value, list):
            result[key] = _merge_list(key, result.get(key) or [], value)
        else:
            result[key] = strategic_merge_patch(result.get(key), value)
    return result


def _merge_list(field: str, target: list[Any], patch: list[Any]) -> list[Any]:
    if field in _UNIONS:
        return [*target, *(item for item in patch if item not in target)]
    merge_key = _merge_key(field, patch)
    if merge_key is None or {"$patch": "replace"} in patch:
        return [clone(item) for item in patch if item != {"$patch": "replace"}]
    result = list(target)
    for item in patch:
        if merge_key not in item:
            raise bad_request(f"map: {item} does not contain declared merge key: {merge_key}")
        index = next((i for i, old in enumerate(result) if old.get(merge_key) == item[merge_key]), None)
        if item.get("$patch") == "delete":
            if index is not None:
                del result[index]
        elif index is None:
            result.append(strategic_merge_patch({}, item))
        else:
            result[index] = strategic_merge_patch(result[index], item)
    return result


def _merge_key(field: str, patch: list[Any]) -> str | None:
    if not all(isinstance(item, dict) for item in patch):
        return None
    if field == "ports":
        return next((key for key in _PORT_KEYS if any(key in item for item in patch)), None)
    return MERGE_KEYS.get(field)


def json_patch(target: Obj, operations: list[Obj]) -> Obj:
    """Apply a JSON patch, all of it or nothing.

    Raises:
        ApiError: 422, a `test` did not hold or a path is not there.
    """
    document: Any = clone(target)
    for operation in operations:
        path = _pointer(operation["path"])
        match operation["op"]:
            case "test":
                if _at(document, path) != operation.get("value"):
                    raise failed_test()
            case "add":
                document = _insert(document, path, clone(operation.get("value")))
            case "remove":
                _remove(document, path)
            case "replace":
                _at(document, path)
                _remove(document, path)
                document = _insert(document, path, clone(operation.get("value")))
            case "move" | "copy":
                source = _pointer(operation["from"])
                value = clone(_at(document, source))
                if operation["op"] == "move":
                    _remove(document, source)
                document = _insert(document, path, value)
            case other:
                raise bad_request(f"Unexpected kind: {other}")
    result: Obj = document
    return result


def _pointer(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _at(document: Any, path: list[str]) -> Any:
    try:
        for step in path:
            document = document[int(step)] if isinstance(document, list) else document[step]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise failed_test() from error
    return document


def _insert(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent = _at(document, path[:-1])
    try:
        if isinstance(parent, list):
            parent.insert(len(parent) if path[-1] == "-" else int(path[-1]), value)
        else:
            parent[path[-1]] = value
    except (ValueError, TypeError) as error:
        raise failed_test() from error
    return document


def _remove(document: Any, path: list[str]) -> None:
    _at(document, path)
    parent = _at(document, path[:-1])
    del parent[int(path[-1]) if isinstance(parent, list) else path[-1]]
