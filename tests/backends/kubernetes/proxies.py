"""Supervisors with Kubernetes backends on a test cluster: everything real but the cluster, and HTTP between them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from proxy.backends.kubernetes import manifests, ownership
from proxy.backends.kubernetes.backend import KubernetesBackend
from proxy.backends.kubernetes.fence import format_time, last_active_of
from proxy.backends.kubernetes.tokens import derive_token, key_id
from proxy.config import Config
from proxy.errors import StartStalled
from proxy.supervisor import Supervisor
from proxy.workspace import Key, Phase
from tests.cluster.resources import CLAIMS, DEPLOYMENTS, SECRETS, SERVICES, Obj, Resource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from proxy.workspace import Handle
    from tests.cluster import Cluster
    from tests.cluster.access import User

KEY = Key("demo", "default")
NAME = KEY.deployment_name
SECRET = "0123456789abcdef-tests"


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for what no change of the cluster announces.

    Raises:
        TimeoutError: it never came.
    """
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class ShiftableClock:
    """The machine's clock, until `shift`: then it is later, and whoever's sleep is over by that wakes."""

    def __init__(self) -> None:
        self._offset = self._wrong = 0.0
        self._shifted = asyncio.Event()

    def monotonic(self) -> float:
        return time.monotonic() + self._offset

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self._offset + self._wrong)

    async def sleep(self, seconds: float) -> None:
        until = self.monotonic() + seconds
        await asyncio.sleep(0)
        while (left := until - self.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._shifted.wait()

    def shift(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._offset += seconds
        self._shifted.set()
        self._shifted = asyncio.Event()

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back; no time passes by that."""
        self._wrong += seconds


class RecordingSupervisor(Supervisor):
    """Remembers what it was told."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.losses: list[tuple[Key, str]] = []
        self.finds: list[Key] = []
        self.troubles: list[str] = []

    def lost(self, key: Key, handle: Handle, reason: str) -> None:
        self.losses.append((key, reason))
        super().lost(key, handle, reason)

    def found(self, key: Key, handle: Handle, last_active: datetime | None, started: datetime | None = None) -> None:
        self.finds.append(key)
        super().found(key, handle, last_active, started)

    def stalled(self, key: Key, trouble: Any) -> None:
        self.troubles.append(trouble.code if trouble else "")
        super().stalled(key, trouble)


class Proxy:
    """One replica."""

    def __init__(self, cluster: Cluster, config: Config, replica: str, clock: ShiftableClock) -> None:
        self.cluster = cluster
        self.config = config
        self.backend = KubernetesBackend(config, replica=replica, clock=clock)
        self.supervisor = RecordingSupervisor(self.backend, config, clock=clock)

    async def ensure(self, key: Key = KEY) -> Handle:
        """Do what a request does."""
        return await self.supervisor.ensure_running(key)

    async def eventually(self, key: Key = KEY) -> Handle:
        """Do what a client does that obeys `Retry-After`."""
        while True:
            try:
                return await self.ensure(key)
            except StartStalled:
                await asyncio.sleep(0.1)

    async def reap(self) -> None:
        """Let the reaper look once."""
        await self.supervisor._reaper.tick()

    def is_running(self, key: Key = KEY) -> bool:
        """Tell whether it is known to run."""
        return self.supervisor.phases().get(key) is Phase.RUNNING


class Proxies:
    """Runs replicas, by one clock, and ends them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.clock = ShiftableClock()
        self._stack = AsyncExitStack()
        self._count = itertools.count(1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def run(self, user: User | None = None, **settings: Any) -> Proxy:
        """Start a replica; ends with the test."""
        return await self._stack.enter_async_context(self.running(user, **settings))

    @asynccontextmanager
    async def running(self, user: User | None = None, **settings: Any) -> AsyncIterator[Proxy]:
        """Start a replica; ends with the block."""
        proxy = Proxy(
            self.cluster, config_on(self.cluster, user, **settings), f"replica-{next(self._count)}", self.clock
        )
        try:
            await proxy.backend.open()
            yield proxy
        finally:
            await proxy.supervisor.close()
            await proxy.backend.close()


def config_on(cluster: Cluster, user: User | None = None, **settings: Any) -> Config:
    """Return the settings of a replica."""
    base: dict[str, Any] = {
        "kubeconfig": str(cluster.kubeconfig(user)),
        "image": "example.invalid/tiny:1",
        "workspace_pvc_size": "1Gi",
        "notebook_secret": SECRET,
        "ready_timeout": timedelta(seconds=30),
        "stop_grace": timedelta(seconds=1),
    }
    return Config(**(base | settings))


def look(cluster: Cluster, resource: Resource = DEPLOYMENTS, key: Key = KEY) -> Obj | None:
    """Return one of a workspace's objects as the cluster has it."""
    return cluster.store.get(resource, key.namespace, key.deployment_name)


def get(cluster: Cluster, resource: Resource = DEPLOYMENTS, key: Key = KEY) -> Obj:
    """Return one of a workspace's objects, which is there."""
    found = look(cluster, resource, key)
    assert found is not None
    return found


def uid(cluster: Cluster, resource: Resource = DEPLOYMENTS, key: Key = KEY) -> str:
    return str(get(cluster, resource, key)["metadata"]["uid"])


def is_ready(cluster: Cluster, key: Key = KEY) -> bool:
    found = look(cluster, DEPLOYMENTS, key)
    return found is not None and found["status"].get("readyReplicas") == 1


def stored(cluster: Cluster, key: Key = KEY) -> datetime:
    """Return the last activity that is stored."""
    found = last_active_of(get(cluster, DEPLOYMENTS, key))
    assert found is not None
    return found


def annotate(cluster: Cluster, key: Key = KEY, **annotations: str | None) -> None:
    """Write annotations of ours (`last_active`, `reap_mark`) onto a Deployment, as somebody else."""
    named = {f"notebook-proxy/{name.replace('_', '-')}": value for name, value in annotations.items()}
    cluster.registry.patch(DEPLOYMENTS, key.namespace, key.deployment_name, {"metadata": {"annotations": named}})


def ago(seconds: float) -> str:
    """Return a moment of the past, as it is stored."""
    return format_time(datetime.now(UTC) - timedelta(seconds=seconds))


def put(
    cluster: Cluster, config: Config, key: Key = KEY, *, replicas: int = 1, resources: str = "deployment secret service"
) -> Obj:
    """Make a workspace's objects as a proxy of these settings does; returns the Deployment."""
    registry, namespace = cluster.registry, key.namespace
    if cluster.store.get(CLAIMS, namespace, manifests.pvc_name(key, config)) is None:
        registry.create(CLAIMS, namespace, manifests.build_pvc(key, config))
    body = manifests.build_deployment(key, config)
    body["spec"]["replicas"] = replicas
    nonce, secret = "0" * 32, config.notebook_secret.get_secret_value()
    body["metadata"]["annotations"] |= {ownership.TOKEN_NONCE: nonce, ownership.KEY_ID: key_id(secret)}
    deployment = registry.create(DEPLOYMENTS, namespace, body)
    owner = manifests.owner_reference(deployment)
    if "secret" in resources:
        token = derive_token(secret, key.workspace_id, nonce)
        registry.create(SECRETS, namespace, manifests.build_secret(key, config, token, owner))
    if "service" in resources:
        registry.create(SERVICES, namespace, manifests.build_service(key, config, owner=owner))
    return deployment


async def fetch(handle: Handle, path: str = "x", key: Key = KEY) -> tuple[int, Obj]:
    """Ask a notebook server once, as the relay does."""
    host, port = handle.address
    url = f"http://{host}:{port}/ws/{key.workspace_id}/{path}"
    async with aiohttp.ClientSession(headers=dict(handle.headers)) as session, session.get(url) as response:
        return response.status, await response.json()
