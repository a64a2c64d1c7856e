"""What a workspace needs before its notebook server can be made: its namespace and its volume.

Both outlive notebook servers, and are never deleted nor changed here. One that says it is another workspace's is not
used: shortened ids collide.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from proxy.backends.kubernetes import manifests, ownership
from proxy.backends.kubernetes.api import path_to
from proxy.backends.kubernetes.calls import CORE
from proxy.errors import ForeignObject, StartFailed
from proxy.naming import is_template

if TYPE_CHECKING:
    from proxy.backends.kubernetes.api import Object
    from proxy.backends.kubernetes.calls import Calls
    from proxy.config import Config
    from proxy.workspace import Key


class Surroundings:
    """Finds or makes them.

    Args:
        calls: to the API server.
        config: `create_namespace`, `namespace_manifests`, `workspace_pvc_*`.
    """

    def __init__(self, calls: Calls, config: Config) -> None:
        self._calls = calls
        self._config = config

    async def prepare(self, key: Key) -> None:
        """See to the namespace, then to the volume.

        Raises:
            StartFailed: something is missing that the settings do not let be made, or the API server refuses it.
            ForeignObject: it is another workspace's.
        """
        if self._config.create_namespace:
            await self._ensure_namespace(key)
        elif is_template(self._config.namespace):
            await self._look_at_namespace(key)
        await self.ensure_volume(key)

    async def ensure_volume(self, key: Key) -> None:
        """See to the volume; see `prepare`."""
        body = manifests.build_pvc(key, self._config)
        name = body["metadata"]["name"]
        collection = path_to(CORE, "persistentvolumeclaims", key.namespace)
        found = await self._calls.find(f"{collection}/{name}")
        if found is None and not self._config.workspace_pvc_size:
            await self._look_at_namespace(key)  # a claim is "not found", too, where the whole namespace is not
            raise StartFailed(
                "pvc-missing",
                f"PersistentVolumeClaim {name!r} is missing in namespace {key.namespace!r}; "
                "create it, or set workspace_pvc_size.",
            )
        if found is None:
            found = await self._calls.create(collection, body)
        if found is None:  # somebody was faster
            found = await self._calls.find(f"{collection}/{name}")
        if found is not None and ownership.is_of_another(found, key.workspace_id):
            raise ForeignObject(f"PersistentVolumeClaim {name!r} is labelled for another workspace; it is left alone.")

    async def _look_at_namespace(self, key: Key) -> None:
        """Raise what is wrong with a namespace that is not to be made here."""
        try:
            found = await self._calls.find(path_to(CORE, "namespaces", name=key.namespace))
        except StartFailed as error:
            if error.code != "forbidden":
                raise
            return  # by a Role of one namespace; which is there, then
        if found is None:
            raise StartFailed(
                "namespace-missing", f"Namespace {key.namespace!r} is missing; create it, or set create_namespace."
            )
        _refuse_of_another(key, found)

    async def _ensure_namespace(self, key: Key) -> None:
        path = path_to(CORE, "namespaces", name=key.namespace)
        found = await self._calls.find(path)
        if found is None:
            body = manifests.build_namespace(key, self._config)
            found = await self._calls.create(path_to(CORE, "namespaces"), body) or await self._calls.find(path) or {}
        _refuse_of_another(key, found)
        labels = found.get("metadata", {}).get("labels") or {}
        if labels.get(ownership.MANAGED_BY) == ownership.MANAGER:
            # Also where it was made before: a crash may have come between. What is there already is left as it is.
            for group_version, plural, body in self._namespace_objects(key):
                await self._calls.create(path_to(group_version, plural, key.namespace), body)

    def _namespace_objects(self, key: Key) -> list[tuple[str, str, Object]]:
        if not self._config.namespace_manifests:
            return []
        try:
            text = Path(self._config.namespace_manifests).read_text(encoding="utf-8")
            return manifests.build_namespace_objects(key, text)
        except (OSError, ValueError) as error:
            raise StartFailed("bad-namespace-manifests", f"namespace_manifests cannot be used: {error}") from error


def _refuse_of_another(key: Key, namespace: Object) -> None:
    if ownership.is_of_another(namespace, key.workspace_id):
        raise ForeignObject(f"Namespace {key.namespace!r} is labelled for another workspace; it is left alone.")
