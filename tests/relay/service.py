"""The server of client connections alone, on a real socket, with a handler that a test writes."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from proxy.relay.server import ClientServer
from tests.relay.origin import Wire, connect, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from aiohttp import web

    from proxy.relay.server import Limits

    Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Service:
    """A server on a real socket, and the clients of one test."""

    def __init__(self, server: ClientServer, port: int) -> None:
        self.server = server
        self.port = port
        self.wires: list[Wire] = []

    async def sent(self, *pieces: bytes) -> Wire:
        self.wires.append(await connect(self.port))
        self.wires[-1].send(*pieces)
        return self.wires[-1]


@asynccontextmanager
async def serving(
    handler: Handler, limits: Limits | None = None, shed: Handler | None = None
) -> AsyncIterator[Service]:
    """Serve; at the end nothing of it is left."""
    server = ClientServer(handler, limits=limits, shed=shed)
    listener = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    service = Service(server, listener.sockets[0].getsockname()[1])
    try:
        yield service
    finally:
        listener.close()
        for wire in service.wires:
            await wire.closed()
        await server.shutdown(1)
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    assert (len(server.heads), len(server.excess), len(server.bodies)) == (0, 0, 0)
    assert server.open_connections == 0


def write(request: web.BaseRequest, data: bytes) -> None:
    assert request.transport is not None
    request.transport.write(data)
