"""A client and a namespace of one's own, on the test cluster or on a real one."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cluster.client import Client, Reply, connect
from tests.cluster.cluster import Cluster
from tests.cluster.registry import random_suffix
from tests.cluster.resources import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

# A real cluster's controllers need a moment; nothing here should need more than this.
PATIENCE_SECONDS = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubeconfig", type=Path, help="run tests/conformance against this real cluster")
    parser.addoption("--has-kubelet", action="store_true", help="its nodes run pods (tests marked `kubelet` run too)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kubelet: needs a cluster whose nodes run pods")
    config.addinivalue_line("markers", "double: can only be forced on the test cluster")


def _is_real(config: pytest.Config) -> bool:
    return bool(config.getoption("--kubeconfig", default=None))


@pytest.fixture(autouse=True)
def _only_what_can_be(request: pytest.FixtureRequest) -> None:
    if not _is_real(request.config):
        return
    if request.node.get_closest_marker("double"):
        pytest.skip("can only be forced on the test cluster")
    if request.node.get_closest_marker("kubelet") and not request.config.getoption("--has-kubelet"):
        pytest.skip("needs a kubelet; pass --has-kubelet if there is one")


@pytest.fixture
async def cluster(request: pytest.FixtureRequest) -> AsyncIterator[Cluster | None]:
    """The test cluster; None when the tests run against a real one."""
    if _is_real(request.config):
        yield None
        return
    runs_pods = request.node.get_closest_marker("kubelet") is not None
    async with Cluster(kubelet=runs_pods, nodes=("node-1",) if runs_pods else ()) as cluster:
        yield cluster


@pytest.fixture
async def client(request: pytest.FixtureRequest, cluster: Cluster | None) -> AsyncIterator[Client]:
    path = cluster.kubeconfig() if cluster else request.config.getoption("--kubeconfig")
    async with connect(path, "conformance") as client:
        yield client


@pytest.fixture
async def namespace(client: Client) -> AsyncIterator[str]:
    """A new namespace, deleted afterwards."""
    name = f"conformance-{random_suffix()}"
    reply = await client.create(NAMESPACES, "", {"metadata": {"name": name}})
    assert reply.code == 201
    yield name
    await client.delete(NAMESPACES, "", name)


async def eventually(ask: Callable[[], Awaitable[Reply]], holds: Callable[[Reply], object]) -> Reply:
    """Ask until the reply is as wanted; against a real cluster there is nothing else to wait for."""
    pause = 0.005
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            reply = await ask()
            if holds(reply):
                return reply
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 1)
