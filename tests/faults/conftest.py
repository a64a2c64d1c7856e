"""A cluster, the link to its API server, and what runs proxies on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cluster import Cluster
from tests.faults.link import Link
from tests.faults.stage import Stage, staged

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """A cluster whose pods are processes."""
    async with Cluster() as cluster:
        yield cluster


@pytest.fixture
async def link(cluster: Cluster) -> AsyncIterator[Link]:
    """The way to the API server."""
    assert cluster.server.port
    async with Link(cluster.server.port) as link:
        yield link


@pytest.fixture
async def stage(cluster: Cluster, link: Link, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    """Runs proxies on the cluster."""
    async with staged(cluster, link, monkeypatch) as stage:
        yield stage
