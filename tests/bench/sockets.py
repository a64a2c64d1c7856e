"""Websocket load from one bare epoll loop: echoed messages, pushed frames, and connections that do nothing.

Messages carry a mask of zeros, so that stand-in and load need not compute one: what is measured is what lies between.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from tests.bench.notebook import PAYLOAD, PUSH, REPLY

if TYPE_CHECKING:
    from collections.abc import Iterator

MESSAGE: Final = b"\x82\xfe" + PAYLOAD.to_bytes(2, "big") + bytes(4) + b"x" * PAYLOAD
_HEADER: Final = REPLY[:4]
_KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="
_PIECE: Final = 1 << 20
WARM_UP: Final = 0.3


def open_websocket(port: int, target: str) -> socket.socket:
    """Return a connection that has become a websocket; nothing of it has been read."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=30)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {_KEY}\r\n\r\n".encode()
        )
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            seen, answer = len(answer), sock.recv(65536, socket.MSG_PEEK)
            if not answer:
                raise RuntimeError("the connection ended")
            if len(answer) == seen:  # a peek does not wait for more
                time.sleep(0.0001)
        sock.recv(end + 4)  # what is behind it is not ours to read
        if not answer.startswith(b"HTTP/1.1 101"):
            raise RuntimeError(answer)
    except BaseException:
        sock.close()
        raise
    return sock


class _Echo:
    """One connection that keeps so many messages in flight."""

    def __init__(self, sock: socket.socket, in_flight: int) -> None:
        self.sock = sock
        self.received = 0
        self._part = 0
        self._send(in_flight)

    def go_on(self) -> None:
        data = self.sock.recv(262_144)
        if not data:
            raise RuntimeError("the websocket ended")
        if not self._part and not data.startswith(_HEADER):
            raise RuntimeError(f"not an echo: {data[:20]!r}")
        count, self._part = divmod(self._part + len(data), len(REPLY))
        self.received += count
        self._send(count)

    def _send(self, count: int) -> None:
        for _ in range(count):  # one by one, as somebody who has one message at a time
            self.sock.sendall(MESSAGE)


def echoes(port: int, target: str, connections: int, in_flight: int, seconds: float) -> float:
    """Return messages per second that came back."""
    with ExitStack() as stack:
        socks = [stack.enter_context(open_websocket(port, target)) for _ in range(connections)]
        peers = {sock.fileno(): _Echo(sock, in_flight) for sock in socks}

        def received() -> int:
            return sum(peer.received for peer in peers.values())

        poll = stack.enter_context(select.epoll())
        for number in peers:
            poll.register(number, select.EPOLLIN)
        before, began = 0, time.perf_counter()
        for moment in _turns(began, seconds):
            if moment is not None:
                before, began = received(), moment
            for number, _ in poll.poll(10):
                peers[number].go_on()
        return (received() - before) / (time.perf_counter() - began)


def pushes(port: int, target: str, connections: int, seconds: float) -> float:
    """Return bytes per second of frames that the notebook sends as fast as it can."""
    buffer = bytearray(_PIECE)
    with ExitStack() as stack:
        socks = {sock.fileno(): sock for sock in (open_websocket(port, target) for _ in range(connections))}
        for sock in socks.values():
            stack.enter_context(sock)
            first = sock.recv(2, socket.MSG_PEEK | socket.MSG_WAITALL)
            if first != PUSH[:2]:
                raise RuntimeError(f"not a frame: {first!r}")
        poll = stack.enter_context(select.epoll())
        for number in socks:
            poll.register(number, select.EPOLLIN)
        done, began = 0, time.perf_counter()
        for moment in _turns(began, seconds):
            if moment is not None:
                done, began = 0, moment
            for number, _ in poll.poll(10):
                got = socks[number].recv_into(buffer)
                if not got:
                    raise RuntimeError("the websocket ended")
                done += got
        return done / (time.perf_counter() - began)


def _turns(began: float, seconds: float) -> Iterator[float | None]:
    """Yield for so long after a warm-up; at the end of that, its moment."""
    while time.perf_counter() < began + WARM_UP:
        yield None
    start = time.perf_counter()
    yield start
    while time.perf_counter() < start + seconds:
        yield None
