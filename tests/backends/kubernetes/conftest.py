"""A scripted server, a hurried clock, and the `Api` between them; and whole proxies on a whole cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.backends.kubernetes.proxies import Proxies, Proxy
from tests.backends.kubernetes.scripted import HurriedClock, Scripted, api_of
from tests.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from proxy.backends.kubernetes.api import Api


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with Scripted() as server:
        yield server


@pytest.fixture
def clock() -> HurriedClock:
    return HurriedClock()


@pytest.fixture
async def api(server: Scripted, clock: HurriedClock, tmp_path: Path) -> AsyncIterator[Api]:
    api = await api_of(server.port, tmp_path, clock)
    yield api
    await api.close()


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """A cluster whose pods are processes."""
    async with Cluster() as cluster:
        yield cluster


@pytest.fixture
async def proxies(cluster: Cluster) -> AsyncIterator[Proxies]:
    """Runs proxies on the cluster."""
    async with Proxies(cluster) as proxies:
        yield proxies


@pytest.fixture
async def proxy(proxies: Proxies) -> Proxy:
    """One proxy on the cluster, with nothing changed but what tests need."""
    return await proxies.run()
