"""The product on a cluster: its processes on this side, real HTTP and real JupyterLab pods on the other.

The proxy has the rights that `deploy/` grants it, and no more.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.cluster import Image
from tests.cluster.resources import CLAIMS, DEPLOYMENTS
from tests.e2e import until
from tests.e2e.kernel import compute

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cluster.threaded import ThreadedCluster
    from tests.e2e import Answer, Proxy
    from tests.e2e.conftest import Proxies

_CALLERS: Final = 25  # of each of two proxies
_NAVIGATION: Final = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8", "Sec-Fetch-Mode": "navigate"}


@pytest.fixture
def start_proxy(start: Proxies, kubeconfig: Path) -> Callable[..., Proxy]:
    """Starts a proxy on the cluster with more flags."""
    flags = ("--backend=kubernetes", f"--kubeconfig={kubeconfig}", "--workspace-pvc-size=1Gi")
    return lambda *more: start(*flags, *more)


def find(cluster: ThreadedCluster, workspace_id: str) -> dict[str, Any] | None:
    """Return a workspace's Deployment."""
    found: dict[str, Any] | None = cluster.do(
        lambda double: double.store.get(DEPLOYMENTS, "default", f"notebook-{workspace_id}")
    )
    return found


def uid_of(cluster: ThreadedCluster, workspace_id: str) -> str:
    """Return what tells a workspace's Deployment from a later one of the same name."""
    found = find(cluster, workspace_id)
    assert found is not None
    return str(found["metadata"]["uid"])


def has_pods(cluster: ThreadedCluster, workspace_id: str) -> bool:
    """Tell whether a workspace has pods, ending ones included."""
    return bool(cluster.do(lambda double: double.pods("default", app=f"notebook-{workspace_id}")))


def test_workspace_is_a_pod_with_kernels_and_its_files_outlive_it(
    cluster: ThreadedCluster, start_proxy: Callable[..., Proxy]
) -> None:
    proxy = start_proxy("--idle-ttl=3s", "--reap-interval=1s", "--reap-grace=1s")

    assert b"<title>JupyterLab</title>" in proxy.get("/ws/demo/lab").body
    assert compute(proxy.websocket_url("demo"), proxy.start_kernel("demo"), "6*7") == "42"
    proxy.save("demo", "kept.txt", "still here")
    first = uid_of(cluster, "demo")
    until(lambda: find(cluster, "demo") is None, "the idle workspace is stopped")

    assert not has_pods(cluster, "demo")
    assert cluster.do(lambda double: double.store.get(CLAIMS, "default", "ws-demo"))
    answer = proxy.get("/ws/demo/files/kept.txt")
    assert (answer.status, answer.body) == (200, b"still here")
    assert uid_of(cluster, "demo") != first
    assert proxy.others() == {}


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 0), (signal.SIGKILL, -signal.SIGKILL)], ids=["SIGTERM", "SIGKILL"]
)
def test_proxy_that_ends_leaves_workspaces_running_and_the_next_one_adopts_them(
    cluster: ThreadedCluster, start_proxy: Callable[..., Proxy], number: signal.Signals, status: int
) -> None:
    workspace_id = f"adopted-{number.name.lower()}"
    first = start_proxy()
    kernel_id = first.start_kernel(workspace_id)
    assert compute(first.websocket_url(workspace_id), kernel_id, "x = 6; x") == "6"
    deployment = uid_of(cluster, workspace_id)

    first.signal(number)
    assert first.wait() == status
    second = start_proxy()

    until(lambda: workspace_id.encode() in second.get("/").body, "what runs is adopted, without a request")
    assert compute(second.websocket_url(workspace_id), kernel_id, "x*7") == "42"
    assert uid_of(cluster, workspace_id) == deployment
    assert "workspace starting" not in second.log()
    assert second.stop() == 0


def test_fifty_first_requests_over_two_proxies_make_one_deployment(
    cluster: ThreadedCluster, start_proxy: Callable[..., Proxy]
) -> None:
    proxies = [start_proxy(), start_proxy()]
    changes = cluster.do(lambda double: double.record_changes())
    together = Barrier(len(proxies) * _CALLERS)

    def ask(proxy: Proxy) -> Answer:
        together.wait()
        return proxy.get("/ws/crowd/api/status")

    with ThreadPoolExecutor(together.parties) as callers:
        answers = list(callers.map(ask, proxies * _CALLERS))

    assert {answer.status for answer in answers} == {200}
    assert len({answer.json()["started"] for answer in answers}) == 1
    made = [change for change in changes if change.resource == DEPLOYMENTS and change.type == "ADDED"]
    assert [change.key[1] for change in made] == ["notebook-crowd"]


def test_image_that_cannot_be_pulled_is_named_and_heals(
    cluster: ThreadedCluster, start_proxy: Callable[..., Proxy]
) -> None:
    cluster.do(lambda double: double.images.set("broken", Image(pull_error="not found")))
    proxy = start_proxy("--image=example.org/broken:1")

    answer = proxy.get("/ws/broken/api/status")
    page = proxy.request("GET", "/ws/broken/lab", headers=_NAVIGATION)

    assert (answer.status, answer.headers.get_content_type()) == (503, "application/problem+json")
    assert answer.json()["code"] == "image-pull"
    assert "example.org/broken:1" in answer.json()["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    assert (page.status, page.headers.get_content_type()) == (202, "text/html")  # it may heal, and is waited for
    assert b"example.org/broken:1" in page.body

    cluster.do(lambda double: double.images.set("broken", Image("jupyter")))
    until(lambda: proxy.get("/ws/broken/api/status").status == 200, "the start heals with its image")


def test_deployment_of_somebody_else_is_left_alone(cluster: ThreadedCluster, start_proxy: Callable[..., Proxy]) -> None:
    template = {
        "metadata": {"labels": {"app": "theirs"}},
        "spec": {"containers": [{"name": "theirs", "image": "tiny"}]},
    }
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "theirs"}}, "template": template}
    body = {"metadata": {"name": "notebook-theirs", "namespace": "default"}, "spec": spec}
    cluster.do(lambda double: double.registry.create(DEPLOYMENTS, "default", body))
    until(lambda: (find(cluster, "theirs") or {})["status"].get("observedGeneration"), "its controller has seen it")
    before = find(cluster, "theirs")
    proxy = start_proxy()

    answer = proxy.get("/ws/theirs/lab")

    assert (answer.status, answer.headers.get_content_type()) == (409, "application/problem+json")
    assert answer.json()["code"] == "foreign-object"
    assert find(cluster, "theirs") == before


def test_without_the_api_server_what_runs_is_served_and_nothing_starts(
    cluster: ThreadedCluster, start_proxy: Callable[..., Proxy]
) -> None:
    proxy = start_proxy()
    kernel_id = proxy.start_kernel("lasting")

    cluster.run(lambda double: double.stop_server())
    try:
        refused = proxy.get("/ws/new/lab")
        value = compute(proxy.websocket_url("lasting"), kernel_id, "6*7")
    finally:
        cluster.run(lambda double: double.start_server())

    assert value == "42"
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) > 0
    until(lambda: proxy.get("/ws/new/api/status").status == 200, "it starts when the API server is back")
