"""Every object of the cluster, under one version counter, and the log of every change.

What must hold: a stored object is never changed in place (a write replaces it), so the log, the watches and the
callers can share it; a change is visible, logged and announced in one step without an await. Knows nothing of HTTP,
kinds' rules or permissions.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tests.cluster.resources import Obj, Resource, name_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Callable

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]
Key = tuple[str, str]


@dataclass(frozen=True)
class Change:
    """One write: what it did, to what, and what was there before."""

    version: int
    type: ChangeType
    resource: Resource
    obj: Obj
    before: Obj | None

    @property
    def key(self) -> Key:
        """Namespace and name of what changed."""
        return namespace_of(self.obj), name_of(self.obj)


def owner_uids(obj: Obj | None) -> set[str]:
    """Return the UIDs of an object's owners."""
    return {ref["uid"] for ref in obj["metadata"].get("ownerReferences") or []} if obj else set()


class Compacted(Exception):
    """The asked version is older than what the log still holds."""


class Store:
    """Objects by kind, namespace and name; `version` grows by one with each change."""

    def __init__(self, max_changes: int = 50_000) -> None:
        self.version = 1
        self.compacted = 0
        self._max_changes = max_changes
        self._objects: dict[Resource, dict[Key, Obj]] = defaultdict(dict)
        self._by_uid: dict[str, tuple[Resource, Key]] = {}
        self._dependents: dict[str, dict[tuple[Resource, Key], None]] = defaultdict(dict)
        self._log: list[Change] = []
        self._listeners: list[Callable[[Change], None]] = []

    def subscribe(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` on every later change, within the write; returns what ends it. A listener must not write."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def get(self, resource: Resource, namespace: str, name: str) -> Obj | None:
        """Return the object, or None."""
        return self._objects[resource].get((namespace, name))

    def by_uid(self, uid: str) -> tuple[Resource, Obj] | None:
        """Return the object with this UID and its kind, or None."""
        found = self._by_uid.get(uid)
        return (found[0], self._objects[found[0]][found[1]]) if found else None

    def dependents(self, uid: str) -> list[tuple[Resource, Obj]]:
        """Return every object that names `uid` among its owners, with its kind, in the order they came."""
        found = self._dependents.get(uid, {})
        return [(resource, self._objects[resource][key]) for resource, key in found]

    def items(self, resource: Resource, namespace: str = "") -> list[Obj]:
        """Return the objects of a kind, of one namespace or of all, ordered by namespace and name."""
        objects = self._objects[resource]
        return [objects[key] for key in sorted(objects) if not namespace or key[0] == namespace]

    def snapshot(self, resource: Resource, version: int, namespace: str = "") -> list[Obj]:
        """Return the objects as they were at `version`.

        Raises:
            Compacted: the log no longer reaches back so far.
        """
        if version < self.compacted:
            raise Compacted
        objects = dict(self._objects[resource])
        for change in reversed(self._after(version)):
            if change.resource == resource:
                if change.before is None:
                    objects.pop(change.key, None)
                else:
                    objects[change.key] = change.before
        return [objects[key] for key in sorted(objects) if not namespace or key[0] == namespace]

    def changes_after(self, version: int) -> list[Change]:
        """Return every change after `version`, oldest first.

        Raises:
            Compacted: some of them are gone from the log.
        """
        if version < self.compacted:
            raise Compacted
        return self._after(version)

    def _after(self, version: int) -> list[Change]:
        return self._log[bisect.bisect_right(self._log, version, key=lambda change: change.version) :]

    def put(self, resource: Resource, obj: Obj) -> Obj:
        """Store `obj` under the next version and announce it; the caller hands it over and must not change it after."""
        key = namespace_of(obj), name_of(obj)
        before = self._objects[resource].get(key)
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self._objects[resource][key] = obj
        self._by_uid[obj["metadata"]["uid"]] = (resource, key)
        self._index_owners(resource, key, before, obj)
        self._announce(Change(self.version, "MODIFIED" if before else "ADDED", resource, obj, before))
        return obj

    def remove(self, resource: Resource, last: Obj) -> Obj:
        """Remove the object; `last` is its last state, which watchers see with the version of the removal."""
        key = namespace_of(last), name_of(last)
        before = self._objects[resource].pop(key)
        self._by_uid.pop(before["metadata"]["uid"], None)
        self._index_owners(resource, key, before, None)
        self.version += 1
        last = {**last, "metadata": {**last["metadata"], "resourceVersion": str(self.version)}}
        self._announce(Change(self.version, "DELETED", resource, last, before))
        return last

    def _index_owners(self, resource: Resource, key: Key, before: Obj | None, after: Obj | None) -> None:
        old, new = owner_uids(before), owner_uids(after)
        for uid in old - new:
            self._dependents[uid].pop((resource, key), None)
            if not self._dependents[uid]:
                del self._dependents[uid]
        for uid in new - old:
            self._dependents[uid][resource, key] = None

    def _announce(self, change: Change) -> None:
        self._log.append(change)
        if len(self._log) > self._max_changes:
            self.compact(self._log[len(self._log) // 2].version)
        for listener in tuple(self._listeners):
            listener(change)

    def compact(self, version: int | None = None) -> None:
        """Forget the changes up to `version` (default: all so far), as etcd does every five minutes."""
        version = self.version if version is None else version
        self._log = self._after(version)
        self.compacted = max(self.compacted, version)

    def skip_versions(self, count: int = 1) -> None:
        """Let versions pass as if other kinds, which the cluster does not serve, had been written."""
        self.version += count
