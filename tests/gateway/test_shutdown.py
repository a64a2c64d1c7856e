"""The proxy as a whole, from its first connection to its last: what a shutdown waits for, and what it cuts off."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.app import App
from proxy.config import Config
from tests.gateway.conftest import DEMO, MovingBackend
from tests.relay.origin import PLAIN, Origin, Wire, ask, ask_upgrade, connect, frame, switch, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MASK = b"\x01\x02\x03\x04"
LONG = 60.0  # a grace that no test waits for


@dataclass
class Service:
    """An app that runs in a task of its own, so that a test can end it and look on."""

    app: App
    origin: Origin
    backend: MovingBackend
    task: asyncio.Task[None]
    stop: asyncio.Event
    wires: list[Wire] = field(default_factory=list)

    @property
    def port(self) -> int:
        return int(self.app.url.rpartition(":")[2])

    async def sent(self, *pieces: bytes) -> Wire:
        self.wires.append(await connect(self.port))
        self.wires[-1].send(*pieces)
        return self.wires[-1]

    async def begin_shutdown(self) -> None:
        """Ask it to end, and return when nothing is accepted any more."""
        port = self.port
        self.stop.set()
        await until(lambda: self.app.gateway._in_flight.is_draining)
        async with asyncio.timeout(10):
            while await self._is_accepted(port):
                pass

    async def _is_accepted(self, port: int) -> bool:
        try:
            await (await connect(port)).closed()
        except ConnectionRefusedError:
            return False
        except ConnectionError:  # it was queued while the listening socket was closed
            return True
        return True

    async def ended(self) -> None:
        async with asyncio.timeout(10):
            await asyncio.shield(self.task)


@asynccontextmanager
async def serving(grace: float = LONG, delay: float | None = None) -> AsyncIterator[Service]:
    """Run an app; at the end it has closed its backend, and nothing is left of it."""
    before = asyncio.all_tasks()
    async with Origin() as origin:
        backend, stop, started = MovingBackend(origin.port), asyncio.Event(), asyncio.Event()
        drain_delay = None if delay is None else timedelta(seconds=delay)
        config = Config(listen="127.0.0.1:0", shutdown_grace=timedelta(seconds=grace), drain_delay=drain_delay)
        app = App(config, backend)

        async def run() -> None:
            async with app:
                started.set()
                await stop.wait()

        task = asyncio.create_task(run())
        await asyncio.wait((task, asyncio.create_task(started.wait())), return_when=asyncio.FIRST_COMPLETED)
        service = Service(app, origin, backend, task, stop)
        try:
            yield service
        finally:
            app.hurry.set()
            stop.set()
            for wire in service.wires:
                await wire.closed()
            await service.ended()
        await origin.abandoned()
        assert backend.is_closed
        assert app.gateway.in_flight == 0
        assert len(app.websockets) == 0
    await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})


async def test_request_in_flight_is_finished_and_its_connection_closed() -> None:
    async with serving() as service:
        client = await service.sent(ask())
        wire, _ = await service.origin.asked()

        await service.begin_shutdown()
        wire.send(PLAIN)
        response = await client.take_response()

        assert response.body == b"ok"
        assert await client.ending() == "closed"
        await service.ended()


async def test_answer_under_way_is_finished() -> None:
    async with serving() as service:
        client = await service.sent(ask())
        wire, _ = await service.origin.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n", b"x" * 100_000)
        await client.take_until(b"\r\n\r\n")
        await client.take(100_000)

        await service.begin_shutdown()
        wire.send(b"y" * 100_000)

        assert await client.take(100_000) == b"y" * 100_000
        await service.ended()


async def test_upload_under_way_is_finished() -> None:
    async with serving() as service:
        client = await service.sent(ask("/ws/demo/x", "Content-Length: 200000", method="PUT"), b"x" * 100_000)
        wire = await service.origin.accepted()
        await wire.take_until(b"\r\n\r\n")
        await wire.take(100_000)

        await service.begin_shutdown()
        client.send(b"y" * 100_000)
        body = await wire.take(100_000)
        wire.send(PLAIN)

        assert body == b"y" * 100_000
        assert (await client.take_response()).status == 200
        await service.ended()


async def test_idle_connections_are_closed_at_once() -> None:
    async with serving() as service:
        busy = await service.sent(ask())
        wire, _ = await service.origin.asked()
        idle = await service.sent(ask("/"))
        await idle.take_response()
        silent = await service.sent()
        await until(lambda: service.app.gateway.in_flight == 1)

        await service.begin_shutdown()

        assert await idle.ending() == "closed"
        assert await silent.ending() in ("closed", "reset")
        assert not service.task.done()
        wire.send(PLAIN)
        assert (await busy.take_response()).body == b"ok"


async def test_busy_connection_takes_no_request_behind_the_one_in_flight() -> None:
    async with serving() as service:
        client = await service.sent(ask())
        wire, _ = await service.origin.asked()
        await service.sent(ask("/ws/demo/other"))
        await service.origin.asked()

        await service.begin_shutdown()
        wire.send(PLAIN)
        await client.take_response()

        assert await client.ending() == "closed"
        assert service.app.gateway.in_flight == 1
        assert not service.task.done()


@pytest.mark.parametrize("request_bytes", [ask("/ws/other/api"), ask("/")])
async def test_pipelined_requests_that_came_before_are_dropped_whole(request_bytes: bytes) -> None:
    async with serving() as service:
        client = await service.sent(ask(), request_bytes)
        wire, _ = await service.origin.asked()

        await service.begin_shutdown()
        wire.send(PLAIN)
        await client.take_response()

        assert await client.ending() in ("closed", "reset")
        assert service.backend.starts == {"demo": 1}


async def test_websockets_are_closed_with_1012_on_both_sides() -> None:
    async with serving() as service:
        client = await service.sent(ask_upgrade())
        wire, request = await service.origin.asked()
        wire.send(switch(request))
        await client.take_response()

        await service.begin_shutdown()
        told_client, told_notebook = await client.take_frame(), await wire.take_frame()
        client.send(frame(told_client.payload, 8, mask=MASK))

        assert told_client.payload == told_notebook.payload == struct.pack("!H", 1012)
        assert await client.ending() == "closed"
        await service.ended()


async def test_handshake_under_way_ends_with_1012() -> None:
    async with serving() as service:
        client = await service.sent(ask_upgrade())
        wire, request = await service.origin.asked()

        await service.begin_shutdown()
        await until(lambda: service.app.websockets._close_code)
        wire.send(switch(request))
        await client.take_response()

        assert (await client.take_frame()).payload == struct.pack("!H", 1012)


async def test_everything_goes_on_until_load_balancers_have_followed() -> None:
    async with serving(delay=LONG) as service:
        kept = await service.sent(ask())
        wire, _ = await service.origin.asked()
        wire.send(PLAIN)
        await kept.take_response()

        service.stop.set()
        await until(lambda: service.app.is_draining)
        kept.send(ask())
        await wire.take_request()
        wire.send(PLAIN)
        answer = await kept.take_response()
        client = await service.sent(ask("/ws/other/"))
        fresh, _ = await service.origin.asked()
        fresh.send(PLAIN)
        upgrading = await service.sent(ask_upgrade())
        websocket, request = await service.origin.asked()
        websocket.send(switch(request))

        other = await client.take_response()
        assert answer.body == other.body == b"ok"
        assert answer.values(b"connection") == other.values(b"connection") == [b"close"]
        assert await kept.ending() == await client.ending() == "closed"
        assert (await upgrading.take_response()).status == 101
        assert service.backend.starts == {"demo": 1, "other": 1}
        assert not service.task.done()


async def test_answer_that_has_begun_keeps_its_word_about_the_connection() -> None:
    async with serving(delay=LONG) as service:
        client = await service.sent(ask())
        wire, _ = await service.origin.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        await client.take_until(b"ab")

        service.stop.set()
        await until(lambda: service.app.is_draining)
        wire.send(b"cd")
        rest = await client.take(2)
        client.send(ask())
        await wire.take_request()
        wire.send(PLAIN)
        answer = await client.take_response()

        assert (rest, answer.body, answer.values(b"connection")) == (b"cd", b"ok", [b"close"])
        assert await client.ending() == "closed"


async def test_hurry_cuts_the_delay_short() -> None:
    async with serving(delay=LONG) as service:
        service.stop.set()
        await until(lambda: service.app.is_draining)

        service.app.hurry.set()

        await service.ended()


async def test_no_websocket_is_opened_while_others_finish() -> None:
    async with serving() as service:
        await service.sent(ask())
        wire, _ = await service.origin.asked()
        kept = await service.sent(ask("/ws/demo/other"))
        other, _ = await service.origin.asked()
        service.app.websockets.refuse()

        other.send(PLAIN)
        await kept.take_response()
        kept.send(ask_upgrade())
        response = await kept.take_response()

        assert (response.status, b"shutting-down" in response.body) == (503, True)
        wire.send(PLAIN)


async def test_websockets_are_closed_one_after_the_other_over_the_grace() -> None:
    async with serving(grace=1.0) as service:
        clients = []
        for _ in range(8):
            clients.append(await service.sent(ask_upgrade()))
            wire, request = await service.origin.asked()
            wire.send(switch(request))
            await clients[-1].take_response()
        loop, told = asyncio.get_running_loop(), []

        async def hear(client: Wire) -> None:
            answer = await client.take_frame()
            told.append(loop.time())
            client.send(frame(answer.payload, 8, mask=MASK))
            assert answer.payload == struct.pack("!H", 1012)

        async with asyncio.TaskGroup() as hearing:
            for client in clients:
                hearing.create_task(hear(client))
            service.stop.set()

        assert max(told) - min(told) >= 0.6  # seven gaps, each of an eighth of 0.8 s, less a timer's tick
        await service.ended()


async def test_websockets_that_are_left_at_the_end_of_a_hurry_are_told() -> None:
    async with serving(grace=LONG) as service:
        clients = []
        for _ in range(3):
            clients.append(await service.sent(ask_upgrade()))
            wire, request = await service.origin.asked()
            wire.send(switch(request))
            await clients[-1].take_response()

        service.app.hurry.set()
        service.stop.set()

        for client in clients:
            assert (await client.take_frame()).payload == struct.pack("!H", 1012)
        await service.ended()


async def test_start_under_way_may_finish_and_answer() -> None:
    async with serving() as service:
        service.backend.gate.clear()
        client = await service.sent(ask())
        await until(lambda: service.backend.starts["demo"])

        await service.begin_shutdown()
        service.backend.gate.set()
        wire, _ = await service.origin.asked()
        wire.send(PLAIN)

        assert (await client.take_response()).body == b"ok"
        await service.ended()


async def test_who_waits_for_a_start_at_the_end_of_the_grace_is_told() -> None:
    async with serving(grace=0.05) as service:
        service.backend.gate.clear()
        client = await service.sent(ask())
        await until(lambda: service.backend.starts["demo"])

        await service.begin_shutdown()
        response = await client.take_response()

        assert (response.status, b"shutting-down" in response.body) == (503, True)
        assert response.values(b"retry-after") == [b"5"]
        await service.ended()


async def test_request_for_what_does_not_run_is_told_while_others_finish() -> None:
    async with serving() as service:
        await service.sent(ask())
        await service.origin.asked()
        service.app.supervisor.refuse_starts()

        response = await (await service.sent(ask("/ws/other/"))).take_response()

        assert (response.status, b"shutting-down" in response.body) == (503, True)
        assert service.backend.starts == {"demo": 1}


CUT = [
    (ask(), b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf"),
    (ask(), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
    (ask(version="1.0"), b"HTTP/1.1 200 OK\r\n\r\nhalf"),
]


@pytest.mark.parametrize(("request_bytes", "answer"), CUT, ids=["length", "chunked", "close-delimited"])
async def test_answer_that_outlasts_the_grace_is_cut_off_and_never_taken_for_whole(
    request_bytes: bytes, answer: bytes
) -> None:
    async with serving(grace=0.1) as service:
        client = await service.sent(request_bytes)
        wire, _ = await service.origin.asked()
        wire.send(answer)
        await client.take_until(b"half")
        loop = asyncio.get_running_loop()

        began = loop.time()
        await service.begin_shutdown()
        end = await client.ending()
        await service.ended()

        assert end == "reset"
        assert loop.time() - began >= 0.1
        assert b"\r\n0\r\n" not in client.taken


async def test_hurry_cuts_the_grace_short() -> None:
    async with serving(grace=LONG) as service:
        client = await service.sent(ask())
        await service.origin.asked()
        await service.begin_shutdown()
        assert not service.task.done()

        service.app.hurry.set()

        assert await client.ending() in ("closed", "reset")
        await service.ended()


async def test_client_that_does_not_read_its_answer_does_not_outlast_the_grace() -> None:
    async with serving(grace=0.1) as service:
        client = await connect(service.port, receive_buffer=16_384)
        service.wires.append(client)
        client.send(ask())
        wire, _ = await service.origin.asked()
        wire.send(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * (16 << 20))
        await client.take_until(b"\r\n\r\n")

        await service.begin_shutdown()

        await service.ended()


async def test_shutdown_without_anything_to_wait_for_is_immediate() -> None:
    async with serving(grace=LONG) as service:
        await service.begin_shutdown()

        await service.ended()

    assert service.backend.starts == {}


async def test_kept_upstream_connections_are_closed() -> None:
    async with serving() as service:
        client = await service.sent(ask())
        wire, _ = await service.origin.asked()
        wire.send(PLAIN)
        await client.take_response()

        await service.begin_shutdown()

        assert await wire.ending() == "closed"


async def test_running_workspaces_are_left_to_the_backend() -> None:
    async with serving() as service:
        client = await service.sent(ask())
        wire, _ = await service.origin.asked()
        wire.send(PLAIN)
        await client.take_response()
        await service.begin_shutdown()
        await service.ended()

    assert service.backend.stops == {}
    assert service.app.supervisor.phases()[DEMO].value == "running"


async def test_half_open_clients_are_found() -> None:
    wanted = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 120_000}
    async with serving() as service:
        listening = service.app._listener._sock  # what it accepts inherits its options

        options = {name: listening.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in wanted}

        assert options == wanted
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1


async def test_address_that_is_taken_closes_what_was_built() -> None:
    async with serving() as service:
        backend = MovingBackend(1)

        with pytest.raises(OSError, match="in use"):
            async with App(Config(listen=f"127.0.0.1:{service.port}"), backend):
                pass

    assert backend.is_closed
