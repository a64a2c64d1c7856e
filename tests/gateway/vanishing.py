"""Peers that vanish without a word: a program for a network namespace of its own, `unshare --net python -m ...`.

A blackhole route to an address takes every later packet from and to it. Prints, as JSON, what became of each websocket.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from datetime import timedelta
from typing import Any, Final

import uvloop
from yarl import URL

from proxy import half_open
from proxy.app import App
from proxy.config import Config
from proxy.workspace import Handle, Key
from tests.gateway.conftest import MovingBackend
from tests.relay.origin import Wire, ask_upgrade, frame, switch, until

_CLIENT, _NOTEBOOK, _HERE = "127.0.0.3", "127.0.0.4", "127.0.0.1"
_QUICK: Final = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 2}
_STALL: Final = 3.0
_MASK: Final = b"\1\2\3\4"


class Backend(MovingBackend):
    """The workspace `far` has its notebook server on the address that vanishes."""

    async def start(self, key: Key, user: str = "") -> Handle:
        host = _NOTEBOOK if key.workspace_id == "far" else _HERE
        return Handle(URL(f"http://{host}:{self.port}/ws/{key.workspace_id}/"))


def _quicken() -> None:
    """Let TCP find out in seconds what it finds out in minutes."""
    values = {(socket.IPPROTO_TCP, getattr(socket, name)): value for name, value in _QUICK.items()}
    options = tuple((level, name, values.get((level, name), value)) for level, name, value in half_open._TCP_OPTIONS)
    assert values.keys() <= {(level, name) for level, name, _ in options}
    half_open._TCP_OPTIONS = options  # type: ignore[misc]
    assert half_open.find_half_open_peers.__defaults__ == (half_open.STALL_TIMEOUT,)
    half_open.find_half_open_peers.__defaults__ = (_STALL,)


async def _connect(port: int, address: str) -> Wire:
    sock = socket.socket()
    sock.bind((address, 0))
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (_HERE, port))
    return Wire(*await asyncio.open_connection(sock=sock))


async def main() -> dict[str, Any]:
    """Open five websockets, let four of their peers vanish, and tell how the other sides learn it."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    _quicken()
    accepted: asyncio.Queue[Wire] = asyncio.Queue()
    server = await asyncio.start_server(lambda reader, writer: accepted.put_nowait(Wire(reader, writer)), "0.0.0.0", 0)
    port = server.sockets[0].getsockname()[1]
    async with App(Config(listen=f"{_HERE}:0", client_stall_timeout=timedelta(seconds=_STALL)), Backend(port)) as app:

        async def opened(workspace: str, address: str) -> tuple[Wire, Wire]:
            client = await _connect(int(app.url.rpartition(":")[2]), address)
            client.send(ask_upgrade(f"/ws/{workspace}/x"))
            wire = await accepted.get()
            wire.send(switch(await wire.take_request()))
            await client.take_response()
            return client, wire

        _, idle_client = await opened("near", _CLIENT)
        _, told_client = await opened("near", _CLIENT)
        idle_notebook, _ = await opened("far", _HERE)
        told_notebook, _ = await opened("far", _HERE)
        client, wire = await opened("near", _HERE)
        for address in (_CLIENT, _NOTEBOOK):
            subprocess.run(["ip", "route", "add", "blackhole", f"{address}/32", "table", "local"], check=True)
        told_client.send(frame(b"is there anybody?"))
        told_notebook.send(frame(b"is there anybody?", mask=_MASK))
        watched = {
            "idle client": idle_client, "client that is told something": told_client,
            "idle notebook": idle_notebook, "notebook that is told something": told_notebook,
        }  # fmt: skip
        found: dict[str, Any] = dict(
            zip(watched, await asyncio.gather(*(one.ending() for one in watched.values())), strict=True)
        )
        client.send(frame(b"still", mask=_MASK))
        found["neither"] = (await wire.take_frame()).payload.decode()
        await until(lambda: len(app.websockets) == 1)
        client.close()
    server.close()
    return found


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        json.dump(runner.run(main()), sys.stdout)
