"""The garbage collector and the namespace controller: what goes when its owner, or its namespace, goes.

After `k8s.io/kubernetes/pkg/controller/garbagecollector`: an owner deleted in the foreground stays, with a finalizer,
until the dependents that block it are gone; a dependent whose owners are all gone or waiting is deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.cluster import resources
from tests.cluster.registry import FOREGROUND, ORPHAN, DeleteOptions, Registry
from tests.cluster.resources import RESOURCES, Obj, Resource, is_terminating, name_of, namespace_of
from tests.cluster.store import Change, Key, owner_uids

if TYPE_CHECKING:
    from collections.abc import Iterable


def _is_waiting(obj: Obj) -> bool:
    return is_terminating(obj) and FOREGROUND in obj["metadata"].get("finalizers", [])


class GarbageCollector:
    """Deletes what nobody owns any more. Its keys are UIDs."""

    is_last = True

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store

    def concerns(self, change: Change) -> Iterable[Key]:
        """The object itself, its owners and its dependents: each may have become free or useless."""
        uid = change.obj["metadata"]["uid"]
        around: set[str] = set()
        if change.type == "DELETED" or change.obj["metadata"].get("finalizers"):
            around |= {obj["metadata"]["uid"] for _, obj in self._store.dependents(uid)}
        owners = owner_uids(change.obj)
        if change.type == "DELETED":
            around |= owners
        elif owners or change.obj["metadata"].get("finalizers"):
            around.add(uid)
        return [("", uid) for uid in sorted(around)]

    def sync(self, key: Key) -> None:
        """Release the object if it waits for nothing any more; delete it if nobody owns it."""
        found = self._store.by_uid(key[1])
        if found is None:
            return
        resource, obj = found
        finalizers = obj["metadata"].get("finalizers", [])
        if is_terminating(obj) and ORPHAN in finalizers:
            self._orphan_dependents(obj)
            self._release(resource, obj, ORPHAN)
        elif _is_waiting(obj):
            if not self._blockers(obj):
                self._release(resource, obj, FOREGROUND)
        elif self._is_garbage(obj) and not is_terminating(obj):
            must_wait = self._has_waiting_owner(obj) and self._store.dependents(key[1])
            options = DeleteOptions("Foreground" if must_wait else "Background", uid=key[1])
            self._registry.delete(resource, namespace_of(obj), name_of(obj), options)

    def _blockers(self, owner: Obj) -> list[Obj]:
        uid = owner["metadata"]["uid"]
        return [
            obj
            for _, obj in self._store.dependents(uid)
            if any(ref["uid"] == uid and ref.get("blockOwnerDeletion") for ref in obj["metadata"]["ownerReferences"])
        ]

    def _owners(self, obj: Obj) -> list[Obj]:
        return [found[1] for uid in sorted(owner_uids(obj)) if (found := self._store.by_uid(uid))]

    def _is_garbage(self, obj: Obj) -> bool:
        return bool(owner_uids(obj)) and all(_is_waiting(owner) for owner in self._owners(obj))

    def _has_waiting_owner(self, obj: Obj) -> bool:
        return any(_is_waiting(owner) for owner in self._owners(obj))

    def _release(self, resource: Resource, obj: Obj, finalizer: str) -> None:
        metadata = dict(obj["metadata"])
        metadata["finalizers"] = [name for name in metadata["finalizers"] if name != finalizer]
        self._registry.update(resource, namespace_of(obj), name_of(obj), {**obj, "metadata": metadata})

    def _orphan_dependents(self, owner: Obj) -> None:
        uid = owner["metadata"]["uid"]
        for resource, obj in self._store.dependents(uid):
            metadata = dict(obj["metadata"])
            metadata["ownerReferences"] = [ref for ref in metadata["ownerReferences"] if ref["uid"] != uid]
            self._registry.update(resource, namespace_of(obj), name_of(obj), {**obj, "metadata": metadata})


class NamespaceController:
    """Furnishes new namespaces, and empties those that are deleted before it lets them go."""

    is_last = True

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._store = registry.store

    def concerns(self, change: Change) -> Iterable[Key]:
        """A namespace that changed, or one that lost an object while terminating."""
        if change.resource == resources.NAMESPACES:
            return [change.key]
        if change.type == "DELETED" and change.resource.namespaced:
            namespace = self._store.get(resources.NAMESPACES, "", namespace_of(change.obj))
            if namespace is not None and is_terminating(namespace):
                return [("", name_of(namespace))]
        return []

    def sync(self, key: Key) -> None:
        """Make what every namespace has; in a terminating one, delete what is left."""
        namespace = self._store.get(resources.NAMESPACES, *key)
        if namespace is None:
            return
        name = name_of(namespace)
        if not is_terminating(namespace):
            if self._store.get(resources.SERVICE_ACCOUNTS, name, "default") is None:
                self._registry.create(resources.SERVICE_ACCOUNTS, name, {"metadata": {"name": "default"}})
                certificate = {"metadata": {"name": "kube-root-ca.crt"}, "data": {"ca.crt": ""}}
                self._registry.create(resources.CONFIG_MAPS, name, certificate)
            return
        left = [(kind, obj) for kind in RESOURCES if kind.namespaced for obj in self._store.items(kind, name)]
        for kind, obj in left:
            if not is_terminating(obj):
                self._registry.delete(kind, name, name_of(obj), DeleteOptions("Background"))
        if not left:
            self._registry.finalize_namespace(name)
