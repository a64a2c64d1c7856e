"""Make a workspace's objects, or take those that are there, in an order that no crash can spoil.

The Deployment comes first, with no replica; then the Secret and the Service that it owns; then its one replica. What a
crash leaves is completed by the next start, of any replica. What is not ours is never touched.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.kubernetes import failures, manifests, ownership
from proxy.backends.kubernetes.api import ApiError, ApiFailure, path_to
from proxy.backends.kubernetes.fence import annotations_of, format_time
from proxy.backends.kubernetes.tokens import derive_token
from proxy.errors import ForeignObject, StartFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.backends.kubernetes.api import Api, Object
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.workspace import Key

APPS, CORE = "apps/v1", "v1"
_LOOKS: Final = 5  # how often a name that is taken and free again in turn is looked at


def refused(error: ApiFailure) -> StartFailed:
    """Return what a failed call means for a start."""
    if isinstance(error, ApiError) and not error.is_server_error:
        diagnosis = failures.of_refusal(error.reason, error.message, error.causes, error.status)
        return StartFailed(diagnosis.code, diagnosis.message)
    return StartFailed("api-unavailable", f"Kubernetes does not answer: {error}", retry_after=5)


class Objects:
    """Makes and deletes the objects of workspaces. Every method raises `StartFailed` for what the API server refuses.

    Args:
        api: to write with.
        config: what the manifests are built from.
        clock: its wall clock stamps what is made.
        key_secrets: key id to secret; the first is what new tokens are derived from.
    """

    def __init__(self, api: Api, config: Config, clock: Clock, key_secrets: Mapping[str, str]) -> None:
        self._api = api
        self._config = config
        self._clock = clock
        self._secrets = key_secrets

    def path(self, key: Key, plural: str) -> str:
        """Return the path of one of a workspace's objects."""
        group = APPS if plural == "deployments" else CORE
        return path_to(group, plural, key.namespace, key.safe_deployment_name())

    async def ensure(self, key: Key) -> Object | None:
        """Return the workspace's Deployment with all that belongs to it and one replica; None while an old one ends.

        Raises:
            StartFailed: the API server refuses, or does not answer.
            ForeignObject: something that is not ours has one of the names.
        """
        for _ in range(_LOOKS):
            found = await self.find(key)
            if found is None:
                await self._prepare(key)
                found = await self._create_deployment(key)
            if found is None:
                continue  # somebody else was faster, or it was gone again
            if not ownership.is_ours(found, key):
                raise ForeignObject(f"Deployment {key.deployment_name!r} is not of notebook-proxy; it is left alone.")
            if found["metadata"].get("deletionTimestamp"):
                return None
            return await self._complete(key, found)
        raise StartFailed("unstable", "Its Deployment is made and deleted again and again; look who does it.")

    async def find(self, key: Key) -> Object | None:
        """Return the Deployment that has the workspace's name, whoever made it; None if there is none."""
        return await self._get(self.path(key, "deployments"))

    async def delete_service(self, key: Key) -> None:
        """Delete the workspace's Service if it is ours; gone is success. The Secret goes with its owner."""
        path = self.path(key, "services")
        found = await self._get(path)
        if found is None or not ownership.is_ours(found, key):
            return
        try:
            await self._api.delete(path, uid=found["metadata"]["uid"])
        except ApiError as error:
            if not (error.is_not_found or error.is_conflict):
                raise refused(error) from error
        except ApiFailure as error:
            raise refused(error) from error

    def token_of(self, key: Key, deployment: Mapping[str, Any]) -> str | None:
        """Return the token of the notebook server that runs, or None if its secret is not known any more."""
        said = annotations_of(deployment)
        secret = self._secrets.get(said.get(ownership.KEY_ID, ""))
        nonce = said.get(ownership.TOKEN_NONCE)
        return derive_token(secret, key.workspace_id, nonce) if secret and nonce else None

    # --

    async def _get(self, path: str) -> Object | None:
        try:
            return await self._api.get(path)
        except ApiError as error:
            if error.is_not_found:
                return None
            raise refused(error) from error
        except ApiFailure as error:
            raise refused(error) from error

    async def _create(self, collection: str, body: Object) -> Object | None:
        """Create an object; None if the name is taken."""
        try:
            return await self._api.create(collection, body)
        except ApiError as error:
            if error.is_already_exists:
                return None
            raise refused(error) from error
        except ApiFailure as error:
            if error.may_be_done:
                return None  # it may have been carried out: look
            raise refused(error) from error

    async def _prepare(self, key: Key) -> None:
        """See to the namespace and the volume."""
        if self._config.create_namespace:
            await self._ensure_namespace(key)
        body = manifests.build_pvc(key, self._config)
        name = body["metadata"]["name"]
        path = path_to(CORE, "persistentvolumeclaims", key.namespace, name)
        found = await self._get(path)
        if found is None and not self._config.workspace_pvc_size:
            raise StartFailed(
                "pvc-missing", f"PersistentVolumeClaim {name!r} is missing; create it, or set workspace_pvc_size."
            )
        if found is None:
            await self._create(path_to(CORE, "persistentvolumeclaims", key.namespace), body)
        elif ownership.is_of_another(found, key.workspace_id):
            raise ForeignObject(f"PersistentVolumeClaim {name!r} is labelled for another workspace; it is left alone.")

    async def _ensure_namespace(self, key: Key) -> None:
        found = await self._get(path_to(CORE, "namespaces", name=key.namespace))
        if found is not None and ownership.is_of_another(found, key.workspace_id):
            raise ForeignObject(f"Namespace {key.namespace!r} is labelled for another workspace; it is left alone.")
        if found is None:
            await self._create(path_to(CORE, "namespaces"), manifests.build_namespace(key, self._config))
        if found is None or (found["metadata"].get("labels") or {}).get(ownership.MANAGED_BY) == ownership.MANAGER:
            # Also where it was made before: a crash may have come between. What is there already is left as it is.
            for group_version, plural, body in self._namespace_objects(key):
                await self._create(path_to(group_version, plural, key.namespace), body)

    def _namespace_objects(self, key: Key) -> list[tuple[str, str, Object]]:
        if not self._config.namespace_manifests:
            return []
        try:
            text = Path(self._config.namespace_manifests).read_text(encoding="utf-8")
            return manifests.build_namespace_objects(key, text)
        except (OSError, ValueError) as error:
            raise StartFailed("bad-namespace-manifests", f"namespace_manifests cannot be used: {error}") from error

    async def _create_deployment(self, key: Key) -> Object | None:
        key_id = next(iter(self._secrets))
        body = manifests.build_deployment(key, self._config)
        body["spec"]["replicas"] = 0
        body["metadata"]["annotations"] |= {
            ownership.KEY_ID: key_id,
            ownership.TOKEN_NONCE: secrets.token_hex(16),
            ownership.LAST_ACTIVE: format_time(self._clock.now()),
        }
        return await self._create(path_to(APPS, "deployments", key.namespace), body)

    async def _complete(self, key: Key, deployment: Object) -> Object:
        """Give the Deployment what it lacks: its Secret, its Service, the template of today, its replica."""
        token = self.token_of(key, deployment)
        if token is None:
            raise StartFailed(
                "key-unknown", "It was started with a notebook_secret that is not known here; stop it first."
            )
        owner = manifests.owner_reference(deployment)
        await self._ensure_owned(key, "secrets", manifests.build_secret(key, self._config, token, owner), owner)
        service = manifests.build_service(key, self._config, owner=owner)
        await self._ensure_owned(key, "services", service, owner)
        wanted = manifests.build_deployment(key, self._config)
        changes: Object = {}
        if deployment["spec"].get("replicas") != 1:
            changes["spec"] = {"replicas": 1}
        hash_of = ownership.TEMPLATE_HASH
        if (
            not is_ready(deployment)
            and annotations_of(deployment).get(hash_of) != wanted["metadata"]["annotations"][hash_of]
        ):
            template = replacement(deployment["spec"]["template"], wanted["spec"]["template"])
            changes["spec"] = {"replicas": 1, "template": template}
            changes["metadata"] = {"annotations": {hash_of: wanted["metadata"]["annotations"][hash_of]}}
        if not changes:
            return deployment
        try:
            return await self._api.patch(self.path(key, "deployments"), changes)
        except ApiFailure as error:
            raise refused(error) from error

    async def _ensure_owned(self, key: Key, plural: str, body: Object, owner: Object) -> None:
        """Create an object that the Deployment owns; replace one of ours that an earlier Deployment owned."""
        path = self.path(key, plural)
        for _ in range(_LOOKS):
            if await self._create(path_to(CORE, plural, key.namespace), body) is not None:
                return
            found = await self._get(path)
            if found is None:
                continue
            if not ownership.is_ours(found, key):
                raise ForeignObject(
                    f"{body['kind']} {key.deployment_name!r} is not of notebook-proxy; it is left alone."
                )
            owners = [ref.get("uid") for ref in found["metadata"].get("ownerReferences") or ()]
            if owner["uid"] in owners and not found["metadata"].get("deletionTimestamp"):
                return
            with contextlib.suppress(ApiError):  # somebody else was faster: look again
                await self._api.delete(path, uid=found["metadata"]["uid"])
        raise StartFailed("unstable", f"Its {body['kind']} is made and deleted again and again; look who does it.")


def replacement(old: Any, new: Any) -> Any:
    """Return the merge patch (RFC 7396) that leaves nothing of `old` but what `new` has."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    gone = dict.fromkeys(old.keys() - new.keys())
    return gone | {name: replacement(old.get(name), value) for name, value in new.items()}


def is_ready(deployment: Mapping[str, Any]) -> bool:
    """Tell whether a Deployment's pod is ready: of this generation, and not being deleted."""
    meta, status = deployment["metadata"], deployment.get("status", {})
    return (
        not meta.get("deletionTimestamp")
        and deployment["spec"].get("replicas") == 1
        and status.get("observedGeneration", 0) >= meta.get("generation", 1)
        and (status.get("readyReplicas") or 0) >= 1
        and (status.get("updatedReplicas") or 0) >= 1
    )
