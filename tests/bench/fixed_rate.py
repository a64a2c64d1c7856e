"""Requests at a fixed rate, whatever the answers do: latency counts from the moment that a request was due.

A load that waits for an answer before it sends the next request measures a stall once, where all who were due in the
meantime have waited. Here each connection has its share of the schedule; what is late by its own fault is late too.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from typing import Final

_END: Final = b"}"  # of the stand-in's only answer


class _Client:
    """One connection, with one request under way and those that are due behind it."""

    def __init__(self, port: int, request: bytes) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._request = request
        self._due: deque[float] = deque()
        self._answer = b""

    def fileno(self) -> int:
        return self.sock.fileno()

    def want(self, due: float) -> None:
        self._due.append(due)
        if len(self._due) == 1:
            self.sock.sendall(self._request)

    def take(self, latencies: list[float]) -> None:
        self._answer += self.sock.recv(65536)
        if not self._answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(self._answer)
        if self._answer.endswith(_END):
            self._answer = b""
            latencies.append(time.perf_counter() - self._due.popleft())
            if self._due:
                self.sock.sendall(self._request)


def latencies_at(port: int, target: str, connections: int, per_second: float, seconds: float) -> list[float]:
    """Return every latency in seconds, sorted."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    clients = [_Client(port, request) for _ in range(connections)]
    by_number = {client.fileno(): client for client in clients}
    latencies: list[float] = []
    count, sent = int(per_second * seconds), 0
    began = time.perf_counter() + 0.01
    try:
        while len(latencies) < count:
            now = time.perf_counter()
            while sent < count and (due := began + sent / per_second) <= now:
                clients[sent % connections].want(due)
                sent += 1
            pause = max(0.0, began + sent / per_second - time.perf_counter()) if sent < count else 10.0
            # select(2) takes microseconds where epoll takes milliseconds.
            ready, _, _ = select.select(by_number, (), (), pause)
            if not ready and sent >= count:
                raise RuntimeError(f"{count - len(latencies)} requests were not answered")
            for number in ready:
                by_number[number].take(latencies)
    finally:
        for client in clients:
            client.sock.close()
    return sorted(latencies)


def percentile(values: list[float], share: float) -> float:
    """Return the value below which so much of a sorted list lies."""
    return values[min(len(values) - 1, int(len(values) * share))]
