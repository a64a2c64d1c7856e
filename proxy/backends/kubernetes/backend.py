"""Run each workspace's notebook server as one Deployment and one Service.

The API server holds the truth: what is known of it is what `following` sees, what is made and taken is in `objects`,
and what replicas must agree on is stored on the Deployment (see `fence`). Only what is ours is changed or deleted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from typing import TYPE_CHECKING, Final

from proxy.backends.kubernetes.api import Api, ApiFailure
from proxy.backends.kubernetes.calls import refused
from proxy.backends.kubernetes.fence import Fence, Mark
from proxy.backends.kubernetes.following import LOOK_AGAIN, Following
from proxy.backends.kubernetes.keys import Keys, load_keys, namespace_of_secret
from proxy.backends.kubernetes.logs import read_log, token_of
from proxy.backends.kubernetes.noting import keep
from proxy.backends.kubernetes.objects import Objects
from proxy.backends.kubernetes.start import Start
from proxy.backends.kubernetes.sweeper import Sweeper
from proxy.clock import SystemClock
from proxy.counts import ClusterCounts
from proxy.errors import InvalidKey, StartFailed, StopFailed
from proxy.rotation import follow_file
from proxy.vitals import Vitals

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from proxy.backends import Mark as AnyMark
    from proxy.backends import Observer
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.fresh import Fresh
    from proxy.workspace import Handle, Key

logger = logging.getLogger(__name__)

FIRST_SYNC: Final = 10.0  # seconds that `open` waits for what runs to be known; without it it serves what it can


class KubernetesBackend:
    """The backend for a cluster; see `proxy.backends.Backend` for what its methods promise.

    Any number of replicas may use one cluster. `observe`, then `open`, before anything else.

    Args:
        config: the Kubernetes group, and `namespace`, `ready_path`, `failed_ttl`, `reap_grace`.
        clock: what waits are measured by.
        replica: this process's name, unique among replicas; by default host, process and chance.
        fresh: looks for changes of the file that holds `notebook_secret`.
    """

    def __init__(
        self, config: Config, *, clock: Clock | None = None, replica: str | None = None, fresh: Fresh | None = None
    ) -> None:
        self._config = config.with_defaults()
        self._clock = clock or SystemClock()
        self._replica = replica or f"{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(3)}"
        self._fresh = fresh
        self._observer: Observer | None = None
        self.counts = ClusterCounts()
        """What has been asked of the API server, and what is followed."""
        self.vitals = Vitals()
        """The tasks that must live from `open` to `close`; expects the first sight of the whole cluster."""
        self._objects: Objects | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def observe(self, observer: Observer) -> None:
        """Name the one who is told."""
        self._observer = observer

    async def open(self) -> None:
        """Follow the cluster, and report what runs already; returns when that is known, or after `FIRST_SYNC`.

        Raises:
            ConfigError: there is no usable credential, or no place for the notebooks' secret.
        """
        config, clock = self._config, self._clock
        namespace_of_secret(config)
        self._api = await Api.connect(
            config.kubeconfig or None, config.kube_context or None, clock=clock, counts=self.counts
        )
        self._fence = Fence(self._api, self._replica, clock, config.reap_grace, config.max_extend)
        self.following = Following(self._api, config, clock, self._fence, self._observer)
        self.sweeper = Sweeper(self.following, self._fence, self.stop, config, clock)
        self.vitals.expect("the first sight of the cluster")
        followers = self.following.begin()
        self.counts.followed.update(self.following.sight.by_plural)
        adoption = asyncio.create_task(self._adopt(), name="adoption")
        sweeper = asyncio.create_task(self.sweeper.run(), name="sweeper")
        self._tasks = [adoption, sweeper]
        self.vitals.follow(adoption, ends=True)
        for task in (sweeper, *followers):
            self.vitals.follow(task)
        await asyncio.wait((adoption,), timeout=FIRST_SYNC)
        if not adoption.done():
            logger.warning("Kubernetes does not answer yet; what runs is adopted when it does")

    async def close(self) -> None:
        """Follow the cluster no more. Notebook servers go on running."""
        self.vitals.is_draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            await self.following.close()
            await self._api.close()

    def running_for(self, user: str) -> list[Key]:
        """Return the workspaces whose Deployments say that they are for this user."""
        return self.following.sight.running_for(user)

    async def start(self, key: Key, user: str = "") -> Handle:
        """Return the handle of a notebook server that answers; whichever replica, or person, made it.

        Raises:
            InvalidKey: the id is not a DNS-1123 label.
            StartFailed: it cannot become ready, or Kubernetes does not answer.
            ForeignObject: something that is not ours has one of its names.
        """
        key.safe_deployment_name()
        if not self.following.sight.is_here(key):
            raise StartFailed("wrong-namespace", f"By the setting `namespace`, its namespace is not {key.namespace!r}.")
        with self.following.starting(key):
            start = Start(
                self._api,
                self.following,
                self._get_objects,
                key,
                self._config,
                user=user,
                clock=self._clock,
                remove=self.stop,
            )
            try:
                handle = await start.run()
            except InvalidKey as error:  # of the volume, whose name follows from settings
                raise StartFailed("invalid-name", str(error)) from error
            self.following.give(key, handle)
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
            with self.following.attending(key):
                deleted = await self._fence.delete(key, mark)
                await objects.delete_service(key, deleted)
                is_gone = await self.following.until_gone(key, pods=False)
        except StartFailed as error:
            raise StopFailed(str(error)) from error
        finally:
            self.following.forget(key)
        if not is_gone:
            raise StopFailed(f"The pod of workspace {key.workspace_id!r} has not ended yet; Kubernetes goes on.")

    async def mark(self, key: Key, last_active: datetime) -> Mark:
        """Announce a reap on the Deployment."""
        return await self._fence.mark(key, last_active)

    async def store(self, key: Key, last_active: datetime, *, pardon: bool = False) -> None:
        """Raise what is stored on the Deployment."""
        await self._fence.store(key, last_active, pardon=pardon)

    async def extend(self, key: Key, until: datetime) -> None:
        """Raise what is stored on the Deployment."""
        await self._fence.extend(key, until)

    async def note(self, key: Key, changes: Mapping[str, str | None]) -> None:
        """Keep notes on the workspace's PersistentVolumeClaim."""
        await keep(self._api, key, self._config, changes)

    async def log(self, key: Key, lines: int) -> str:
        """Return the last lines of the workspace's pod."""
        key.safe_deployment_name()
        sight = self.following.sight
        text = await read_log(self._api, key, sight.pods_of(key), lines)
        handle = sight.handle_of(key)
        return text if handle is None else text.replace(token_of(handle), "***")

    async def _get_objects(self) -> Objects:
        """Return the writer, with the keys; they are read, or made, by the first who needs them."""
        if self._objects is None:
            try:
                keys = await load_keys(self._api, self._config)
            except ApiFailure as error:
                raise refused(error) from error
            if self._objects is None:
                self._objects = Objects(self._api, self._config, self._clock, keys)
                if self._fresh is not None:
                    self._follow_secret(self._fresh, keys)
                self.following.know(self._objects)
        return self._objects

    def _follow_secret(self, fresh: Fresh, keys: Keys) -> None:
        try:
            follow_file("notebook_secret", self._config, fresh, keys.change)
        except (OSError, ValueError) as error:
            raise StartFailed("bad-secret", f"The file of notebook_secret cannot be read any more: {error}") from error

    async def _adopt(self) -> None:
        """Report what runs, once it is known and can be reached."""
        await self.following.synced()
        while True:
            try:
                objects = await self._get_objects()
            except StartFailed as error:
                logger.warning("nothing can be adopted yet: %s", error)
                await self._clock.sleep(LOOK_AGAIN)
            else:
                self.following.adopt(objects)
                self.vitals.met("the first sight of the cluster")
                return
