"""Websocket frames of any size through a real proxy: they arrive, memory stays flat, and who is fast is held up."""

from __future__ import annotations

import hashlib
import shlex
import socket
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e import PATIENCE_SECONDS, Proxy, streaming_server, until
from tests.e2e.streaming_server import BLOCK_BYTES, blocks, frame_head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Proxies

_COMMAND: Final = shlex.join([sys.executable, streaming_server.__file__, "{port}", "{root}"])
_COUNT: Final = 64  # blocks of 1 MiB
_ALLOWED_GROWTH: Final = 16 * 1024 * 1024
_HELD_UP: Final = 40  # blocks that systems' socket buffers, of which there are four, and the proxy's may hold


@pytest.fixture
def streaming(start: Proxies) -> Proxy:
    """A proxy whose workspace `demo` runs the small server, and has carried both kinds of frames already."""
    proxy = start("--notebook-command", _COMMAND)
    with _websocket(proxy, "frames/1") as client:
        _take_frame(client, 1)
        assert _give_frame(client, 1) == _digest(1)
    return proxy


def test_a_frame_of_64_mb_passes_each_way_in_flat_memory(streaming: Proxy) -> None:
    before = streaming.reset_peak()

    with _websocket(streaming, f"frames/{_COUNT}") as client:
        _take_frame(client, _COUNT)
        assert _give_frame(client, _COUNT) == _digest(_COUNT)

    assert streaming.peak() - before < _ALLOWED_GROWTH


def test_a_notebook_faster_than_its_reader_is_held_up_in_flat_memory(streaming: Proxy) -> None:
    before, count = streaming.reset_peak(), 4 * _COUNT

    with _websocket(streaming, f"frames/{count}") as client:
        given = _calm(lambda: int(streaming.get("/ws/demo/given").body)) - 1  # one in the fixture
        growth = streaming.peak() - before
        _take_frame(client, count)

    assert 0 < given < _HELD_UP
    assert growth < _ALLOWED_GROWTH


def test_a_client_faster_than_its_notebook_is_held_up_in_flat_memory(streaming: Proxy) -> None:
    before, count, sent = streaming.reset_peak(), 4 * _COUNT, 0
    stream = b"".join((frame_head(count, is_masked=True), *blocks(count)))

    def send() -> int:
        nonlocal sent
        try:
            while sent < len(stream):
                sent += client.send(memoryview(stream)[sent : sent + BLOCK_BYTES], socket.MSG_DONTWAIT)
        except BlockingIOError:
            pass
        return sent

    with _websocket(streaming, f"taker/{count}") as client:
        held = _calm(send)
        growth = streaming.peak() - before
        assert streaming.get("/ws/demo/go").status == 200
        client.sendall(memoryview(stream)[sent:])
        assert client.recv(22, socket.MSG_WAITALL)[2:] == _digest(count)

    assert 0 < held < _HELD_UP * BLOCK_BYTES
    assert growth < _ALLOWED_GROWTH


@contextmanager
def _websocket(proxy: Proxy, path: str) -> Iterator[socket.socket]:
    """Open a websocket, whose bytes the test reads and writes itself."""
    head = (
        f"GET /ws/demo/{path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE_SECONDS) as client:
        client.sendall(head.encode())
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += client.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 "), answer
        client.settimeout(None)  # MSG_WAITALL waits on a blocking socket only
        yield client


def _take_frame(client: socket.socket, count: int) -> None:
    head = frame_head(count)
    assert client.recv(len(head), socket.MSG_WAITALL) == head
    buffer = bytearray(BLOCK_BYTES)
    for block in blocks(count):
        assert client.recv_into(buffer, BLOCK_BYTES, socket.MSG_WAITALL) == BLOCK_BYTES
        assert buffer == block


def _give_frame(client: socket.socket, count: int) -> bytes:
    client.sendall(frame_head(count, is_masked=True))
    for block in blocks(count):
        client.sendall(block)
    return client.recv(22, socket.MSG_WAITALL)[2:]


def _digest(count: int) -> bytes:
    digest = hashlib.sha1(usedforsecurity=False)
    for block in blocks(count):
        digest.update(block)
    return digest.digest()


def _calm(progress: object) -> int:
    """Return what `progress` returns when it has been the same for a second, and is something."""
    assert callable(progress)
    last, since = -1, time.monotonic()

    def is_calm() -> bool:
        nonlocal last, since
        now = int(progress())
        if now != last:
            last, since = now, time.monotonic()
        return last > 0 and time.monotonic() - since > 1

    until(is_calm, "nothing moves any more")
    return last
