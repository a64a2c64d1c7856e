"""Chromium through a web server that ends TLS, as an ingress controller does, into a pod of a cluster."""

from __future__ import annotations

import getpass
import os
import signal
import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import pytest
from playwright.sync_api import expect

from tests.cluster.tls import make_server_context
from tests.e2e import PATIENCE_SECONDS, refuse_news
from tests.e2e.browser import PATIENCE_MS, Complaints, run_in_new_notebook, until_lab_is_there

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Page

    from tests.cluster.threaded import ThreadedCluster
    from tests.e2e import Proxy
    from tests.e2e.conftest import Proxies

pytestmark = pytest.mark.browser

_CONFIGURATION: Final = """\
daemon off;
worker_processes 1;
user {user};
pid {directory}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    map $http_upgrade $connection_upgrade {{ default upgrade; "" ""; }}
    server {{
        listen {listen} ssl;
        ssl_certificate {directory}/server.crt;
        ssl_certificate_key {directory}/server.key;
        client_max_body_size 0;
        location /ws/ {{
            proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_request_buffering off;
            proxy_read_timeout 1h;
        }}
    }}
}}
"""


@pytest.fixture
def proxy(start: Proxies, cluster: ThreadedCluster) -> Proxy:
    """A proxy on the cluster, which believes whoever is in front of it."""
    refuse_news(cluster.root / "claims/default/ws-demo")
    kubeconfig = cluster.do(lambda double: double.kubeconfig())
    flags = ("--backend=kubernetes", f"--kubeconfig={kubeconfig}", "--workspace-pvc-size=1Gi")
    return start(*flags, "--trusted-proxies=127.0.0.1")


@pytest.fixture
def ingress(nginx: Path, proxy: Proxy, tmp_path: Path) -> Iterator[str]:
    """The address of a web server in front of the proxy, with a certificate that it has made for itself."""
    directory = tmp_path / "nginx"
    directory.mkdir()
    make_server_context(directory)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        configuration = _CONFIGURATION.format(
            directory=directory, user=getpass.getuser(), listen=f"127.0.0.1:{port}", upstream=proxy.url
        )
        (directory / "nginx.conf").write_text(configuration)
        # It takes over the socket with this address, as in an upgrade of itself: who comes before it is up, waits.
        process = subprocess.Popen(
            [nginx, "-p", directory, "-c", directory / "nginx.conf", "-e", directory / "error.log"],
            env={**os.environ, "NGINX": f"{listener.fileno()};"},
            pass_fds=(listener.fileno(),),
            start_new_session=True,
        )
    try:
        yield f"https://localhost:{port}"
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0, (directory / "error.log").read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its worker, too
        process.wait()


def test_notebook_in_a_pod_computes_through_an_ingress(ingress: str, proxy: Proxy, page: Page) -> None:
    complaints = Complaints(page)
    sockets: list[str] = []
    page.on("websocket", lambda opened: sockets.append(opened.url))

    waiting = page.goto(f"{ingress}/ws/demo/lab")
    until_lab_is_there(page)
    output = run_in_new_notebook(page, "6*7")

    expect(output).to_have_text("42", timeout=PATIENCE_MS)
    assert complaints.seen == []
    assert waiting is not None
    assert waiting.status == 202  # and its events came through, at once, though nothing but /ws/ is routed
    assert any(url.startswith(f"{ingress.replace('https', 'wss')}/ws/demo/api/kernels/") for url in sockets)
    assert proxy.others() == {}
