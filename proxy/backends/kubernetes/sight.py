"""What the cluster shows of workspaces, as three reflectors last saw it: their Deployments, Services and pods.

Everything is derived from that, nothing is remembered beside it. Only what is ours, and of this proxy's namespaces, is
shown. No method awaits.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from yarl import URL

from proxy.backends.kubernetes import manifests, ownership
from proxy.backends.kubernetes.api import path_to
from proxy.backends.kubernetes.calls import APPS, CORE
from proxy.backends.kubernetes.objects import is_ready
from proxy.backends.kubernetes.reflector import Change, Reflector
from proxy.errors import InvalidKey
from proxy.naming import is_template, namespace_of
from proxy.workspace import Handle, Key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.backends.kubernetes.api import Api
    from proxy.backends.kubernetes.keys import Keys
    from proxy.clock import Clock
    from proxy.config import Config


class Sight:
    """Sees.

    Args:
        api: to follow.
        config: `namespace`, and what URLs are made of.
        clock: paces the reflectors.
        on_change: called after every change, with the workspace it is of.
        on_claim: the same for its PersistentVolumeClaim.
    """

    def __init__(
        self,
        api: Api,
        config: Config,
        clock: Clock,
        on_change: Callable[[Key, Change], None],
        on_claim: Callable[[Key, Change], None],
    ) -> None:
        self._tell_claim = on_claim
        self._config = config
        self._tell = on_change
        self._pods: dict[Key, dict[str, Mapping[str, Any]]] = defaultdict(dict)
        namespace = None if is_template(config.namespace) else config.namespace

        def follow(plural: str, group_version: str, on_change: Callable[[Change], None]) -> Reflector:
            path = path_to(group_version, plural, namespace)
            return Reflector(api, path, labels=ownership.SELECTOR, on_change=on_change, clock=clock)

        self.deployments = follow("deployments", APPS, self._on_change)
        self.services = follow("services", CORE, self._on_change)
        self.pods = follow("pods", CORE, self._on_pod)
        self.claims = follow("persistentvolumeclaims", CORE, self._on_claim)
        self.keys: Keys | None = None
        """Where tokens are to be had; nothing has a handle before."""

    @property
    def reflectors(self) -> tuple[Reflector, ...]:
        """Those without which nothing is known to run; whoever owns this runs them, and `claims`."""
        return self.deployments, self.services, self.pods

    @property
    def by_plural(self) -> dict[str, Reflector]:
        """All of them, by the plural of what they follow."""
        all_of_them = (*self.reflectors, self.claims)
        return dict(zip(("deployments", "services", "pods", "persistentvolumeclaims"), all_of_them, strict=True))

    def workspaces(self) -> list[Key]:
        """Return those that have a Deployment."""
        return [key for key in map(self.key_of, self.deployments.items()) if key is not None]

    def running_for(self, user: str) -> list[Key]:
        """Return those whose Deployment says that it runs, or is about to, for this user."""
        theirs = (each for each in self.deployments.items() if ownership.user_of(each) == user and _is_up(each))
        return [key for key in map(self.key_of, theirs) if key is not None]

    def deployment(self, key: Key) -> Mapping[str, Any] | None:
        """Return the workspace's Deployment, if there is one of ours."""
        found = self.deployments.get(key.namespace, key.deployment_name)
        return found if found is not None and ownership.is_ours(found, key) else None

    def running(self, key: Key) -> Mapping[str, Any] | None:
        """Return the workspace's Deployment if it is ready."""
        deployment = self.deployment(key)
        return deployment if deployment is not None and is_ready(deployment) else None

    def pods_of(self, key: Key) -> list[Mapping[str, Any]]:
        """Return the workspace's pods, those that end included."""
        return list(self._pods[key].values()) if key in self._pods else []

    def handle_of(self, key: Key) -> Handle | None:
        """Return where a workspace's server is to be found, ready or not; None while that is not known."""
        deployment = self.deployment(key)
        service = self.services.get(key.namespace, key.deployment_name)
        if deployment is None or service is None or self.keys is None or not ownership.is_ours(service, key):
            return None
        address = service["spec"].get("clusterIP")
        token = self.keys.token_of(key, deployment)
        if token is None or address in (None, "", "None"):
            return None
        url = URL(manifests.service_url(key, self._config))
        return Handle(url, {"Authorization": f"token {token}"}, address=(address, manifests.PORT))

    def is_here(self, key: Key) -> bool:
        """Tell whether the workspace is in the namespace that the settings give it: no other is followed."""
        try:
            return namespace_of(self._config.namespace, key.workspace_id) == key.namespace
        except InvalidKey:
            return False

    def key_of(self, obj: Mapping[str, Any]) -> Key | None:
        """Return whose object this is; None if it does not say so in a way that can be true."""
        meta = obj["metadata"]
        key = Key(str((meta.get("labels") or {}).get(ownership.WORKSPACE_ID, "")), meta.get("namespace", ""))
        return key if ownership.is_ours(obj, key) and self.is_here(key) else None

    def _on_change(self, change: Change) -> None:
        key = self.key_of(change.object)
        if key is not None:
            self._tell(key, change)

    def _on_claim(self, change: Change) -> None:
        key = self.key_of(change.object)
        if key is not None:
            self._tell_claim(key, change)

    def _on_pod(self, change: Change) -> None:
        key = self.key_of(change.object)
        if key is None:
            return
        name = change.object["metadata"]["name"]
        if change.new is not None:
            self._pods[key][name] = change.new
        else:
            self._pods[key].pop(name, None)
            if not self._pods[key]:
                del self._pods[key]
        self._tell(key, change)


def _is_up(deployment: Mapping[str, Any]) -> bool:
    return not deployment["metadata"].get("deletionTimestamp") and deployment["spec"].get("replicas") != 0
