"""The Autobahn cases against an echo server, directly and through the proxy: the verdicts are the same.

The echo servers are the websocket implementations that a notebook server may have: Tornado (Jupyter's own) and aiohttp.
Where one of them does not pass a case, it does not pass it through the proxy either, with the same close code.
"""

from __future__ import annotations

import warnings
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer
from kosoku import FailureError, run_fuzzingclient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler

from tests.relay.origin import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from kosoku._kosoku import CaseResult

    from tests.gateway.conftest import Launch

_LARGEST: Final = 64 * 1024 * 1024
_AT_ONCE: Final = 24
_CASES: Final = {
    "framing": ["1.*", "2.*", "3.*", "4.*", "5.*", "10.*"],
    "utf8": ["6.*"],
    "close": ["7.*"],
    "limits": ["9.*"],
    # Each of 12.x and 13.x is a thousand compressed messages: those of 16 bytes, one of 4 kB, one of 8 kB in fragments.
    "deflate": [*(f"12.{of}.1" for of in range(1, 6)), *(f"13.{of}.1" for of in range(1, 8)), "13.1.5", "13.5.11"],
}


class _Echo(WebSocketHandler):
    def get_compression_options(self) -> dict[str, Any] | None:
        return {}

    def check_origin(self, origin: str) -> bool:
        return True

    async def on_message(self, message: str | bytes) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


@asynccontextmanager
async def tornado_echo() -> AsyncIterator[int]:
    """A Tornado that echoes; its port."""
    server = HTTPServer(Application([(r"/.*", _Echo)], websocket_max_message_size=_LARGEST))
    (sock,) = bind_sockets(0, "127.0.0.1")
    server.add_sockets([sock])
    try:
        yield sock.getsockname()[1]
    finally:
        server.stop()
        await server.close_all_connections()


@asynccontextmanager
async def aiohttp_echo() -> AsyncIterator[int]:
    """An aiohttp that echoes; its port."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        websocket = web.WebSocketResponse(max_msg_size=_LARGEST)
        await websocket.prepare(request)
        async for message in websocket:
            if message.type == WSMsgType.TEXT:
                await websocket.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await websocket.send_bytes(message.data)
        return websocket

    app = web.Application()
    app.router.add_get("/{rest:.*}", echo)
    async with TestServer(app) as server:
        assert server.port is not None
        yield server.port


_SERVERS: Final = {"tornado": tornado_echo, "aiohttp": aiohttp_echo}


async def judge(port: int, cases: Sequence[str]) -> dict[str, tuple[object, ...]]:
    """Run the cases; return, by case, all that the other side's conduct decided."""
    results: list[CaseResult]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed file", ResourceWarning)  # the cases' own test data
        try:
            results = await run_fuzzingclient(f"ws://localhost:{port}/ws/demo/echo", cases, concurrency=_AT_ONCE)
        except FailureError as failure:
            results = failure.results
    return {found.case_id: _verdict(found) for found in results}


def _verdict(found: CaseResult) -> tuple[object, ...]:
    return (
        found.behavior.value,
        found.behavior_close.value,
        found.remote_close_code,
        found.remote_close_reason,
        found.was_clean,
        found.received,
    )


async def _compare(launch: Launch, server: str, cases: Sequence[str]) -> dict[str, tuple[object, ...]]:
    """Assert that the cases have the same verdicts through the proxy; return them."""
    async with _SERVERS[server]() as port:
        proxy = await launch()
        proxy.backend.port = port
        direct = await judge(port, cases)

        proxied = await judge(proxy.port, cases)

        await until(lambda: len(proxy.websockets) == 0)
    assert proxied == direct
    return direct


@pytest.mark.parametrize("server", _SERVERS)
@pytest.mark.parametrize("group", ["framing", "close"])
async def test_verdicts_on_frames_and_closes_are_the_same_through_the_proxy(
    launch: Launch, server: str, group: str
) -> None:
    verdicts = await _compare(launch, server, _CASES[group])

    assert len(verdicts) > 30
    assert [found for found in verdicts.values() if found[:2] == ("OK", "OK")]


@pytest.mark.uvloop
@pytest.mark.parametrize("group", ["utf8", "limits", "deflate"])
async def test_verdicts_of_the_rest_are_the_same_through_the_proxy(launch: Launch, group: str) -> None:
    verdicts = await _compare(launch, "tornado", _CASES[group])

    # UNIMPLEMENTED would say that no compression was negotiated.
    assert {found[:2] for found in verdicts.values()} <= {("OK", "OK"), ("NON-STRICT", "OK")}


@pytest.mark.whole
@pytest.mark.uvloop
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("server", _SERVERS)
async def test_verdicts_of_all_cases_are_the_same_through_the_proxy(launch: Launch, server: str) -> None:
    verdicts = await _compare(launch, server, ["*"])

    assert len(verdicts) > 500
