"""More clients than there is room for: who is there is served, who is not is told, and a real process recovers."""

from __future__ import annotations

import http.client
import os
import re
import resource
import socket
import sys
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.e2e import PATIENCE_SECONDS, until

if TYPE_CHECKING:
    from tests.e2e import Proxy
    from tests.e2e.conftest import Proxies

_SERVER: Final = Path(__file__).with_name("streaming_server.py")
COMMAND: Final = f"--notebook-command={sys.executable} {_SERVER} {{port}} {{root}}"


def connect(held: ExitStack, proxy: Proxy) -> http.client.HTTPConnection:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE_SECONDS)
    connection.connect()
    held.callback(connection.close)
    return connection


def status_of(connection: http.client.HTTPConnection, path: str = "/") -> int:
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


def test_crowd_is_told_those_who_are_there_are_served_and_there_is_room_again(start: Proxies) -> None:
    proxy = start("--max-connections=30", COMMAND)

    with ExitStack() as held:
        kept = [connect(held, proxy) for _ in range(30)]
        assert {status_of(connection) for connection in kept} == {200}
        crowd = [connect(held, proxy) for _ in range(200)]  # more than are accepted at once, too
        assert {status_of(connection) for connection in crowd} == {503}
        assert {status_of(connection, "/ws/demo/api") for connection in kept} == {200}

    assert until(lambda: proxy.get("/ws/demo/api").status == 200, "there is room again")
    assert proxy.log().count("shedding connections: open=30 max=30") == 1
    assert proxy.stop() == 0


def test_process_without_descriptors_serves_who_is_there_and_recovers(start: Proxies) -> None:
    proxy = start("--ops-listen=127.0.0.1:0", COMMAND)
    limits = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)

    with ExitStack() as held:
        first = connect(held, proxy)
        assert status_of(first, "/ws/demo/api") == 200
        open_files = len(os.listdir(f"/proc/{proxy.pid}/fd"))  # noqa: PTH208 - of another process
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (open_files + 5, limits[1]))
        late = [socket.create_connection(("127.0.0.1", proxy.port)) for _ in range(50)]
        for sock in late:
            held.callback(sock.close)
            sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        until(lambda: "cannot accept connections" in proxy.log(), "it has no descriptor left")
        assert status_of(first, "/ws/demo/api") == 200
        resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, limits)
        for sock in late:
            sock.settimeout(PATIENCE_SECONDS)
            assert sock.recv(12) == b"HTTP/1.1 200"

    (url,) = re.findall(r"probes are answered at (\S+)/healthz", proxy.log())
    with urllib.request.urlopen(f"{url}/metrics") as answer:
        told = answer.read().decode()
    assert re.search(r'^notebook_proxy_log_messages_total{.*logger="proxy.relay.listener".*} [1-9]', told, re.MULTILINE)
    assert proxy.stop() == 0


def test_second_proxy_for_the_same_directory_ends_in_one_line(start: Proxies) -> None:
    first = start(COMMAND)

    second = start.begin(COMMAND, f"--local-root={first.root}")

    assert second.wait() == 2
    (line,) = second.log().splitlines()
    assert f"another proxy (process {first.pid}) uses it" in line
    assert first.get("/ws/demo/api").status == 200
    assert first.stop() == 0
