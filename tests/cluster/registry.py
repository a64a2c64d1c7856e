"""What a write means: admission, preconditions, generations, finalizers, graceful deletion. Alone writes the store.

The HTTP server and the controllers go through the same methods, none of which awaits, so a write is atomic. Knows
nothing of HTTP, users or processes.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from tests.cluster import answers, kinds, patches, resources
from tests.cluster.quota import check_quota
from tests.cluster.resources import Obj, Resource, clone, is_terminating, name_of

if TYPE_CHECKING:
    from tests.cluster.store import Store

FOREGROUND, ORPHAN = "foregroundDeletion", "orphan"
# The letters Kubernetes makes suffixes of: no vowels, so no words.
SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
# What a writer cannot change: the server's own part of the metadata.
_SERVERS_OWN = (
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "namespace",
)

Admission = Callable[[str, Resource, Obj], None]


@dataclass(frozen=True)
class DeleteOptions:
    """What a delete asks for; None means the kind's default."""

    policy: str | None = None
    grace_seconds: int | None = None
    uid: str | None = None
    version: str | None = None
    dry_run: bool = False

    @classmethod
    def parse(cls, body: Obj) -> DeleteOptions:
        """Read a `DeleteOptions` body."""
        preconditions = body.get("preconditions") or {}
        policy = body.get("propagationPolicy")
        if body.get("orphanDependents") is not None:
            policy = "Orphan" if body["orphanDependents"] else "Background"
        return cls(
            policy=policy,
            grace_seconds=body.get("gracePeriodSeconds"),
            uid=preconditions.get("uid"),
            version=preconditions.get("resourceVersion"),
            dry_run=bool(body.get("dryRun")),
        )


def random_suffix() -> str:
    """Return five letters as `generateName` appends them."""
    return "".join(random.choices(SUFFIX_LETTERS, k=5))


