"""How a connection ends without a loss of what was said last.

A system that closes a socket on which something is unread resets the connection (RFC 1122 section 4.2.2.13), and drops
what it has not sent; a transport that fails to write gives up what it has not read. Knows nothing of what is carried.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.relay.connection import Connection

PATIENCE: Final = 5.0  # seconds that the other side may take to close, too
_PIECE, _PIECES = 65_536, 128  # bytes at once, and how often at most: no system's buffer is larger


class Parting:
    """Has a connection to a notebook server from now on: sends what is written, then no more, and hears it out.

    What still comes is dropped. It is closed when the notebook server closes, or after `PATIENCE`.

    Args:
        connection: nobody else has it any more.
        partings: it is among these until it is over.
    """

    def __init__(self, connection: Connection, partings: set[Parting]) -> None:
        self._connection = connection
        self._partings = partings
        connection.taker = self
        if connection.transport is None:
            return
        self._timer = asyncio.get_running_loop().call_later(PATIENCE, connection.close)
        partings.add(self)
        connection.end_writing()
        connection.resume_reading()

    def hurry(self) -> None:
        """Close it as soon as all is sent."""
        self._connection.close()

    def on_readable(self, data: bytes) -> None:
        """Drop it: its client is gone."""

    def on_writable(self) -> None:
        """Nothing waits for room."""

    def on_closed(self, error: Exception | None) -> None:  # noqa: ARG002 - either way it is over
        """Be done."""
        self._timer.cancel()
        self._partings.discard(self)


def end_writing(transport: asyncio.Transport) -> None:
    """Send what is written, then tell the other side that no more will come; go on reading."""
    if not transport.is_closing() and transport.can_write_eof():
        with suppress(OSError):  # the other side has just broken it off
            transport.write_eof()


def read_rest(transport: asyncio.Transport) -> Iterator[bytes]:
    """Yield what came before the connection broke: the early answer to an upload, say, whose next byte was refused.

    A transport gives up reading when a write fails; its socket is open until `connection_lost` returns.
    """
    if transport.get_extra_info("sslcontext") is not None:
        return  # what waits in the socket is not what was said
    sock = transport.get_extra_info("socket")
    try:
        for _ in range(_PIECES):
            data = os.read(sock.fileno(), _PIECE)
            if not data:
                return
            yield data
    except OSError:
        return
