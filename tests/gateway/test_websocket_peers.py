"""Both ends as they are in life: a Tornado that compresses behind the proxy, and a client that compresses before it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSMsgType
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from tests.e2e import REPOSITORY
from tests.gateway import vanishing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.gateway.conftest import Launch

MIB = 1 << 20


@asynccontextmanager
async def compressing(seen: list[Any]) -> AsyncIterator[int]:
    """A Tornado that echoes, compressed where the client wants it; its port. Adds each websocket to `seen`."""

    class Echo(WebSocketHandler):
        def get_compression_options(self) -> dict[str, Any] | None:
            return {}

        def open(self, *_: str, **__: str) -> None:
            seen.append(self.ws_connection)

        async def on_message(self, message: str | bytes) -> None:
            await self.write_message(message, binary=isinstance(message, bytes))

    server = HTTPServer(Application([(r"/.*", Echo)], websocket_max_message_size=64 * MIB))
    (sock,) = bind_sockets(0, "127.0.0.1")
    server.add_sockets([sock])
    try:
        yield sock.getsockname()[1]
    finally:
        server.stop()
        await server.close_all_connections()


async def test_compression_is_negotiated_end_to_end_and_used_both_ways(launch: Launch) -> None:
    proxy = await launch()
    seen: list[Any] = []
    dull, lively = b"abc" * MIB, os.urandom(MIB)

    async with compressing(seen) as port:
        proxy.backend.port = port
        url = "/ws/demo/api/kernels/1/channels"
        async with proxy.http.ws_connect(url, compress=15, max_msg_size=0, origin="http://localhost") as websocket:
            for message in (dull, lively, b"", dull):
                await websocket.send_bytes(message)
                got = await websocket.receive()
                assert (got.type, got.data) == (WSMsgType.BINARY, message)
            assert websocket.compress == 15
        (other,) = seen
        assert websocket.close_code == 1000

    for on_the_wire in (other._wire_bytes_in, other._wire_bytes_out):
        assert MIB < on_the_wire < 2 * MIB  # of 7 MiB


async def test_compression_that_the_client_does_not_want_is_not_negotiated(launch: Launch) -> None:
    proxy = await launch()
    seen: list[Any] = []

    async with compressing(seen) as port:
        proxy.backend.port = port
        async with proxy.http.ws_connect("/ws/demo/x", max_msg_size=0, origin="http://localhost") as websocket:
            await websocket.send_bytes(bytes(MIB))
            assert (await websocket.receive()).data == bytes(MIB)
            assert not websocket.compress

    assert seen[0]._wire_bytes_out > MIB


def test_peers_that_vanish_without_a_word_are_found_by_tcp_and_the_other_side_is_closed() -> None:
    if shutil.which("unshare") is None or shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("makes a network namespace: needs root, unshare (util-linux) and ip (iproute2)")
    command = ["unshare", "--net", sys.executable, "-m", vanishing.__name__]

    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("neither") == "still"
    assert len(found) == 4
    assert set(found.values()) <= {"closed", "reset"}
