"""A stand-in for JupyterLab on its own web server, Tornado: bodies with known contents, uploads, an echo, and crashes.

A script of its own: `notebook.py PORT BASE_URL WORKSPACE_ID`.

`body` gives `size` bytes of `name`, chunked if so asked, and ends the process after `until` of them. `sink` answers the
digest of what was sent. `echo` is a websocket: text that begins with "close " or is "vanish" ends it, all else comes
back. `crash` ends the process without an answer. What else a proxy may ask a Jupyter is answered as an idle one would.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import struct
import sys
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from tornado.web import Application, RequestHandler, stream_request_body
from tornado.websocket import WebSocketHandler

from tests.soak.bodies import body_of

_PIECE: Final = 65_536
_LARGEST: Final = 1 << 30
_RESET: Final = struct.pack("ii", 1, 0)
_IDLE: Final = {"version": "0", "kernels": 0, "connections": 0, "last_activity": "2024-01-01T00:00:00Z"}


class Idle(RequestHandler):
    """What an idle Jupyter says of itself."""

    def get(self, what: str | None = None) -> None:
        if what in {"/kernels", "/sessions", "/terminals"}:
            self.set_header("Content-Type", "application/json")
            self.write("[]")
        else:
            self.write(_IDLE)


class Body(RequestHandler):
    """GET `body?name=&size=[&chunked=1][&until=]`."""

    async def get(self) -> None:
        workspace_id = str(self.settings["workspace_id"])
        size = int(self.get_query_argument("size"))
        until = int(self.get_query_argument("until", "-1"))
        body = body_of(workspace_id, self.get_query_argument("name"), size)
        self.set_header("Content-Type", "application/octet-stream")
        self.set_header("X-Workspace", workspace_id)
        if not self.get_query_argument("chunked", ""):
            self.set_header("Content-Length", str(size))
        end = size if until < 0 else until
        for start in range(0, end, _PIECE):
            self.write(body[start : min(start + _PIECE, end)])
            await self.flush()
        if until >= 0:
            os._exit(1)


@stream_request_body
class Sink(RequestHandler):
    """POST `sink`: the digest of the body, and its size."""

    def prepare(self) -> None:
        self.request.connection.set_max_body_size(_LARGEST)  # type: ignore[union-attr]
        self._digest = hashlib.sha256()
        self._size = 0

    def data_received(self, chunk: bytes) -> None:
        self._digest.update(chunk)
        self._size += len(chunk)

    def post(self) -> None:
        self.set_header("X-Workspace", self.settings["workspace_id"])
        self.write({"sha256": self._digest.hexdigest(), "size": self._size})


class Echo(WebSocketHandler):
    """The websocket `echo`."""

    def check_origin(self, origin: str) -> bool:
        return True

    def get_compression_options(self) -> dict[str, Any] | None:
        return {}

    async def on_message(self, message: str | bytes) -> None:
        if message == "vanish":
            self._vanish()
        elif isinstance(message, str) and message.startswith("close "):
            self.close(int(message.removeprefix("close ")), "as asked")
        else:
            await self.write_message(message, binary=isinstance(message, bytes))

    def _vanish(self) -> None:
        """Reset the connection, as a kernel of the operating system does for a process that was killed."""
        stream: Any = self.ws_connection.stream  # type: ignore[union-attr]
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        stream.close()


class Crash(RequestHandler):
    """GET `crash`."""

    def get(self) -> None:
        os._exit(1)


def _say_nothing(handler: RequestHandler) -> None:
    """Keep no log of requests."""


async def main(port: int, base_url: str, workspace_id: str) -> None:
    """Serve for ever."""
    routes: list[Any] = [
        (rf"{base_url}api(/.*)?", Idle),
        (rf"{base_url}body", Body),
        (rf"{base_url}sink", Sink),
        (rf"{base_url}echo", Echo),
        (rf"{base_url}crash", Crash),
    ]
    app = Application(routes, workspace_id=workspace_id, log_function=_say_nothing, websocket_max_message_size=_LARGEST)
    app.listen(port, "127.0.0.1", backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
