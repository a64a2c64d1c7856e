"""What makes a Service's address work: a forwarder from clusterIP:port to a ready pod, a refusal when there is none.

Follows the EndpointSlices, as the real one does. Connections that exist stay with the pod they reached. One
difference to a real cluster remains: a pod that is ready but does not listen yet shows as a reset, not as a refusal.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from typing import TYPE_CHECKING, cast

from tests.cluster.endpoints import SERVICE_LABEL
from tests.cluster.resources import ENDPOINT_SLICES, SERVICES, Obj, labels_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from tests.cluster.registry import Registry
    from tests.cluster.store import Change, Key

Address = tuple[str, int]


class _Leg(asyncio.Protocol):
    """One side of a forwarded connection: what it receives, the other side sends."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Leg | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other and self.other.transport:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other and self.other.transport and self.other.transport.can_write_eof():
            self.other.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other and self.other.transport:
            (self.other.transport.abort if exc else self.other.transport.close)()

    def pause_writing(self) -> None:
        if self.other and self.other.transport:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other and self.other.transport and not self.other.transport.is_closing():
            self.other.transport.resume_reading()


class _Front(_Leg):
    """The client's side: finds a pod when a connection comes."""

    def __init__(self, forwarder: Forwarder) -> None:
        super().__init__()
        self._forwarder = forwarder

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        if self._forwarder.is_closed:  # it was accepted before
            self.transport.abort()
            return
        self.transport.pause_reading()
        self._forwarder.fronts.add(self)
        self._forwarder.spawn(self._connect())

    def connection_lost(self, exc: Exception | None) -> None:
        self._forwarder.fronts.discard(self)
        super().connection_lost(exc)

    async def _connect(self) -> None:
        assert self.transport is not None
        loop = asyncio.get_running_loop()
        try:
            host, port = random.choice(self._forwarder.backends)
            back = _Leg()
            back.other = self
            await loop.create_connection(lambda: back, host, port)
        except (OSError, IndexError):
            _reset(self.transport)
            return
        self.other = back
        if self.transport.is_closing():
            assert back.transport is not None
            back.transport.close()
        else:
            self.transport.resume_reading()


def _reset(transport: asyncio.Transport) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    transport.abort()


class Forwarder:
    """Listens on one port of one Service while there are backends."""

    def __init__(self, address: Address) -> None:
        self.backends: list[Address] = []
        self.fronts: set[_Front] = set()
        self.is_closed = False
        self._address = address
        self._listener: socket.socket | None = None
        self._taking: set[asyncio.Task[None]] = set()  # never cancelled: a client would be lost
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, connecting: Coroutine[None, None, None]) -> None:
        """Own the task that connects one client to a pod."""
        task = asyncio.create_task(connecting)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def follow(self, backends: list[Address]) -> None:
        """Forward to these from now on; to none: refuse."""
        self.backends = backends
        if backends and self._listener is None:
            listener = socket.socket()
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(self._address)
            listener.listen(1024)
            listener.setblocking(False)
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)
            self._listener = listener
        elif not backends and self._listener is not None:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        """Take a client. (`asyncio.Server` and `sock_accept` lose one that comes in the moment in which they end.)"""
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            client.setblocking(False)
            taking = asyncio.create_task(self._take(client))
            self._taking.add(taking)
            taking.add_done_callback(self._taking.discard)

    async def _take(self, client: socket.socket) -> None:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: _Front(self), client)

    async def close(self) -> None:
        """Stop listening and break what is connected."""
        self.is_closed = True
        for front in tuple(self.fronts):  # before anything is awaited: this may be cancelled
            for leg in (front, front.other):
                if leg and leg.transport:
                    leg.transport.abort()
        self.follow([])
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, *self._taking, return_exceptions=True)


class KubeProxy:
    """Keeps the forwarders in step with the Services and their EndpointSlices."""

    def __init__(self, registry: Registry) -> None:
        self._store = registry.store
        self._forwarders: dict[tuple[Key, str], Forwarder] = {}
        self._slices: dict[Key, Obj] = {}
        self._dirty: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._unsubscribe = registry.store.subscribe(self._note)
        self._task = asyncio.create_task(self._run())

    def _note(self, change: Change) -> None:
        if change.resource == SERVICES:
            self._dirty[change.key] = None
        elif change.resource == ENDPOINT_SLICES:
            key = namespace_of(change.obj), labels_of(change.obj).get(SERVICE_LABEL, "")
            if change.type == "DELETED":
                self._slices.pop(key, None)
            else:
                self._slices[key] = change.obj
            self._dirty[key] = None
        else:
            return
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                key = next(iter(self._dirty))
                del self._dirty[key]
                await self._follow(key)

    async def _follow(self, key: Key) -> None:
        service = self._store.get(SERVICES, *key)
        if service is None or service["spec"].get("clusterIP", "None") == "None":
            for known in [known for known in self._forwarders if known[0] == key]:
                await self._forwarders.pop(known).close()
            return
        found = self._slices.get(key, {"ports": [], "endpoints": []})
        ready = [e["addresses"][0] for e in found["endpoints"] if e["conditions"]["ready"]]
        for port in service["spec"].get("ports", []):
            name = port.get("name", "")
            target = next((p["port"] for p in found["ports"] if p["name"] == name), port["port"])
            forwarder = self._forwarders.get((key, name))
            if forwarder is None:
                forwarder = Forwarder((service["spec"]["clusterIP"], port["port"]))
                self._forwarders[key, name] = forwarder
            forwarder.follow([(address, target) for address in ready])

    async def close(self) -> None:
        """Stop forwarding."""
        self._unsubscribe()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        for forwarder in self._forwarders.values():
            await forwarder.close()
