"""A healthy workspace beside others that stand still: its latency at a fixed rate, with and without them.

`python -m tests.bench.stuck PORT` is what uses those others, until it is ended: requests to a server that takes them
and never answers, requests that wait for one that never listens, downloads and pushed frames that nobody reads or that
are read slowly, and frames for a server that has stopped reading. It says so once all of it stands.
"""

from __future__ import annotations

import gc
import socket
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from tests.bench.fixed_rate import latencies_at, percentile
from tests.bench.programs import Program
from tests.bench.sockets import MESSAGE, open_websocket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECTIONS, PER_SECOND = 200, 2000.0
KINDS: Final = ("deaf", "absent", "flood")
_WAITING: Final = 100  # requests for each of those that do not answer
_EACH: Final = 4  # of everything else
_SLOWLY: Final = 0.05  # seconds between two pieces
_PIECE: Final = 65536
_FILLED: Final = 0.5  # seconds in which nothing more was taken: every buffer on the way is full
_STANDS: Final = "all stand"


def p99_of_healthy(port: int, seconds: float) -> float:
    """Return milliseconds."""
    gc.disable()  # a pause of the load's would be taken for the proxy's
    try:
        found = latencies_at(port, "/ws/static/api", CONNECTIONS, PER_SECOND, seconds)
    finally:
        gc.enable()
    return percentile(found, 0.99) * 1000


@contextmanager
def stuck(port: int, core: int | None, directory: Path) -> Iterator[None]:
    """Let workspaces of each kind be stuck for so long."""
    program = Program([sys.executable, "-m", "tests.bench.stuck", str(port)], core, directory)
    try:
        while _STANDS not in (said := program.log.read_text()):
            if not program.is_running:
                raise RuntimeError(said)
            time.sleep(0.01)
        yield
        if not program.is_running:
            raise RuntimeError(program.log.read_text())
    finally:
        program.stop()


def _ask(port: int, target: str) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
    return sock


def _flood(sock: socket.socket) -> None:
    """Send frames until nothing more is taken."""
    sock.settimeout(_FILLED)
    with suppress(TimeoutError):
        while True:
            sock.sendall(MESSAGE * 100)


def main() -> None:
    """Use them all, and then read what is read slowly, for ever."""
    port = int(sys.argv[1])
    with ExitStack() as stack:
        waiting = [_ask(port, f"/ws/{kind}/x") for kind in ("deaf", "absent") for _ in range(_WAITING)]
        unread = [_ask(port, "/ws/flood/endless") for _ in range(_EACH)]
        pushed = [open_websocket(port, "/ws/flood/push") for _ in range(2 * _EACH)]
        floods = [open_websocket(port, "/ws/flood/stopped") for _ in range(_EACH)]
        for sock in (*waiting, *unread, *pushed, *floods):
            stack.enter_context(sock)
        for sock in floods:
            _flood(sock)
        print(_STANDS, flush=True)
        while True:
            time.sleep(_SLOWLY)
            for sock in pushed[:_EACH]:
                sock.recv(_PIECE)
            for sock in waiting:
                with suppress(BlockingIOError):
                    sys.exit(f"it was answered: {sock.recv(_PIECE, socket.MSG_DONTWAIT)!r}")


if __name__ == "__main__":
    main()
