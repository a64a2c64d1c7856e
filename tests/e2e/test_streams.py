"""Bodies of a gigabyte through the proxy, to and from a small server: all of it arrives, and memory stays flat."""

from __future__ import annotations

import hashlib
import http.client
import os
import shlex
import signal
import socket
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e import PATIENCE_SECONDS, Proxy, streaming_server
from tests.e2e.streaming_server import BLOCK_BYTES, blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.e2e.conftest import Proxies

GIGABYTE: Final = 1024  # in blocks
_COMMAND: Final = shlex.join([sys.executable, streaming_server.__file__, "{port}", "{root}"])
_KILLS: Final = 10
_GET: Final = b"GET /ws/demo/source/1 HTTP/1.1\r\nHost: localhost\r\n\r\n"
_PUT: Final = b"PUT /ws/demo/sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nwhole"
_ALLOWED_GROWTH: Final = 30 * 1024 * 1024


@pytest.fixture
def streaming(start: Proxies) -> Proxy:
    """A proxy whose workspace `demo` runs the small server, and has carried something already."""
    proxy = start("--notebook-command", _COMMAND)
    assert proxy.request("PUT", "/ws/demo/sink", blocks(8)).status == 200
    assert len(proxy.get("/ws/demo/source/8").body) == 8 * BLOCK_BYTES
    return proxy


@pytest.mark.parametrize("is_chunked", [False, True], ids=["with_its_length", "chunked"])
def test_a_gigabyte_goes_up_whole_in_flat_memory(streaming: Proxy, is_chunked: bool) -> None:
    digest = hashlib.sha1(usedforsecurity=False)
    headers = {} if is_chunked else {"Content-Length": str(GIGABYTE * BLOCK_BYTES)}
    before = streaming.reset_peak()

    answer = streaming.request("PUT", "/ws/demo/sink", _noted(blocks(GIGABYTE), digest.update), headers)

    assert (answer.status, answer.body.decode()) == (200, digest.hexdigest())
    assert streaming.peak() - before < _ALLOWED_GROWTH


def test_a_gigabyte_comes_down_whole_in_flat_memory(streaming: Proxy) -> None:
    passing = _download(streaming, f"/ws/demo/source/{GIGABYTE}")
    before = streaming.reset_peak()

    for block, wanted in zip(passing, blocks(GIGABYTE), strict=True):
        assert block == wanted

    assert streaming.peak() - before < _ALLOWED_GROWTH


def test_a_download_in_flight_ends_whole_when_the_proxy_is_told_to_stop(streaming: Proxy) -> None:
    count = 64
    passing = _download(streaming, f"/ws/demo/source/{count}")
    assert next(passing)[:8] == bytes(8)

    streaming.signal(signal.SIGTERM)
    rest = sum(1 for _ in passing)

    assert rest == count - 1
    assert streaming.wait() == 0
    assert streaming.others() == {}


@pytest.mark.parametrize("request_text", [_GET, _PUT], ids=["GET", "PUT_in_one_piece"])
def test_request_that_follows_a_kill_is_answered_by_a_new_server(streaming: Proxy, request_text: bytes) -> None:
    wanted = _send(streaming, request_text)
    assert wanted

    for _ in range(_KILLS):
        (killed,) = streaming.servers("demo")
        os.kill(killed, signal.SIGKILL)

        assert _send(streaming, request_text) == wanted
        assert streaming.servers("demo") != [killed]


def _send(proxy: Proxy, request_text: bytes) -> bytes:
    """Send a request in one piece; return the body of its answer."""
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_SECONDS) as client:
        client.sendall(request_text)
        with closing(http.client.HTTPResponse(client)) as response:
            response.begin()
            assert response.status == 200, response.read()
            return response.read()


def _noted(passing: Iterator[bytes], note: Callable[[bytes], None]) -> Iterator[bytes]:
    for block in passing:
        note(block)
        yield block


def _download(proxy: Proxy, path: str) -> Iterator[bytearray]:
    """Yield one buffer again and again, filled anew each time."""
    with closing(http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE_SECONDS)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.status == 200
        view, filled = memoryview(buffer := bytearray(BLOCK_BYTES)), 0
        while read := response.readinto(view[filled:]):
            filled += read
            if filled == len(buffer):
                yield buffer
                filled = 0
        assert not filled