def timestamp(moment: datetime) -> str:
    """Write a time as Kubernetes does: RFC 3339, UTC, whole seconds."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class Registry:
    """Creates, updates, patches and deletes objects by the API's rules."""

    def __init__(self, store: Store, allocate_ip: Callable[[], str]) -> None:
        self.store = store
        self.admission: list[Admission] = []
        self._allocate_ip = allocate_ip

    def now(self) -> str:
        """Return the current time as objects carry it."""
        return timestamp(datetime.now(UTC))

    def get(self, resource: Resource, namespace: str, name: str) -> Obj:
        """Return the object.

        Raises:
            ApiError: 404.
        """
        found = self.store.get(resource, namespace, name)
        if found is None:
            raise answers.not_found(resource, name)
        return found

    def create(self, resource: Resource, namespace: str, obj: Obj, *, dry_run: bool = False) -> Obj:
        """Store a new object and return it.

        Raises:
            ApiError: 409 the name is taken; 422 it breaks a rule; 403 quota, webhook or a terminating namespace; 404 no
                such namespace.
        """
        obj = clone(obj)
        metadata = obj.setdefault("metadata", {})
        if resource.namespaced and metadata.get("namespace", namespace) != namespace:
            raise answers.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + random_suffix()
        name = metadata.setdefault("name", "")
        self._require_namespace(resource, namespace, name)
        kinds.validate_name(resource, name)
        for own in (*_SERVERS_OWN, "resourceVersion"):
            metadata.pop(own, None)
        obj["kind"], obj["apiVersion"] = resource.kind, resource.api_version
        metadata["uid"], metadata["creationTimestamp"] = str(uuid.uuid4()), self.now()
        if resource.namespaced:
            metadata["namespace"] = namespace
        if resource.has_generation:
            metadata["generation"] = 1
        kinds.apply_defaults(resource, obj)
        kinds.initialise(resource, obj)
        _drop_empty(metadata)
        kinds.validate(resource, obj, None)
        existing = self.store.get(resource, namespace, name)
        if existing is not None:
            raise answers.already_exists(resource, name, being_deleted=is_terminating(existing))
        self._admit("create", resource, obj)
        check_quota(self.store, resource, obj)
        if dry_run:
            return obj
        if resource == resources.SERVICES and obj["spec"].get("clusterIP") is None:
            address = self._allocate_ip()
            obj["spec"] |= {"clusterIP": address, "clusterIPs": [address]}
        return self.store.put(resource, obj)

    def _require_namespace(self, resource: Resource, namespace: str, name: str) -> None:
        if not resource.namespaced:
            return
        found = self.store.get(resources.NAMESPACES, "", namespace)
        if found is None:
            raise answers.not_found(resources.NAMESPACES, namespace)
        if is_terminating(found):
            raise answers.terminating(resource, name, namespace)

    def _admit(self, verb: str, resource: Resource, obj: Obj) -> None:
        for admit in self.admission:
            admit(verb, resource, obj)

    def update(
        self, resource: Resource, namespace: str, name: str, obj: Obj, *, subresource: str = "", dry_run: bool = False
    ) -> Obj:
        """Replace the object (or its status) and return what is stored; what changes nothing moves no version.

        Raises:
            ApiError: 404; 409 `obj` carries another version or UID than the stored one; 422; 403.
        """
        current = self.get(resource, namespace, name)
        metadata = obj.get("metadata") or {}
        if metadata.get("name", name) != name:
            raise answers.bad_request("the name of the object does not match the name on the URL")
        own = current["metadata"]
        if metadata.get("resourceVersion", own["resourceVersion"]) not in {own["resourceVersion"], ""}:
            raise answers.stale(resource, name)
        if metadata.get("uid", own["uid"]) != own["uid"]:
            raise answers.stale(resource, name)
        obj = {**obj, "status": clone(obj.get("status") or {})} if subresource == "status" else clone(obj)
        proposed = self._propose(resource, current, obj, subresource)
        if proposed == current:
            return current
        kinds.validate(resource, proposed, current)
        self._admit("update", resource, proposed)
        if dry_run:
            return proposed
        if is_terminating(proposed) and not self._is_held(resource, proposed):
            # The write that empties the finalizers is never stored: watchers see them in the last state.
            held = {k: v for k, v in current["metadata"].items() if k == "finalizers"}
            return self.store.remove(resource, {**proposed, "metadata": {**proposed["metadata"], **held}})
        return self.store.put(resource, proposed)

    def _propose(self, resource: Resource, current: Obj, obj: Obj, subresource: str) -> Obj:
        """Return `current` with what the writer may change taken from `obj`."""
        metadata = {**obj.get("metadata", {}), "name": name_of(current)}
        for field in (*_SERVERS_OWN, "resourceVersion"):
            metadata.pop(field, None)
            if field in current["metadata"]:
                metadata[field] = current["metadata"][field]
        if subresource == "status":
            annotations = metadata.get("annotations")
            proposed = {**current, "metadata": {**current["metadata"]}, "status": obj["status"]}
            if annotations:
                proposed["metadata"]["annotations"] = annotations
            return proposed
        proposed = {**obj, "kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
        if resource.has_status:
            proposed["status"] = current["status"]
        if resource == resources.SERVICES:
            for field in ("clusterIP", "clusterIPs"):
                proposed["spec"].setdefault(field, current["spec"][field])
        if resource == resources.PODS:
            proposed["spec"]["nodeName"] = current["spec"].get("nodeName")
            if proposed["spec"]["nodeName"] is None:
                del proposed["spec"]["nodeName"]
        _drop_empty(metadata)
        kinds.apply_defaults(resource, proposed)
        if resource.has_generation and _asks_for_more(resource, current, proposed):
            metadata["generation"] += 1
        return proposed

    def patch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        body: Any,
        *,
        content_type: str = "application/merge-patch+json",
        subresource: str = "",
        dry_run: bool = False,
    ) -> Obj:
        """Patch the object (or its status) and return what is stored. Server-side apply creates it if it is not there.

        Raises:
            ApiError: as `update`; 415 another content type; 422 a JSON patch whose `test` fails.
        """
        applies = content_type == "application/apply-patch+yaml"
        if applies and self.store.get(resource, namespace, name) is None:
            return self.create(resource, namespace, body, dry_run=dry_run)
        current = self.get(resource, namespace, name)
        if content_type == "application/json-patch+json":
            patched = patches.json_patch(current, body)
        elif content_type == "application/merge-patch+json":
            patched = patches.merge_patch(current, body)
        elif applies or content_type == "application/strategic-merge-patch+json":
            patched = patches.strategic_merge_patch(current, body)
        else:
            raise answers.failure(
                415, "UnsupportedMediaType", f"the body of the request was in an unknown format - {content_type}"
            )
        return self.update(resource, namespace, name, patched, subresource=subresource, dry_run=dry_run)

    def set_status(self, resource: Resource, obj: Obj, status: Obj) -> Obj:
        """Replace the status of the stored object with `obj`'s name; a stale version is no obstacle."""
        current = self.get(resource, resources.namespace_of(obj), name_of(obj))
        return self.update(
            resource, resources.namespace_of(obj), name_of(obj), {**current, "status": status}, subresource="status"
        )

    def bind(self, namespace: str, name: str, node: str, **status: Any) -> None:
        """Assign a pod to a node.

        Raises:
            ApiError: 404; 409 it has a node, or is on its way out.
        """
        pod = self.get(resources.PODS, namespace, name)
        if pod["spec"].get("nodeName"):
            raise answers.already_bound(name, pod["spec"]["nodeName"])
        if is_terminating(pod):
            raise answers.stale(resources.PODS, name)
        scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": self.now()}
        others = [c for c in pod["status"].get("conditions", []) if c["type"] != "PodScheduled"]
        bound = {
            **pod,
            "metadata": dict(pod["metadata"]),
            "spec": {**pod["spec"], "nodeName": node},
            "status": {**pod["status"], "conditions": [*others, scheduled], **status},
        }
        self.store.put(resources.PODS, bound)

    def delete(self, resource: Resource, namespace: str, name: str, options: DeleteOptions | None = None) -> Obj:
        """Delete the object, or begin to, and return what a client gets: the object, or a Status if it is gone.

        Raises:
            ApiError: 404; 409 a precondition does not hold; 403 by a webhook.
        """
        options = options or DeleteOptions()
        current = self.get(resource, namespace, name)
        own = current["metadata"]
        if options.uid is not None and options.uid != own["uid"]:
            raise answers.wrong_uid(resource, name, options.uid, own["uid"])
        if options.version is not None and options.version != own["resourceVersion"]:
            raise answers.wrong_version(resource, name, options.version, own["resourceVersion"])
        self._admit("delete", resource, current)
        last = self._mark_deleted(resource, current, options)
        if options.dry_run:
            return last
        if self._is_held(resource, last):
            return current if last == current else self.store.put(resource, last)
        # Nothing holds it: it was never seen terminating, unless a pod's grace ended.
        gone = self.store.remove(resource, last if resource == resources.PODS else current)
        return gone if resource.returns_deleted else answers.success(resource, name, own["uid"])

    def _mark_deleted(self, resource: Resource, current: Obj, options: DeleteOptions) -> Obj:
        """Return the object as a delete leaves it: finalizers by policy, the time its grace ends."""
        metadata = dict(current["metadata"])
        finalizers: list[str] = list(metadata.get("finalizers", []))
        if options.policy is not None:
            finalizers = [f for f in finalizers if f not in {FOREGROUND, ORPHAN}]
            finalizers += {"Foreground": [FOREGROUND], "Orphan": [ORPHAN]}.get(options.policy, [])
        metadata["finalizers"] = finalizers
        _drop_empty(metadata)
        marked = {**current, "metadata": metadata}
        if resource == resources.NAMESPACES:
            marked["status"] = {**current["status"], "phase": "Terminating"}
            metadata.setdefault("deletionTimestamp", self.now())
            return marked
        grace = _grace_seconds(current, options.grace_seconds) if resource == resources.PODS else 0
        if is_terminating(current):
            if grace >= metadata["deletionGracePeriodSeconds"]:
                return marked
        elif resource.has_generation:
            metadata["generation"] += 1
        metadata["deletionTimestamp"] = timestamp(datetime.now(UTC) + timedelta(seconds=grace))
        metadata["deletionGracePeriodSeconds"] = grace
        return marked

    def _is_held(self, resource: Resource, obj: Obj) -> bool:
        """Tell whether a deleted object stays for now: a finalizer, or a pod's grace."""
        if resource == resources.NAMESPACES and obj["spec"].get("finalizers"):
            return True
        if obj["metadata"].get("finalizers"):
            return True
        return resource == resources.PODS and obj["metadata"].get("deletionGracePeriodSeconds", 0) > 0

    def finalize_namespace(self, name: str) -> None:
        """Remove a terminating namespace that is empty."""
        namespace = self.get(resources.NAMESPACES, "", name)
        self.store.remove(resources.NAMESPACES, {**namespace, "spec": {}})


def _grace_seconds(pod: Obj, asked: int | None) -> int:
    # A pod that never reached a node, or has ended, has nothing to end gracefully.
    if not pod["spec"].get("nodeName") or pod["status"].get("phase") in {"Succeeded", "Failed"}:
        return 0
    grace: int = pod["spec"].get("terminationGracePeriodSeconds", 30) if asked is None else asked
    return grace


def _asks_for_more(resource: Resource, before: Obj, after: Obj) -> bool:
    """Tell whether the generation moves: the spec changed, or, for a Deployment, an annotation."""
    ignored = {"metadata", "status"}
    if any(before.get(k) != after.get(k) for k in {*before, *after} - ignored):
        return True
    return resource == resources.DEPLOYMENTS and before["metadata"].get("annotations") != after["metadata"].get(
        "annotations"
    )


def _drop_empty(metadata: Obj) -> None:
    for field in ("labels", "annotations", "finalizers", "ownerReferences"):
        if field in metadata and not metadata[field]:
            del metadata[field]
