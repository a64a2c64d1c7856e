"""Run each workspace's notebook server as one Deployment and one Service.

The API server holds the truth; three reflectors follow it. What runs is derived from what they show, never remembered
beside it: a handle is given out while the Deployment says ready, and reported lost the moment it does not. Only what
is ours is changed or deleted (see `objects`); what replicas must agree on is stored on the Deployment (see `fence`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from proxy.backends.kubernetes import manifests, ownership
from proxy.backends.kubernetes.api import Api, ApiFailure, path_to
from proxy.backends.kubernetes.fence import Fence, Mark, last_active_of
from proxy.backends.kubernetes.keys import load_keys
from proxy.backends.kubernetes.objects import APPS, CORE, Objects, is_ready, refused
from proxy.backends.kubernetes.reflector import Change, Reflector
from proxy.backends.kubernetes.start import Start
from proxy.clock import SystemClock
from proxy.errors import StartFailed, StopFailed
from proxy.naming import is_template
from proxy.workspace import Handle, Key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from proxy.backends import Mark as AnyMark
    from proxy.backends import Observer
    from proxy.clock import Clock
    from proxy.config import Config

logger = logging.getLogger(__name__)

FIRST_SYNC: Final = 10.0  # seconds that `open` waits for the first lists; without them it serves what it can
LOOK_AGAIN: Final = 2.0  # seconds between two looks when no event comes


class KubernetesBackend:
    """The backend for a cluster; see `proxy.backends.Backend` for what its methods promise.

    Any number of replicas may use one cluster. `observe`, then `open`, before anything else.

    Args:
        config: the Kubernetes group, and `namespace`, `ready_path`, `failed_ttl`, `reap_grace`.
        clock: what waits are measured by.
        replica: this process's name, unique among replicas; by default host, process and chance.
    """

    def __init__(self, config: Config, *, clock: Clock | None = None, replica: str | None = None) -> None:
        self._config = config.with_defaults()
        self._clock = clock or SystemClock()
        self._replica = replica or f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}"
        self._observer: Observer | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._handles: dict[Key, Handle] = {}  # what has been given out or reported, and not been lost since
        self._starts: dict[Key, Start] = {}
        self._changed: dict[Key, asyncio.Event] = {}  # of those that somebody waits for

    def observe(self, observer: Observer) -> None:
        """Name the one who is told."""
        self._observer = observer

    async def open(self) -> None:
        """Follow the cluster, and report what runs already; returns when that is known, or after `FIRST_SYNC`.

        Raises:
            ConfigError: there is no usable credential.
        """
        config = self._config
        self.api = await Api.connect(config.kubeconfig or None, config.kube_context or None, clock=self._clock)
        namespace = None if is_template(config.namespace) else config.namespace
        self.deployments = self._follow("deployments", APPS, namespace)
        self.services = self._follow("services", CORE, namespace)
        self.pods = self._follow("pods", CORE, namespace)
        self._fence = Fence(self.api, self._replica, self._clock, config.reap_grace)
        self._objects: Objects | None = None
        reflectors = (self.deployments, self.services, self.pods)
        self._tasks = [asyncio.create_task(reflector.run(), name="reflector") for reflector in reflectors]
        try:
            async with asyncio.timeout(FIRST_SYNC):
                await self._until_synced()
        except TimeoutError:
            logger.warning("Kubernetes does not answer yet; what runs is adopted when it does")
        self._tasks.append(asyncio.create_task(self._adopt(), name="adoption"))

    async def close(self) -> None:
        """Follow the cluster no more. Notebook servers go on running."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            await self.api.close()

    async def start(self, key: Key) -> Handle:
        """Return the handle of a notebook server that answers; whichever replica, or person, made it.

        Raises:
            InvalidKey: the id is not a DNS-1123 label.
            StartFailed: it cannot become ready, or Kubernetes does not answer.
            ForeignObject: something that is not ours has one of its names.
        """
        key.safe_deployment_name()
        objects = await self._get_objects()
        start = self._starts[key] = Start(self, objects, key, self._config, self._clock)
        try:
            handle = await start.run()
        finally:
            del self._starts[key]
        self._handles[key] = handle
        self._look(key)  # it may have been lost in the very moment in which it answered
        return handle

    async def stop(self, key: Key, mark: AnyMark | None = None) -> None:
        """Delete the Deployment, its pods first, and the Service; return when all of it is gone.

        Raises:
            Contested: newer activity is stored.
            StopFailed: Kubernetes does not answer, or a pod does not end.
        """
        assert mark is None or isinstance(mark, Mark)
        try:
            objects = await self._get_objects()
            found = await self.api_get_ours(objects, key)
            if found is not None:
                await self._fence.delete(objects.path(key, "deployments"), mark)
            await objects.delete_service(key)
        except StartFailed as error:
            raise StopFailed(str(error)) from error
        self._handles.pop(key, None)
        if not await self.until_gone(key, objects):
            raise StopFailed(f"The pod of workspace {key.workspace_id!r} has not ended yet; Kubernetes goes on.")

    async def mark(self, key: Key, last_active: datetime) -> Mark:
        """Announce a reap on the Deployment."""
        return await self._fence.mark(path_to(APPS, "deployments", key.namespace, key.deployment_name), last_active)

    async def store(self, key: Key, last_active: datetime, *, pardon: bool = False) -> None:
        """Raise what is stored on the Deployment."""
        path = path_to(APPS, "deployments", key.namespace, key.deployment_name)
        await self._fence.store(path, last_active, pardon=pardon)

    # What a start needs ---------------------------------------------------------------------------------------------

    def stalled(self, key: Key, trouble: Any) -> None:
        """Pass on what is in the way of a start."""
        if self._observer is not None:
            self._observer.stalled(key, trouble)

    def handle_of(self, key: Key) -> Handle | None:
        """Return where a workspace's server is to be found, ready or not; None while that is not known."""
        deployment = self.deployments.get(key.namespace, key.deployment_name)
        service = self.services.get(key.namespace, key.deployment_name)
        if deployment is None or service is None or self._objects is None or not ownership.is_ours(service, key):
            return None
        address = service["spec"].get("clusterIP")
        token = self._objects.token_of(key, deployment)
        if token is None or address in (None, "", "None"):
            return None
        return Handle(
            URL(manifests.service_url(key, self._config)),
            {"Authorization": f"token {token}"},
            address=(address, manifests.PORT),
        )

    async def wait(self, key: Key) -> None:
        """Return when something of the workspace's has changed, or after `LOOK_AGAIN`."""
        changed = self._changed.setdefault(key, asyncio.Event())
        timer = asyncio.create_task(self._clock.sleep(LOOK_AGAIN))
        waiter = asyncio.create_task(changed.wait())
        try:
            await asyncio.wait((timer, waiter), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
            waiter.cancel()
            changed.clear()

    async def until_gone(self, key: Key, objects: Objects) -> bool:
        """Wait until no Deployment of ours is left; False if `terminating_timeout` is over first."""
        deadline = self._clock.monotonic() + self._config.terminating_timeout.total_seconds()
        while self._clock.monotonic() < deadline:
            if await self.api_get_ours(objects, key) is None:
                return True
            await self.wait(key)
        return False

    async def api_get_ours(self, objects: Objects, key: Key) -> Mapping[str, Any] | None:
        """Return the workspace's Deployment as the API server has it; None if there is none, or it is not ours."""
        try:
            found = await objects.find(key)
        except StartFailed as error:
            raise StopFailed(str(error)) from error
        return found if found is not None and ownership.is_ours(found, key) else None

    # Following ------------------------------------------------------------------------------------------------------

    def _follow(self, plural: str, group: str, namespace: str | None) -> Reflector:
        path = path_to(group, plural, namespace)
        return Reflector(self.api, path, labels=ownership.SELECTOR, on_change=self._on_change, clock=self._clock)

    async def _until_synced(self) -> None:
        for reflector in (self.deployments, self.services, self.pods):
            await reflector.synced()

    async def _get_objects(self) -> Objects:
        """Return the writer, with the secrets; they are read, or made, by the first who needs them."""
        if self._objects is None:
            try:
                keys = await load_keys(self.api, self._config)
            except ApiFailure as error:
                raise refused(error) from error
            if self._objects is None:
                self._objects = Objects(self.api, self._config, self._clock, keys)
        return self._objects

    async def _adopt(self) -> None:
        """Report what runs, once it is known and can be reached; after that, changes do."""
        while True:
            await self._until_synced()
            try:
                await self._get_objects()
                break
            except StartFailed as error:
                logger.warning("nothing can be adopted yet: %s", error)
                await self._clock.sleep(LOOK_AGAIN)
        for deployment in self.deployments.items():
            key = _key_of(deployment)
            if key is not None:
                self._look(key)

    def _on_change(self, change: Change) -> None:
        key = _key_of(change.object)
        if key is None:
            return
        if key in self._changed:
            self._changed[key].set()
        self._look(key)
        if change.new is not None and change.new.get("spec", {}).get("template"):
            self._tell_stored(key, change)

    def _tell_stored(self, key: Key, change: Change) -> None:
        """Tell what another replica has stored on a Deployment."""
        assert change.new is not None
        stored = last_active_of(change.new)
        if self._observer is None:
            return
        if stored is not None and (change.old is None or last_active_of(change.old) != stored):
            self._observer.active(key, stored)
        if self._fence.is_foreign_mark(change.new) and (
            change.old is None or not self._fence.is_foreign_mark(change.old)
        ):
            self._observer.condemned(key)

    def _look(self, key: Key) -> None:
        """Compare what is shown with what was told, and tell the difference. A start in flight tells for itself."""
        if self._observer is None or self._objects is None or key in self._starts:
            return
        deployment = self.deployments.get(key.namespace, key.deployment_name)
        is_running = deployment is not None and ownership.is_ours(deployment, key) and is_ready(deployment)
        now = self.handle_of(key) if is_running else None
        told = self._handles.get(key)
        if told is not None and told != now:
            del self._handles[key]
            self._observer.lost(key, told, _reason(deployment))
        if now is not None and told != now:
            assert deployment is not None
            self._handles[key] = now
            self._observer.found(key, now, last_active_of(deployment))


def _key_of(obj: Mapping[str, Any]) -> Key | None:
    """Return whose object this is; None if it does not say so in a way that can be true."""
    meta = obj["metadata"]
    key = Key(str((meta.get("labels") or {}).get(ownership.WORKSPACE_ID, "")), meta.get("namespace", ""))
    return key if ownership.is_ours(obj, key) or "ownerReferences" in meta else None


def _reason(deployment: Mapping[str, Any] | None) -> str:
    if deployment is None:
        return "its Deployment was deleted"
    if deployment["metadata"].get("deletionTimestamp"):
        return "its Deployment is being deleted"
    if deployment["spec"].get("replicas") == 0:
        return "its Deployment was scaled to zero"
    return "its pod is not ready any more"
