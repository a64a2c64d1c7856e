"""Proxies as processes of their own, with a notebook server that starts at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from proxy.backends.kubernetes.permissions import WORKSPACE_RULES
from tests.cli import NOTEBOOK_COMMAND, Asking
from tests.cluster.threaded import ThreadedCluster
from tests.e2e import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session", autouse=True)
def _linux() -> None:
    if sys.platform != "linux":
        pytest.skip("looks at processes in /proc")


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy that the tests of a module share; at the end it stops, and leaves nothing behind."""
    shared = Proxy(tmp_path_factory.mktemp("proxy"), NOTEBOOK_COMMAND, "--stop-grace=1s")
    try:
        yield shared.until_listening()
        assert shared.stop() == 0
        assert shared.others() == {}
    finally:
        shared.clear()


@pytest.fixture(scope="module")
def ask(proxy: Proxy) -> Asking:
    """Runs commands against the shared proxy."""
    return Asking(proxy.url)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ThreadedCluster]:
    """A cluster that the tests of a module share; its pods run the tiny notebook server."""
    with ThreadedCluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kubeconfig(cluster: ThreadedCluster) -> Path:
    """Lets in who may do what `deploy/` lets a proxy do, and no more."""
    rules = {(verb, group, resource) for group, resource, verbs in WORKSPACE_RULES for verb in verbs}
    return cluster.do(lambda double: double.kubeconfig(double.add_user("proxy", rules, ["default"])))


@pytest.fixture(scope="module")
def on_cluster(kubeconfig: Path) -> tuple[str, ...]:
    """The flags of a proxy on that cluster, whose volumes are made where they are missing."""
    return ("--backend=kubernetes", f"--kubeconfig={kubeconfig}", "--workspace-pvc-size=1Gi")


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Proxy]]:
    """Starts a proxy with the flags given; what a test leaves behind is killed."""
    started: list[Proxy] = []

    def start(*flags: str) -> Proxy:
        local = () if "--backend=kubernetes" in flags else (NOTEBOOK_COMMAND,)
        started.append(Proxy(tmp_path, *local, *flags))
        return started[-1].until_listening()

    yield start

    for proxy in started:
        proxy.clear()
