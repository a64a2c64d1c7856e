"""A whole proxy on a cluster, with a faulty link between it and the API server, and its ops port to look at."""

from __future__ import annotations

import asyncio
import contextlib
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiohttp import ClientSession, ClientWebSocketResponse
from prometheus_client.parser import text_string_to_metric_families

from proxy.app import App
from proxy.backends.kubernetes.backend import KubernetesBackend
from proxy.measuring import measured
from proxy.metrics_list import PREFIX
from proxy.supervisor import Supervisor
from tests.backends.kubernetes.proxies import ShiftableClock, config_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    import pytest

    from proxy.config import Config
    from tests.cluster import Cluster
    from tests.faults.link import Link

_SOURCE: Final = Path(__file__).with_name("echo_server.py").read_text(encoding="utf-8")
ECHO: Final = ("python", "-ISs", "-c", _SOURCE, "/ws/{workspace_id}/")
"""A command that speaks websocket too; see there. Given as text: a pod has a /tmp of its own, without our files."""
Labels = dict[str, str]


async def eventually(condition: Callable[[], Awaitable[object]], seconds: float = 20) -> None:
    """Wait until a condition that must be asked for holds.

    Raises:
        TimeoutError: it never did.
    """
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.02)


class Served:
    """One proxy, as its clients and its operator see it."""

    def __init__(self, app: App, client: ClientSession) -> None:
        self.app = app
        self.client = client

    async def get(self, path: str) -> int:
        """Return the status of what is answered to a program."""
        async with self.client.get(self.app.url + path) as response:
            await response.read()
            return response.status

    async def body(self, path: str) -> bytes:
        """Return what is answered, which must be well."""
        async with self.client.get(self.app.url + path) as response:
            assert response.status == 200
            return await response.read()

    async def problem(self, path: str) -> tuple[int, str, bool]:
        """Return status and code of a problem, and whether it says when to ask again."""
        async with self.client.get(self.app.url + path) as response:
            return response.status, (await response.json())["code"], "Retry-After" in response.headers

    @asynccontextmanager
    async def websocket(self, workspace_id: str) -> AsyncIterator[ClientWebSocketResponse]:
        """Open a websocket to the workspace."""
        async with self.client.ws_connect(f"{self.app.url}/ws/{workspace_id}/api/events") as websocket:
            yield websocket

    async def ops(self, path: str) -> tuple[int, str]:
        """Return what the operator is told."""
        async with self.client.get(f"{self.app.ops.url}{path}") as response:
            return response.status, await response.text()

    async def is_ready(self) -> bool:
        """Tell whether clients are sent here."""
        return (await self.ops("/readyz"))[0] == 200

    async def series(self, name: str) -> list[tuple[Labels, float]]:
        """Return all series of a metric, under the name that Prometheus knows, without its prefix."""
        _, text = await self.ops("/metrics")
        samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
        return [(sample.labels, sample.value) for sample in samples if sample.name == PREFIX + name]

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's series with these labels; there must be one."""
        found = [value for has, value in await self.series(name) if labels.items() <= has.items()]
        return sum(found)


class Stage:
    """Runs proxies on the cluster by way of the link; all go by one clock."""

    def __init__(self, cluster: Cluster, link: Link, stack: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster, self.link, self._stack = cluster, link, stack
        self.clock = ShiftableClock()
        monkeypatch.setattr("proxy.app.Supervisor", partial(Supervisor, clock=self.clock))
        monkeypatch.setattr("proxy.app.measured", partial(measured, clock=self.clock))
        monkeypatch.setattr("proxy.backends.kubernetes.backend.FIRST_SYNC", 0.3)

    def config(self, *, host: str = "127.0.0.1", **settings: Any) -> Config:
        """Return the settings of a proxy; `host` is where its kubeconfig says that the link is."""
        kubeconfig = self.cluster.root / "by-the-link.kubeconfig"
        direct = self.cluster.kubeconfig().read_text()
        kubeconfig.write_text(direct.replace(self.cluster.url, f"http://{host}:{self.link.port}"))
        mine: dict[str, Any] = {
            "kubeconfig": str(kubeconfig),
            "backend": "kubernetes",
            "reap_grace": timedelta(seconds=0.05),
        }
        listen = {"listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0"}
        return config_on(self.cluster, **(listen | mine | settings))

    async def serve(self, *, command: Sequence[str] = (), raises: bool = False, **settings: Any) -> Served:
        """Start a proxy; it ends with the test, and may raise then where `raises`."""
        if command:
            settings["notebook_command"] = list(command)
        config = self.config(**settings)
        backend = KubernetesBackend(config, clock=self.clock)
        app = App(config, backend)
        await app.__aenter__()
        self._stack.push_async_callback(_end, app, raises=raises)
        return Served(app, await self._stack.enter_async_context(ClientSession()))


async def _end(app: App, *, raises: bool) -> None:
    with contextlib.suppress(SystemError, ExceptionGroup) if raises else contextlib.nullcontext():
        await app.__aexit__()


@contextlib.asynccontextmanager
async def staged(cluster: Cluster, link: Link, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """Run proxies for a test."""
    async with AsyncExitStack() as stack:
        yield Stage(cluster, link, stack, monkeypatch)
