"""A real JupyterLab behind the proxy, used as its own clients use it: kernels, terminals, large files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

import pytest
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.gateway.managers import GatewayKernelManager

from tests.e2e import PATIENCE_SECONDS, websocket_to
from tests.e2e.kernel import compute
from tests.e2e.streaming_server import blocks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e import Proxy

_LARGE: Final = 200  # blocks of 1 MiB, as JupyterLab cuts a file that it uploads
_ALLOWED_GROWTH: Final = 30 * 1024 * 1024


@pytest.fixture
def gateway(proxy: Proxy) -> Iterator[GatewayClient]:
    """Jupyter Server's own client of another Jupyter server, set to the workspace `demo`."""
    GatewayClient.clear_instance()
    yield GatewayClient.instance(url=f"{proxy.url}/ws/demo/", ws_url=f"ws://127.0.0.1:{proxy.port}/ws/demo/")
    GatewayClient.clear_instance()


async def test_kernel_computes_for_the_client_that_jupyter_server_has(gateway: GatewayClient) -> None:
    kernel = GatewayKernelManager()  # type: ignore[no-untyped-call]
    await kernel.start_kernel()
    client = kernel.client()  # type: ignore[no-untyped-call]
    await client.start_channels()
    try:
        await client.wait_for_ready(timeout=PATIENCE_SECONDS)

        request_id = client.execute("6*7")
        reply = await client.get_shell_msg(timeout=PATIENCE_SECONDS)
        shown: list[dict[str, Any]] = []
        while not shown or shown[-1]["content"] != {"execution_state": "idle"}:
            message = await client.get_iopub_msg(timeout=PATIENCE_SECONDS)
            shown += [message] if message["parent_header"].get("msg_id") == request_id else []
    finally:
        await asyncio.to_thread(client.stop_channels)
        await kernel.shutdown_kernel()

    assert (reply["parent_header"]["msg_id"], reply["content"]["status"]) == (request_id, "ok")
    results = [message["content"]["data"] for message in shown if message["msg_type"] == "execute_result"]
    assert results == [{"text/plain": "42"}]


def test_kernel_speaks_the_subprotocol_that_the_client_offers(proxy: Proxy) -> None:
    kernel_id = proxy.start_kernel("demo")

    assert compute(proxy.websocket_url("demo"), kernel_id, "6*7") == "42"

    assert proxy.request("DELETE", f"/ws/demo/api/kernels/{kernel_id}").status == 204


def test_terminal_echoes(proxy: Proxy) -> None:
    name = proxy.send_json("POST", "/ws/demo/api/terminals", {}).json()["name"]
    url = f"ws://127.0.0.1:{proxy.port}/ws/demo/terminals/websocket/{name}"
    shown = ""

    with websocket_to(url) as terminal:
        terminal.send(json.dumps(["stdin", "echo forty-$((1+1))\r"]))
        while "forty-2" not in shown:
            kind, *values = json.loads(terminal.recv())
            shown += values[0] if kind == "stdout" else ""

    assert proxy.request("DELETE", f"/ws/demo/api/terminals/{name}").status == 204


def test_a_large_file_goes_up_and_comes_down_whole_in_flat_memory(proxy: Proxy) -> None:
    path, sent, received = "/ws/demo/api/contents/large.bin", hashlib.sha256(), hashlib.sha256()
    proxy.get("/ws/demo/api/status")
    before = proxy.reset_peak()

    with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE_SECONDS)) as connection:
        for number, block in enumerate(blocks(_LARGE), start=1):
            sent.update(block)
            model = {"type": "file", "format": "base64", "chunk": number if number < _LARGE else -1}
            connection.request("PUT", path, json.dumps({**model, "content": base64.b64encode(block).decode()}))
            response = connection.getresponse()
            assert response.status in {200, 201}, response.read()
            response.read()
        connection.request("GET", "/ws/demo/files/large.bin")
        response = connection.getresponse()
        while block := response.read(1024 * 1024):
            received.update(block)
    (proxy.root / "demo" / "large.bin").unlink()

    assert received.hexdigest() == sent.hexdigest()
    assert proxy.peak() - before < _ALLOWED_GROWTH
