"""No file descriptor is left: a start says so, keeps nothing of what it had by then, and succeeds when there are."""

from __future__ import annotations

import http.client
import os
import re
import resource
import sys
from contextlib import ExitStack
from threading import Thread
from typing import TYPE_CHECKING, Final

import pytest

from tests.cluster.resources import DEPLOYMENTS
from tests.cluster.threaded import ThreadedCluster
from tests.e2e import PATIENCE_SECONDS, Answer, Proxy, until
from tests.e2e.test_crowd import COMMAND
from tests.faults.test_replicas import OPS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENOUGH: Final = 20  # descriptors, for any start


@pytest.fixture(autouse=True)
def _linux() -> None:
    if sys.platform != "linux":
        pytest.skip("limits another process")


class Scarce:
    """A proxy that has as few descriptors as a test leaves it, and connections to it that are there already."""

    def __init__(self, proxy: Proxy, stack: ExitStack) -> None:
        self.proxy = proxy
        self._stack = stack
        self._limits = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
        self._client = self._connect(proxy.port)

    def _connect(self, port: int) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        connection.connect()
        self._stack.callback(connection.close)
        return connection

    def get(self, path: str) -> Answer:
        """Send a GET as a client; the connection stays."""
        return _get(self._client, path)

    def operator(self) -> Callable[[str], float]:
        """Return what tells once, also when no connection can be made, the sum of all series that begin so."""
        (port,) = re.findall(r"probes are answered at http://127.0.0.1:(\d+)/healthz", self.proxy.log())
        connection = self._connect(int(port))

        def tell(series: str) -> float:
            lines = _get(connection, "/metrics").body.decode().splitlines()
            return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"notebook_proxy_{series}"))

        return tell

    def open_files(self) -> set[int]:
        """Return the descriptors that are taken."""
        return {int(name) for name in os.listdir(f"/proc/{self.proxy.pid}/fd")}  # noqa: PTH208 - of another process

    def leave(self, count: int) -> None:
        """Leave so many descriptors free; with none, those that are given back are not free either."""
        taken, limit = self.open_files(), 0
        while count:
            count -= limit not in taken
            limit += 1
        resource.prlimit(self.proxy.pid, resource.RLIMIT_NOFILE, (limit, self._limits[1]))

    def leave_plenty(self) -> None:
        """Undo it."""
        resource.prlimit(self.proxy.pid, resource.RLIMIT_NOFILE, self._limits)


def _get(connection: http.client.HTTPConnection, path: str) -> Answer:
    connection.request("GET", path)
    response = connection.getresponse()
    return Answer(response.status, response.headers, response.read())


def test_a_process_that_cannot_be_started_for_want_of_descriptors_says_so_and_keeps_none(tmp_path: Path) -> None:
    proxy = Proxy(tmp_path, OPS, COMMAND).until_listening()
    try:
        with ExitStack() as stack:
            scarce = Scarce(proxy, stack)
            assert scarce.get("/ws/demo/api").status == 200
            open_files, processes = scarce.open_files(), set(proxy.others())
            refused = []

            for count in range(ENOUGH):  # each runs out in another place
                scarce.leave(count)
                answer = scarce.get(f"/ws/left-{count}/api")
                if answer.status == 200:
                    break
                assert (answer.status, answer.json()["code"]) == (503, "no-descriptors")
                assert "Too many open files" in answer.json()["detail"]
                assert int(answer.headers["Retry-After"]) == 1  # however often: it is no fault of the workspace's
                assert scarce.open_files() == open_files
                assert set(proxy.others()) == processes
                refused.append(count)

            assert 4 < len(refused) < ENOUGH - 1
            assert scarce.get("/ws/demo/api").status == 200
            scarce.leave_plenty()
            assert scarce.operator()('starts_total{result="no-descriptors"}') == len(refused)
            for count in (refused[0], refused[-1]):
                until(lambda count=count: scarce.get(f"/ws/left-{count}/api").status == 200, "it starts")  # type: ignore[misc]
        assert "Traceback" not in proxy.log()
        assert proxy.stop() == 0
    finally:
        proxy.clear()


def test_a_cluster_that_cannot_be_asked_for_want_of_descriptors_is_one_that_is_away(tmp_path: Path) -> None:
    with ThreadedCluster() as cluster, ExitStack() as stack:
        kubeconfig = cluster.do(lambda double: double.kubeconfig())
        flags = (f"--kubeconfig={kubeconfig}", "--workspace-pvc-size=1Gi", "--stop-grace=1s")
        proxy = Proxy(tmp_path, OPS, "--backend=kubernetes", *flags)
        stack.callback(proxy.clear)
        scarce = Scarce(proxy.until_listening(), stack)
        assert scarce.get("/ws/demo/api").status == 200

        def is_ready(name: str) -> bool:
            found = cluster.do(lambda double: double.store.get(DEPLOYMENTS, "default", name))
            return found is not None and found["status"].get("readyReplicas") == 1

        scarce.leave(0)
        held: list[int] = []
        asking = Thread(target=lambda: held.append(scarce.get("/ws/held/api").status))
        asking.start()
        until(lambda: is_ready("notebook-held"), "what is asked on a connection that is there is done")
        assert not held
        scarce.leave_plenty()
        asking.join()
        assert held == [200]

        metric = scarce.operator()
        assert scarce.get("/ws/demo/api").status == 200
        scarce.leave(0)
        cluster.run(lambda double: double.stop_server())  # and with it every connection there was
        cluster.run(lambda double: double.start_server())
        refused = scarce.get("/ws/late/api")
        assert (refused.status, refused.json()["code"]) == (503, "api-unavailable")
        assert int(refused.headers["Retry-After"]) > 0
        assert metric('kubernetes_requests_total{code="none"') > 0
        assert scarce.get("/ws/demo/api").status == 200
        scarce.leave_plenty()
        until(lambda: scarce.get("/ws/late/api").status == 200, "it starts")
        assert proxy.stop() == 0
