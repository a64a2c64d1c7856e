"""How a peer is found that has vanished, or does not read: by TCP itself, with no timer of ours."""

from __future__ import annotations

import socket
from typing import Final

STALL_TIMEOUT: Final = 120.0  # seconds that a notebook server may take nothing of what is sent to it


def probing(*, idle: int, interval: int, count: int) -> tuple[tuple[int, int, int], ...]:
    """Return the options with which TCP asks, after so many seconds of silence, so often, for a peer that is silent."""
    return tuple(
        (level, getattr(socket, name), value)
        for level, name, value in (
            (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
            (socket.IPPROTO_TCP, "TCP_KEEPIDLE", idle),
            (socket.IPPROTO_TCP, "TCP_KEEPINTVL", interval),
            (socket.IPPROTO_TCP, "TCP_KEEPCNT", count),
        )
        if hasattr(socket, name)
    )


# Data that is not taken gives up after a stall timeout, also where the peer lives but has stopped reading (tcp(7),
# TCP_USER_TIMEOUT): TCP does not tell the two apart, and either way memory is held for nothing.
_TCP_OPTIONS: Final = probing(idle=60, interval=15, count=4)


def find_half_open_peers(sock: socket.socket, stall_timeout: float = STALL_TIMEOUT) -> None:
    """Let TCP find a peer that vanished, or does not read. Set on a listening socket, every connection of it has it.

    Args:
        sock: of TCP.
        stall_timeout: seconds that data may wait for its peer to take it.
    """
    for option in _TCP_OPTIONS:
        sock.setsockopt(*option)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stall_timeout * 1000))
