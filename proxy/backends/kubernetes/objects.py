"""Make a workspace's objects, or take those that are there, in an order that no crash can spoil.

The Deployment comes first, with no replica; then the Secret and the Service that it owns; then its one replica. What a
crash leaves is completed by the next start, of any replica. What is not ours is never touched, and every write names
the UID of what it was meant for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from proxy.backends.kubernetes import manifests, ownership
from proxy.backends.kubernetes.api import path_to
from proxy.backends.kubernetes.api_errors import ApiFailure
from proxy.backends.kubernetes.calls import APPS, CORE, Calls, refused
from proxy.backends.kubernetes.fence import annotations_of, format_time, last_active_of
from proxy.backends.kubernetes.noting import find_notes
from proxy.backends.kubernetes.profiled import build_profiled
from proxy.backends.kubernetes.surroundings import Surroundings
from proxy.errors import ForeignObject, StartFailed
from proxy.notes import Notes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.backends.kubernetes.api import Api, Object
    from proxy.backends.kubernetes.keys import Keys
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.workspace import Key

_LOOKS: Final = 5  # how often a name that is taken and free again in turn is looked at
_PAUSE: Final = 0.1  # seconds before the second look; doubles


class Objects:
    """Makes and deletes the objects of workspaces. Every method raises `StartFailed` for what the API server refuses.

    Args:
        api: to write with.
        config: what the manifests are built from.
        clock: its wall clock stamps what is made.
        keys: what tokens are derived from.
    """

    def __init__(self, api: Api, config: Config, clock: Clock, keys: Keys) -> None:
        self._api = api
        self._calls = Calls(api)
        self._config = config
        self._clock = clock
        self.keys = keys
        self.surroundings = Surroundings(self._calls, config)

    async def ensure(self, key: Key, user: str = "", *, is_clear: Callable[[], bool] = lambda: True) -> Object | None:
        """Return the workspace's Deployment with all that belongs to it and one replica; None while an old one ends.

        Args:
            key: the workspace.
            user: for whom it is started, if that is known.
            is_clear: tells whether no pod of an earlier Deployment is left.

        Raises:
            StartFailed: the API server refuses, or does not answer.
            ForeignObject: something that is not ours has one of the names.
        """
        for look in range(_LOOKS):
            found, is_new = await self.find(key), False
            if found is None:
                if not is_clear():
                    return None
                await self.surroundings.prepare(key)
                found, is_new = await self._create_deployment(key, user), True
            if found is not None:
                if not ownership.is_ours(found, key):
                    raise ForeignObject(
                        f"Deployment {key.deployment_name!r} is not of notebook-proxy; it is left alone."
                    )
                if _is_ending(found):
                    return None
                completed = await self._complete(key, found, user, is_new=is_new)
                if completed is not None:
                    return None if _is_ending(completed) else completed
            await self._clock.sleep(_PAUSE * 2**look if look else 0)  # somebody else is at it
        raise StartFailed("unstable", "Its Deployment is made and deleted again and again; look who does it.")

    async def find(self, key: Key) -> Object | None:
        """Return the Deployment that has the workspace's name, whoever made it; None if there is none."""
        return await self._calls.find(_path(key, "deployments"))

    async def delete_service(self, key: Key, owner_uid: str | None) -> None:
        """Delete the workspace's Service if it is ours and not a later Deployment's; gone is success."""
        path = _path(key, "services")
        found = await self._calls.find(path)
        if found is not None and ownership.is_ours(found, key) and _is_left_of(found, owner_uid):
            await self._calls.delete(path, found)

    async def learn_token(self, key: Key, deployment: Mapping[str, Any]) -> str | None:
        """Return the token that the Deployment's Secret holds, and remember it; None if there is no such Secret.

        For a token that was derived from a secret which is not known (any more), or made by hand.
        """
        found = await self._calls.find(_path(key, "secrets"))
        if found is None or not ownership.is_ours(found, key) or _is_ending(found):
            return None
        if not _is_left_of(found, deployment["metadata"]["uid"]):
            return None
        return self.keys.learn(key, deployment, found)

    async def _build(self, key: Key) -> Object:
        """Return the Deployment of a workspace with the profile that is chosen for it now."""
        return build_profiled(key, self._config, await self._notes(key) if self._config.profiles else Notes())

    async def _notes(self, key: Key) -> Notes:
        try:
            return await find_notes(self._api, key, self._config)
        except ApiFailure as error:
            raise refused(error) from error

    async def _create_deployment(self, key: Key, user: str) -> Object | None:
        body = await self._build(key)
        body["spec"]["replicas"] = 0
        now = format_time(self._clock.now())
        body["metadata"]["annotations"] |= {**self.keys.new_annotations(), ownership.LAST_ACTIVE: now}
        if user:
            body["metadata"]["annotations"][ownership.USER] = user
        return await self._calls.create(path_to(APPS, "deployments", key.namespace), body)

    async def _complete(self, key: Key, deployment: Object, user: str, *, is_new: bool) -> Object | None:
        """Give the Deployment what it lacks: Secret, Service, today's template, its replica; None to look again."""
        token = self.keys.token_of(key, deployment) or await self.learn_token(key, deployment)
        if token is None:  # made by hand, without a Secret, or of a key that is lost with it: a new token
            changes = {"metadata": {"annotations": self.keys.new_annotations()}}
            await self._calls.patch(_path(key, "deployments"), deployment, changes)
            return None
        owner = manifests.owner_reference(deployment)
        await self._ensure_owned(key, "secrets", manifests.build_secret(key, self._config, token, owner), owner)
        await self._ensure_owned(key, "services", manifests.build_service(key, self._config, owner=owner), owner)
        changes = await self._changes(key, deployment, user, is_new=is_new)
        return await self._calls.patch(_path(key, "deployments"), deployment, changes) if changes else deployment

    async def _changes(self, key: Key, deployment: Object, user: str, *, is_new: bool) -> Object:
        """Return the merge patch that makes the Deployment what it should be, and says that it is used."""
        said, annotations = annotations_of(deployment), dict[str, str | None]()
        spec: Object = {} if deployment["spec"].get("replicas") == 1 else {"replicas": 1}
        if not is_new:  # a request wins over a reap that may be under way
            stored, now = last_active_of(deployment), self._clock.now()
            if stored is None or stored < now:
                annotations[ownership.LAST_ACTIVE] = format_time(now)
            if ownership.REAP_MARK in said:
                annotations[ownership.REAP_MARK] = None
        if not looks_ready(deployment):
            if user and said.get(ownership.USER) != user:
                annotations[ownership.USER] = user
            wanted = deployment if is_new else await self._build(key)
            new = annotations_of(wanted)
            if said.get(ownership.TEMPLATE_HASH) != new[ownership.TEMPLATE_HASH]:
                spec["replicas"] = 1
                spec["template"] = replacement(deployment["spec"]["template"], wanted["spec"]["template"])
                for name in (ownership.TEMPLATE_HASH, ownership.PROFILE):
                    annotations[name] = new[name]
        changes: Object = {"spec": spec} if spec else {}
        return changes | ({"metadata": {"annotations": annotations}} if annotations else {})

    async def _ensure_owned(self, key: Key, plural: str, body: Object, owner: Object) -> None:
        """Create an object that the Deployment owns; keep one of ours that nobody owns, as if made by hand.

        One of ours is replaced if an earlier Deployment owns it, or if it holds another token.
        """
        path = _path(key, plural)
        for look in range(_LOOKS):
            found = await self._calls.create(path_to(CORE, plural, key.namespace), body)
            found = found or await self._calls.find(path)
            if found is not None:
                if not ownership.is_ours(found, key):
                    raise ForeignObject(
                        f"{body['kind']} {key.deployment_name!r} is not of notebook-proxy; it is left alone."
                    )
                is_good = found.get("data") == body.get("data")  # a pod would take another token than is sent to it
                if is_good and _is_left_of(found, owner["uid"]) and not _is_ending(found):
                    return
                await self._calls.delete(path, found)
            await self._clock.sleep(_PAUSE * 2**look if look else 0)
        raise StartFailed("unstable", f"Its {body['kind']} is made and deleted again and again; look who does it.")


