"""Two replicas are replaced one after the other, behind a real load balancer: no request is lost, and no kernel.

haproxy follows `/readyz`, and sends nothing a second time.
"""

from __future__ import annotations

import http.client
import signal
import subprocess
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Final, Self

import pytest
from playwright.sync_api import expect

from tests.bench.programs import free_port
from tests.e2e import PATIENCE_SECONDS, until
from tests.e2e.browser import run_in_new_notebook, until_lab_is_there

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.e2e import Proxy
    from tests.e2e.conftest import Proxies

pytestmark = [pytest.mark.browser, pytest.mark.front, pytest.mark.timeout(300)]

_REPLICAS: Final = 4  # two, and the two that take their places
_CLIENTS: Final = 8
_CONFIG: Final = """\
global
    maxconn 512
defaults
    mode http
    retries 0
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout check 1s
frontend front
    bind 127.0.0.1:{front}
    default_backend proxy
backend proxy
    option httpchk GET /readyz
    default-server check inter 100ms fall 1 rise 1
{servers}
"""


class Fleet:
    """The ports of every replica, and the load balancer before them."""

    def __init__(self, start: Proxies, kubeconfig: Path, binary: Path, directory: Path) -> None:
        self._start = start
        self._kubeconfig = kubeconfig
        self._ports = [(free_port(), free_port()) for _ in range(_REPLICAS)]
        self.port = free_port()
        lines = [f"    server r{number} 127.0.0.1:{port} port {ops}" for number, (port, ops) in enumerate(self._ports)]
        file = directory / "haproxy.cfg"
        file.write_text(_CONFIG.format(front=self.port, servers="\n".join(lines)))
        self._balancer = subprocess.Popen([binary, "-db", "-q", "-f", file])

    def replica(self, number: int) -> Proxy:
        """Start a replica, and return when it is ready."""
        port, ops = self._ports[number]
        proxy = self._start(
            "--backend=kubernetes",
            f"--kubeconfig={self._kubeconfig}",
            "--workspace-pvc-size=1Gi",
            f"--listen=127.0.0.1:{port}",
            f"--ops-listen=127.0.0.1:{ops}",
            "--drain-delay=2s",
            "--shutdown-grace=10s",
        )
        until(lambda: self._is_ready(ops), "the replica is ready")
        return proxy

    def _is_ready(self, ops: int) -> bool:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", ops, timeout=5)) as connection:
                connection.request("GET", "/readyz")
                return connection.getresponse().status == 200
        except OSError:
            return False

    def close(self) -> None:
        self._balancer.terminate()
        self._balancer.wait()


class Load:
    """Clients that ask one thing after the other, each on a connection of its own that it keeps."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._end = threading.Event()
        self.answered = 0
        self.lost: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(_CLIENTS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        """Half of them read, half of them write: what is written must not be sent twice, so nobody could repeat it."""
        method, path, body = (
            ("GET", "/ws/demo/api", None) if number % 2 else ("POST", "/ws/demo/api/kernelspecs", b"{}")
        )
        wanted = 200 if number % 2 else 405
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)
        with closing(connection):
            while not self._end.is_set():
                try:
                    connection.request(method, path, body)
                    answer = connection.getresponse()
                    answer.read()
                except (OSError, http.client.HTTPException) as error:
                    self.lost.append(f"{method}: {error!r}")
                    return
                if answer.status != wanted:
                    self.lost.append(f"{method}: {answer.status}")
                    return
                self.answered += 1


@pytest.fixture
def fleet(start: Proxies, kubeconfig: Path, haproxy: Path, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(start, kubeconfig, haproxy, tmp_path)
    yield fleet
    fleet.close()


def test_a_rolling_update_loses_no_request_and_no_kernel(fleet: Fleet, page: Page) -> None:
    old = [fleet.replica(0), fleet.replica(1)]
    page.goto(f"http://127.0.0.1:{fleet.port}/ws/demo/lab")
    until_lab_is_there(page)
    output = run_in_new_notebook(page, "answer = 6 * 7; answer")
    expect(output).to_have_text("42")

    with Load(fleet.port) as load:
        for number, replica in enumerate(old):
            fleet.replica(number + 2)
            before = load.answered
            until(lambda before=before: load.lost or load.answered > before + 200, "the load goes on")  # type: ignore[misc]
            replica.signal(signal.SIGTERM)
            assert replica.wait() == 0
            before = load.answered
            until(lambda before=before: load.lost or load.answered > before + 200, "the load goes on")  # type: ignore[misc]

    assert load.lost == []
    # JupyterLab shows the kernel as "Unknown" after any reconnection, until something is run.
    page.locator(".jp-Notebook .jp-CodeCell").last.locator(".cm-content").click()
    page.keyboard.type("answer + 1")
    page.keyboard.press("Shift+Enter")
    expect(page.locator(".jp-OutputArea-output").last).to_have_text("43")
