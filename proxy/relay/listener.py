"""Accept clients' connections, and no more than there is room for.

Those beyond the server's own limit are accepted too, to be told so, up to a few; the rest waits in the kernel's queue
until one has ended. Running out of file descriptors or memory ends nothing and does not spin: it is tried again later.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from proxy.relay.server import ClientServer

logger = logging.getLogger(__name__)

EXCESS: Final = 64  # connections beyond the limit that are open at once, each to be told that there is no room
BACKLOG: Final = 1024
_AT_ONCE: Final = 64  # accepted in one turn of the event loop, so that requests in flight get theirs
_PARTING: Final = 5.0  # seconds that the other side of TLS may take to say that it has heard the end
_RETRY: Final = 0.5  # seconds until it is tried again after the system had no room


class Listener:
    """Gives each connection of a listening socket to a server.

    Args:
        sock: bound, non-blocking; owned from now on.
        server: makes the protocol of each connection.
        most: how many connections may be open; None for no limit.
        context: returns what new connections speak TLS with; None where they speak none.
    """

    def __init__(
        self,
        sock: socket.socket,
        server: ClientServer,
        most: int | None,
        context: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        self._sock = sock
        self._server = server
        self._most = most
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_listening = False
        self._is_out_of_room = False  # the system's own: said once
        self._retry: asyncio.TimerHandle | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self._sock.getsockname()[:2]
        return host, port

    def start(self) -> None:
        """Begin to accept."""
        self._sock.listen(BACKLOG)
        self._server.on_room = self._resume
        self._resume()

    async def close(self) -> None:
        """Accept no more, and let those who wait in the kernel's queue know; return when all are the server's."""
        self._pause()
        self._server.on_room = None
        if self._retry is not None:
            self._retry.cancel()
        self._most = 0
        self._sock.close()
        if self._context is not None:
            for task in self._tasks:
                task.cancel()  # a handshake may take its time
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def _has_room(self) -> bool:
        # Those whose transport is still being made are not yet counted by the server.
        return self._most is None or self._server.open_connections + len(self._tasks) < self._most

    def _resume(self) -> None:
        if not self._is_listening and self._retry is None and self._has_room:
            self._is_listening = True
            self._loop.add_reader(self._sock, self._accept)

    def _pause(self) -> None:
        if self._is_listening:
            self._is_listening = False
            self._loop.remove_reader(self._sock)

    def _accept(self) -> None:
        """Take what waits in the queue."""
        for _ in range(_AT_ONCE):
            if not self._has_room:
                self._pause()
                return
            try:
                accepted, _ = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no file descriptor or memory; or a network's error, which accept(2) passes on
                self._wait(error)
                return
            self._is_out_of_room = False
            accepted.setblocking(False)
            task = self._loop.create_task(self._serve(accepted))
            self._tasks.add(task)
            task.add_done_callback(self._is_served)

    def _is_served(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._resume()

    async def _serve(self, accepted: socket.socket) -> None:
        try:
            if self._context is None:
                await self._loop.connect_accepted_socket(self._server, accepted)
            else:
                await self._loop.connect_accepted_socket(
                    self._server,
                    accepted,
                    ssl=self._context(),
                    ssl_handshake_timeout=self._server.handshake_timeout,
                    ssl_shutdown_timeout=_PARTING,
                )
        except OSError as error:  # it ended before it began, or speaks no TLS
            logger.debug("a connection ended at once: %s", error)
            accepted.close()
        except asyncio.CancelledError:
            accepted.close()
            raise

    def _wait(self, error: OSError) -> None:
        """Leave the queue alone for a while: it stays readable, and would be tried again at once for ever."""
        if not self._is_out_of_room:
            logger.error("cannot accept connections for now (%s): open=%d", error, self._server.open_connections)
        self._is_out_of_room = True
        self._pause()
        self._retry = self._loop.call_later(_RETRY, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._resume()
