"""ResourceQuota: what a new object asks for, what its namespace uses, and the refusal when that is too much."""

from __future__ import annotations

import functools
import re
from decimal import Decimal
from typing import TYPE_CHECKING

from tests.cluster import answers, resources

if TYPE_CHECKING:
    from tests.cluster.resources import Obj, Resource
    from tests.cluster.store import Store

_SUFFIXES: dict[str, Decimal | int] = {"": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SUFFIXES |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_COMPUTE = ("cpu", "memory", "ephemeral-storage")


@functools.cache
def quantity(text: str | int) -> Decimal:
    """Read a resource quantity: `500m`, `2`, `8Gi`."""
    found = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text))
    if not found:
        raise ValueError(text)
    return Decimal(found[1]) * _SUFFIXES[found[2]]


def usage_of(resource: Resource, obj: Obj) -> dict[str, Decimal]:
    """Return what one object counts towards each name that a quota's `hard` may hold."""
    used = {f"count/{resource.qualified}": Decimal(1)}
    if not resource.group:
        used[resource.plural] = Decimal(1)
    if resource == resources.CLAIMS:
        asked = obj["spec"].get("resources", {}).get("requests", {})
        used["requests.storage"] = quantity(asked.get("storage", 0))
    if resource == resources.PODS:
        if obj.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            return {f"count/{resource.qualified}": Decimal(1)}
        for container in obj["spec"].get("containers", []):
            wanted = container.get("resources", {})
            for kind in _COMPUTE:
                limit = wanted.get("limits", {}).get(kind, 0)
                request = wanted.get("requests", {}).get(kind, limit)
                used[f"requests.{kind}"] = used.get(f"requests.{kind}", Decimal(0)) + quantity(request)
                used[f"limits.{kind}"] = used.get(f"limits.{kind}", Decimal(0)) + quantity(limit)
        for kind in _COMPUTE:  # `cpu` in a quota means `requests.cpu`
            used[kind] = used.get(f"requests.{kind}", Decimal(0))
    return used


def check_quota(store: Store, resource: Resource, obj: Obj) -> None:
    """Refuse a create that its namespace's quotas do not allow.

    Raises:
        ApiError: 403.
    """
    namespace = resources.namespace_of(obj)
    wanted = usage_of(resource, obj)
    for quota in store.items(resources.QUOTAS, namespace):
        hard = quota["spec"].get("hard") or {}
        counted = [name for name in hard if wanted.get(name)]
        if not counted:
            continue
        used = {name: Decimal(0) for name in counted}
        for other in store.items(resource, namespace):
            for name, amount in usage_of(resource, other).items():
                if name in used:
                    used[name] += amount
        over = [name for name in counted if used[name] + wanted[name] > quantity(hard[name])]
        if over:
            asked, taken = _amounts(wanted, over), _amounts(used, over)
            limited = ",".join(f"{name}={hard[name]}" for name in over)
            why = f"exceeded quota: {quota['metadata']['name']}, requested: {asked}, used: {taken}, limited: {limited}"
            raise answers.forbidden(resource, resources.name_of(obj), why)


def _amounts(of: dict[str, Decimal], names: list[str]) -> str:
    return ",".join(f"{name}={_write(of[name])}" for name in names)


def _write(amount: Decimal) -> str:
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if amount and amount % _SUFFIXES[suffix] == 0:
            return f"{int(amount / _SUFFIXES[suffix])}{suffix}"
    return str(int(amount)) if amount == int(amount) else f"{int(amount * 1000)}m"
