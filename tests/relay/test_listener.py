"""Accepting connections: as many as there is room for, the rest later; out of descriptors, it waits and recovers."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from proxy.relay import listener as listener_module
from proxy.relay.listener import Listener
from proxy.relay.server import ClientServer, Limits
from tests.relay.origin import PLAIN, Wire, ask, connect, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Service:
    def __init__(self, server: ClientServer, listener: Listener) -> None:
        self.server = server
        self.listener = listener
        self.wires: list[Wire] = []

    async def sent(self, *pieces: bytes) -> Wire:
        self.wires.append(await connect(self.listener.address[1]))
        self.wires[-1].send(*pieces)
        return self.wires[-1]


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="ok")


async def full(request: web.BaseRequest) -> web.StreamResponse:
    response = web.Response(status=503)
    response.force_close()
    return response


@asynccontextmanager
async def listening(most: int | None = None, *, max_connections: int | None = None) -> AsyncIterator[Service]:
    server = ClientServer(answer, limits=Limits(header_timeout=60, max_connections=max_connections), shed=full)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    service = Service(server, Listener(sock, server, most))
    service.listener.start()
    try:
        yield service
    finally:
        await service.listener.close()
        for wire in service.wires:
            await wire.closed()
        await server.shutdown(1)
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


async def test_hundreds_of_connections_at_once_are_served() -> None:
    async with listening() as service:
        clients = await asyncio.gather(*(service.sent(ask("/")) for _ in range(300)))

        assert {(await client.take_response()).body for client in clients} == {b"ok"}
        assert service.server.open_connections == 300


async def test_what_there_is_no_room_for_waits_until_another_has_ended() -> None:
    async with listening(4) as service:
        clients = [await service.sent() for _ in range(4)]
        await until(lambda: service.server.open_connections == 4)

        late = await service.sent(ask("/"))
        await until(lambda: not service.listener._is_listening)
        assert service.server.open_connections == 4
        await clients[0].closed()

        assert (await late.take_response()).status == 200
        assert service.server.open_connections == 4


async def test_crowd_is_told_that_there_is_no_room_while_those_who_are_there_are_served() -> None:
    async with listening(2 + 8, max_connections=2) as service:
        kept = [await service.sent(ask("/")) for _ in range(2)]
        for client in kept:
            await client.take_response()

        crowd = await asyncio.gather(*(service.sent(ask("/")) for _ in range(200)))
        assert {(await client.take_response()).status for client in crowd} == {503}
        for client in crowd:
            await client.closed()
        for client in kept:
            client.send(ask("/"))
            assert (await client.take_response()).status == 200
            await client.closed()
        await until(lambda: not service.server.open_connections)

        assert (await (await service.sent(ask("/"))).take_response()).status == 200


def lowest_free_descriptor() -> int:
    free = os.dup(0)
    os.close(free)
    return free


async def test_without_file_descriptors_it_waits_says_so_once_and_recovers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(listener_module, "_RETRY", 0.02)
    attempts = 0
    wait = Listener._wait

    def count(self: Listener, error: OSError) -> None:
        nonlocal attempts
        attempts += 1
        assert error.errno == errno.EMFILE
        wait(self, error)

    monkeypatch.setattr(Listener, "_wait", count)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with listening() as service:
        first = await service.sent(ask("/"))
        await first.take_response()
        loop = asyncio.get_running_loop()
        client = socket.socket()
        client.setblocking(False)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free_descriptor(), limits[1]))
            await loop.sock_connect(client, ("127.0.0.1", service.listener.address[1]))
            began = loop.time()
            await until(lambda: attempts >= 5)
            elapsed = loop.time() - began
            first.send(ask("/"))
            assert (await first.take_response()).status == 200  # those who are there are served meanwhile
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        late = Wire(*await asyncio.open_connection(sock=client))
        service.wires.append(late)
        late.send(ask("/"))

        assert (await late.take_response()).status == 200

    assert elapsed > 4 * 0.02  # it does not spin
    told = [record.getMessage().partition(" (")[0] for record in caplog.records if record.levelname == "ERROR"]
    assert told == ["cannot accept connections for now"]


async def test_closing_refuses_who_comes_and_keeps_who_is_there() -> None:
    async with listening() as service:
        client = await service.sent(ask("/"))
        await client.take_response()
        _, port = service.listener.address

        await service.listener.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(port)
        client.send(ask("/"))

        assert (await client.take_response()).body == PLAIN[-2:]
