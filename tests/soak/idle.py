"""Thousands of idle websockets beside live traffic: what they cost others, and whether they are all still there."""

from __future__ import annotations

import asyncio
import gc
import time
from itertools import cycle
from typing import TYPE_CHECKING, Any, Final, cast

from tests.soak.bodies import body_of
from tests.soak.verdict import leaks
from tests.soak.watching import Proxy

if TYPE_CHECKING:
    from pathlib import Path

    from tests.soak.watching import Held

_AT_ONCE: Final = 64  # handshakes under way
_RATE: Final = 200  # requests a second, whatever their answers take
_CONNECTIONS: Final = 16
_SIZE: Final = 300
_SHORTEST: Final = 30.0  # seconds of traffic whose slowest hundredth says something
_TWICE: Final = 2.0
_PATIENCE: Final = 60.0
_FLAGS: Final = ("--idle-ttl=1h",)
_MASK: Final = b"\1\2\3\4"
_WORD: Final = b"hello"
_HANDSHAKE: Final = (
    b"GET /ws/many/echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_SAID: Final = bytes((0x81, 0x80 | len(_WORD))) + _MASK + bytes(byte ^ _MASK[at % 4] for at, byte in enumerate(_WORD))
_HEARD: Final = bytes((0x81, len(_WORD))) + _WORD


class Sleeper(asyncio.Protocol):
    """A client that opens a websocket and then says nothing, until it is asked to."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.came: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._data = b""
        self._end = b"\r\n\r\n"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(_HANDSHAKE)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._data.endswith(self._end) and not self.came.done():
            self.came.set_result(self._data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if not self.came.done():
            self.came.set_result(self._data)

    async def speak(self) -> bool:
        """Say a word, and tell whether it came back."""
        self.came, self._data, self._end = asyncio.get_running_loop().create_future(), b"", _HEARD
        if self.transport is None:
            return False
        self.transport.write(_SAID)
        return await asyncio.wait_for(self.came, _PATIENCE) == _HEARD


class IdleCheck:
    """Holds idle websockets for a while.

    Args:
        count: how many.
        hold: for how many seconds.
        directory: for the proxy.
    """

    def __init__(self, count: int, hold: float, directory: Path) -> None:
        self._count = count
        self._hold = hold
        self._directory = directory
        self._sleepers: list[Sleeper] = []

    async def run(self, figures: dict[str, Any], failures: list[str]) -> None:
        """Add what was measured to the figures, and what is wrong to the failures."""
        proxy = await Proxy(self._directory, *_FLAGS).listening()
        try:
            await self._open(proxy.port, 1)  # starts the workspace
            await self._close(proxy)
            alone = await _traffic(proxy.port, self._hold, failures)
            before = await proxy.held()
            found: dict[str, Any] = {"count": self._count, "p50_alone_ms": alone[0], "p99_alone_ms": alone[1]}
            figures["idle_websockets"] = found
            began = asyncio.get_running_loop().time()
            await self._open(proxy.port, self._count)
            found["opened_in_s"] = round(asyncio.get_running_loop().time() - began, 1)
            held = await proxy.held()
            found["proxy_kb_each"] = round((held.rss - before.rss) / self._count / 1000, 1)
            cpu = proxy.cpu_seconds
            beside = await _traffic(proxy.port, self._hold, failures)
            found |= {"p50_beside_ms": beside[0], "p99_beside_ms": beside[1]}
            found["proxy_cpu_share"] = round((proxy.cpu_seconds - cpu) / self._hold, 2)
            found["answered"] = sum(await self._for_each(Sleeper.speak))
            await self._close(proxy)
            failures += await _left(proxy, before, self._count * 100_000)
            if found["answered"] < self._count:
                failures.append(f"only {found['answered']} of {self._count} idle websockets answered")
            if self._hold >= _SHORTEST and beside[1] > _TWICE * alone[1]:
                failures.append(f"p99 beside idle websockets: {beside[1]} ms, {alone[1]} ms alone")
        finally:
            status = await proxy.stop()
            if status:
                failures.append(f"the proxy ended with status {status}:\n{proxy.log()[-2000:]}")

    async def _open(self, port: int, count: int) -> None:
        """Open websockets, from several of this machine's own addresses: one has only so many ports."""
        loop, room = asyncio.get_running_loop(), asyncio.Semaphore(_AT_ONCE)

        async def open_one(address: str) -> None:
            async with room:
                _, sleeper = await loop.create_connection(Sleeper, "127.0.0.1", port, local_addr=(address, 0))
                self._sleepers.append(sleeper)
                head = await asyncio.wait_for(sleeper.came, _PATIENCE)
            assert head.startswith(b"HTTP/1.1 101 "), head

        addresses = cycle(f"127.0.0.{last}" for last in range(2, 10))
        async with asyncio.TaskGroup() as group:
            for _, address in zip(range(count), addresses, strict=False):
                group.create_task(open_one(address))

    async def _for_each(self, action: Any) -> list[bool]:
        found: list[bool] = []
        for start in range(0, len(self._sleepers), _AT_ONCE):
            found += await asyncio.gather(*(action(one) for one in self._sleepers[start : start + _AT_ONCE]))
        return found

    async def _close(self, proxy: Proxy) -> None:
        for sleeper in self._sleepers:
            if sleeper.transport is not None:
                sleeper.transport.abort()
        self._sleepers.clear()
        async with asyncio.timeout(_PATIENCE):
            while (await proxy.held()).objects.get("proxy.relay.tunnel.Tunnel"):
                await asyncio.sleep(0.2)


async def _left(proxy: Proxy, before: Held, allowed_growth: int) -> list[str]:
    """Return what the proxy goes on holding. Of the memory that thousands of sockets took, the allocator keeps some."""
    patience = asyncio.get_running_loop().time() + _PATIENCE
    while found := list(leaks(before, await proxy.held(), allowed_growth)):
        if asyncio.get_running_loop().time() > patience:
            return found
        await asyncio.sleep(0.5)
    return []


async def _traffic(port: int, seconds: float, failures: list[str]) -> tuple[float, float]:
    """Send requests at a fixed rate; return the median and the 99th percentile of what they took, in milliseconds.

    Each is measured from the moment at which it was due, so that a stall counts for all that it has held up.
    """
    now = time.perf_counter  # the event loop's clock knows milliseconds only
    taken: list[float] = []
    wanted = body_of("live", "x", _SIZE)
    request = b"GET /ws/live/body?name=x&size=%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % _SIZE

    async def one(number: int, began: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for step in range(int(seconds * _RATE / _CONNECTIONS)):
            due = began + (step * _CONNECTIONS + number) / _RATE
            await asyncio.sleep(max(due - now(), 0))
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(_SIZE)
            if not head.startswith(b"HTTP/1.1 200 ") or body != wanted:
                failures.append(f"wrong answer to live traffic: {head!r}")
            taken.append(now() - due)
        writer.close()

    gc.collect()
    gc.disable()  # the pauses of this process are none of the proxy's
    try:
        await one(0, now() - seconds)  # starts the workspace, and warms it up
        taken.clear()
        began = now() + 0.1
        await asyncio.gather(*(one(number, began) for number in range(_CONNECTIONS)))
    finally:
        gc.enable()
    taken.sort()
    return tuple(round(taken[int(len(taken) * share)] * 1000, 2) for share in (0.5, 0.99))  # type: ignore[return-value]
