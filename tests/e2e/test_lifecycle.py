"""The life of the processes: one for each workspace, there when needed, gone when not, however it or the proxy ends."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING, Final

import pytest
import websocket

from tests.e2e import until, websocket_to

if TYPE_CHECKING:
    from tests.e2e import Answer, Proxy
    from tests.e2e.conftest import Proxies

_CALLERS: Final = 50
_SERVICE_RESTART: Final = 1012  # IANA WebSocket Close Code registry


def test_fifty_first_requests_at_once_start_one_process(proxy: Proxy) -> None:
    together = Barrier(_CALLERS)

    def ask(_: int) -> Answer:
        together.wait()
        return proxy.get("/ws/crowd/api/status")

    with ThreadPoolExecutor(_CALLERS) as callers:
        answers = list(callers.map(ask, range(_CALLERS)))

    assert {answer.status for answer in answers} == {200}
    assert len({answer.json()["started"] for answer in answers}) == 1
    assert len(proxy.servers("crowd")) == 1
    assert proxy.log().count("workspace starting: id=crowd ") == 1


def test_killed_notebook_server_is_healed_by_the_next_request(proxy: Proxy) -> None:
    proxy.save("demo", "kept.txt", "still here")
    proxy.start_kernel("demo")
    (killed,) = proxy.servers("demo")
    kernels = proxy.kernels()

    os.kill(killed, signal.SIGKILL)
    answer = proxy.get("/ws/demo/files/kept.txt")

    assert (answer.status, answer.body) == (200, b"still here")
    assert len(proxy.servers("demo")) == 1
    assert killed not in proxy.servers("demo")
    assert not set(kernels) & set(proxy.kernels())


def test_idle_workspace_is_reaped_and_comes_back_with_its_file(start: Proxies) -> None:
    proxy = start("--idle-ttl=2s", "--reap-interval=1s")
    proxy.save("demo", "kept.txt", "still here")
    proxy.start_kernel("demo")

    until(lambda: proxy.get("/ws/demo/_proxy/status").json()["phase"] == "stopped", "the idle workspace is stopped")
    assert proxy.others() == {}
    assert "workspace reaped: id=demo namespace=default why='It has not been used for 2s.'" in proxy.log()
    answer = proxy.get("/ws/demo/files/kept.txt")

    assert (answer.status, answer.body) == (200, b"still here")


def test_proxy_killed_outright_leaves_nothing_behind(start: Proxies) -> None:
    proxy = start()
    proxy.start_kernel("demo")
    proxy.send_json("POST", "/ws/demo/api/terminals", {})
    assert proxy.servers("demo")
    assert proxy.kernels()

    proxy.signal(signal.SIGKILL)

    assert proxy.wait() == -signal.SIGKILL
    until(lambda: not proxy.others(), "nothing is left behind")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_proxy_told_to_stop_closes_websockets_and_leaves_nothing_behind(start: Proxies, number: signal.Signals) -> None:
    proxy = start()
    kernel_id = proxy.start_kernel("demo")
    url = f"ws://127.0.0.1:{proxy.port}/ws/demo/api/kernels/{kernel_id}/channels"

    with websocket_to(url) as channels:
        proxy.signal(number)
        opcode, payload = 0, b""
        while opcode != websocket.ABNF.OPCODE_CLOSE:
            opcode, payload = channels.recv_data(control_frame=True)
        assert int.from_bytes(payload[:2], "big") == _SERVICE_RESTART

    assert proxy.wait() == 0
    assert proxy.others() == {}


def test_bad_setting_ends_it_with_status_2_and_one_line(start: Proxies) -> None:
    proxy = start.begin("--idle-ttl=soon")

    assert proxy.wait() == 2
    (line,) = proxy.log().splitlines()
    assert "idle_ttl = 'soon' (from the command line): must be" in line


def test_address_in_use_ends_it_with_status_1_and_one_line(proxy: Proxy, start: Proxies) -> None:
    second = start.begin(f"--listen=127.0.0.1:{proxy.port}")

    assert second.wait() == 1
    (line,) = second.log().splitlines()
    assert f"cannot listen on 127.0.0.1:{proxy.port}" in line
