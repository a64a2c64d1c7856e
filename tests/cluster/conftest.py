"""A cluster that runs pods, one that does not, and a client to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster.client import Client, connect
from tests.cluster.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as cluster:
        yield cluster


@pytest.fixture
async def api() -> AsyncIterator[Cluster]:
    """A cluster without a kubelet: pods stay as tests leave them."""
    async with Cluster(kubelet=False) as cluster:
        yield cluster


@pytest.fixture
async def client(api: Cluster) -> AsyncIterator[Client]:
    async with connect(api.kubeconfig()) as client:
        yield client