def replacement(old: Any, new: Any) -> Any:
    """Return the merge patch (RFC 7396) that leaves nothing of `old` but what `new` has."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    gone = dict.fromkeys(old.keys() - new.keys())
    return gone | {name: replacement(old.get(name), value) for name, value in new.items()}


def is_ready(deployment: Mapping[str, Any]) -> bool:
    """Tell whether a Deployment's pod is ready: of this generation, and not being deleted."""
    observed = (deployment.get("status") or {}).get("observedGeneration") or 0
    return looks_ready(deployment) and observed >= deployment["metadata"].get("generation", 1)


def looks_ready(deployment: Mapping[str, Any]) -> bool:
    """Tell whether nothing speaks against a Deployment's pod being ready: its status may be of an earlier generation.

    Any write of an annotation makes a new generation of a Deployment, which its controller observes a moment later.
    """
    status = deployment.get("status") or {}
    return (
        not deployment["metadata"].get("deletionTimestamp")
        and deployment["spec"].get("replicas") == 1
        and (status.get("readyReplicas") or 0) >= 1
        and (status.get("updatedReplicas") or 0) >= 1
    )


def _path(key: Key, plural: str) -> str:
    group_version = APPS if plural == "deployments" else CORE
    return path_to(group_version, plural, key.namespace, key.safe_deployment_name())


def _is_ending(found: Mapping[str, Any]) -> bool:
    return bool(found["metadata"].get("deletionTimestamp"))


def _is_left_of(found: Mapping[str, Any], owner_uid: str | None) -> bool:
    """Tell whether a Deployment owns an object, or nobody does: one that was made by hand."""
    owners = [reference.get("uid") for reference in found["metadata"].get("ownerReferences") or ()]
    return not owners or owner_uid in owners
