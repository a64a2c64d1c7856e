"""A running proxy on a real socket, a notebook server of raw bytes behind it, and a backend that behaves."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pytest
from aiohttp import web
from aiohttp.test_utils import BaseTestServer, TestClient

from proxy.activity import Activity, Wake
from proxy.auth.build import framed_by, make_door, make_sites
from proxy.config import Config
from proxy.errors import NoLog
from proxy.gateway import Gateway
from proxy.hosting import make_hosting
from proxy.relay.server import ClientServer, Limits
from proxy.relay.upstream import Pool
from proxy.relay.websocket import WebsocketRelay
from proxy.supervisor import Supervisor
from proxy.workspace import Handle, Key
from tests.relay.origin import LOOPS, Origin, Script, Wire, connect, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from pytest_aiohttp.plugin import AiohttpClient

    from proxy.auth.door import Door
    from proxy.backends import Mark, Observer

DEMO = Key("demo", "default")
TOKEN = "Authorization: token secret"


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], Any]]:
    """Run each test on both event loops: their transports differ where it matters here. Costly ones say which."""
    return {"uvloop": LOOPS["uvloop"]} if item.get_closest_marker("uvloop") else LOOPS


class HandClock:
    """Time that goes on only when the test says so; whoever sleeps by it sleeps until its moment comes."""

    def __init__(self) -> None:
        self._seconds = 1000.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def monotonic(self) -> float:
        return self._seconds

    def now(self) -> datetime:
        return datetime(2024, 2, 29, 12, tzinfo=UTC) + timedelta(seconds=self._seconds)

    async def sleep(self, seconds: float) -> None:
        over = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._seconds + seconds, over))
        await over

    @property
    def sleepers(self) -> int:
        """How many sleep."""
        return sum(not over.done() for _, over in self._sleepers)

    def advance(self, seconds: float) -> None:
        self._seconds += seconds
        for moment, over in self._sleepers:
            if moment <= self._seconds and not over.done():
                over.set_result(None)


@dataclass
class MovingBackend:
    """Every workspace's notebook server is at `port`, which a test may move. Starts can fail, and starts
    and stops can be held up.
    """

    port: int
    fault: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    stop_gate: asyncio.Event = field(default_factory=asyncio.Event)
    starts: Counter[str] = field(default_factory=Counter)
    stops: Counter[str] = field(default_factory=Counter)
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()
        self.stop_gate.set()

    def observe(self, observer: Observer) -> None: ...

    async def open(self) -> None: ...

    def running_for(self, user: str) -> list[Key]:
        return []

    async def start(self, key: Key, user: str = "") -> Handle:
        self.starts[key.workspace_id] += 1
        await self.gate.wait()
        if self.fault is not None:
            raise self.fault
        return Handle(f"http://127.0.0.1:{self.port}/ws/{key.workspace_id}/", {"Authorization": "token secret"})  # type: ignore[arg-type]

    async def stop(self, key: Key, mark: Mark | None = None) -> None:
        self.stops[key.workspace_id] += 1
        await self.stop_gate.wait()

    async def mark(self, key: Key, last_active: datetime) -> None: ...

    async def store(self, key: Key, last_active: datetime, *, pardon: bool = False) -> None: ...

    async def extend(self, key: Key, until: datetime) -> None: ...

    async def note(self, key: Key, changes: Mapping[str, str | None]) -> None: ...

    async def log(self, key: Key, lines: int) -> str:
        if key.workspace_id not in self.starts:
            raise NoLog("It has not run.")
        return "".join(f"line {number}\n" for number in range(lines))

    async def close(self) -> None:
        self.is_closed = True


class _ProxyServer(BaseTestServer):
    """Lets pytest-aiohttp run the proxy's own server."""

    def __init__(self, server: ClientServer) -> None:
        super().__init__()
        self.client_server = server

    async def _make_runner(self, **_: Any) -> web.ServerRunner:
        return web.ServerRunner(self.client_server, shutdown_timeout=0.1)


@dataclass
class Proxy:
    """A running proxy with all its surroundings."""

    origin: Origin
    backend: MovingBackend
    clock: HandClock
    supervisor: Supervisor
    pool: Pool
    websockets: WebsocketRelay
    gateway: Gateway
    server: _ProxyServer
    http: TestClient[Any, None]
    wires: list[Wire] = field(default_factory=list)

    @property
    def port(self) -> int:
        assert self.server.port is not None
        return self.server.port

    @property
    def connections(self) -> list[Any]:
        """The proxy's ends of clients' connections."""
        return list(self.server.client_server.connections)

    async def connect(self, *, receive_buffer: int | None = None) -> Wire:
        """Return a client's raw connection."""
        self.wires.append(await connect(self.port, receive_buffer=receive_buffer))
        return self.wires[-1]

    async def sent(self, *pieces: bytes) -> Wire:
        """Return a client's raw connection on which this has been sent."""
        wire = await self.connect()
        wire.send(*pieces)
        return wire

    @property
    def idle_seconds(self) -> float:
        """How long ago the workspace was last touched."""
        last = self.supervisor.last_active(DEMO)
        assert last is not None
        return (self.clock.now() - last).total_seconds()


class Launch(Protocol):
    """Starts a proxy, and the notebook server behind it."""

    async def __call__(
        self,
        script: Script | None = None,
        *,
        head_timeout: float | None = None,
        trusted: Sequence[IPv4Network | IPv6Network] = (),
        receive_buffer: int | None = None,
        activity: Literal["traffic", "interactive"] = "traffic",
        wake: Literal["any", "intent"] = "any",
        limits: Limits | None = None,
        profiles: Mapping[str, Any] | None = None,
        door: Door | None = None,
        auth: Mapping[str, Any] | None = None,
    ) -> Proxy: ...


@pytest.fixture
async def launch(aiohttp_client: AiohttpClient) -> AsyncIterator[Launch]:
    """Start proxies; at the end nothing of them is left: no task, no connection."""
    before = asyncio.all_tasks()
    running: list[Proxy] = []
    doors = AsyncExitStack()

    async def start(
        script: Script | None = None,
        *,
        head_timeout: float | None = None,
        trusted: Sequence[IPv4Network | IPv6Network] = (),
        receive_buffer: int | None = None,
        activity: Literal["traffic", "interactive"] = "traffic",
        wake: Literal["any", "intent"] = "any",
        limits: Limits | None = None,
        profiles: Mapping[str, Any] | None = None,
        door: Door | None = None,
        auth: Mapping[str, Any] | None = None,
    ) -> Proxy:
        origin = Origin(script, receive_buffer=receive_buffer)
        await origin.listen()
        backend, clock, pool = MovingBackend(origin.port), HandClock(), Pool(head_timeout)
        # Nobody asks the notebook server anything but the test.
        config = Config(protect_busy=False, profiles=dict(profiles or {}), trusted_proxies=trusted, **(auth or {}))
        config.check()
        door = door or make_door(config, clock)
        await doors.enter_async_context(door)
        supervisor = Supervisor(backend, config, clock=clock)
        websockets = WebsocketRelay(pool)
        judge = Activity(activity)
        gateway = Gateway(
            supervisor,
            pool,
            websockets,
            namespace="default",
            page_after=config.page_after,
            hold_timeout=config.hold_timeout,
            trusted_proxies=trusted,
            door=door,
            sites=make_sites(config),
            identity_header=config.identity_header,
            identity_cookies=config.identity_cookies,
            frame_ancestors=framed_by(config),
            hosting=make_hosting(config),
            check_host=config.auth == "none",
            activity=judge,
            wake=Wake(wake, judge),
            clock=clock,
        )
        server = _ProxyServer(
            ClientServer(
                gateway.handle,
                limits=limits,
                shed=gateway.shed,
                express=gateway.express,
                on_refused=pool.counts.refused,
            )
        )
        http: TestClient[Any, None] = await aiohttp_client(server, headers={"Host": "localhost"}, auto_decompress=False)
        running.append(Proxy(origin, backend, clock, supervisor, pool, websockets, gateway, server, http))
        return running[-1]

    yield start

    for proxy in running:
        for wire in proxy.wires:
            await wire.closed()
        await until(lambda proxy=proxy: not proxy.gateway.in_flight)  # type: ignore[misc]
        await proxy.http.close()
        proxy.pool.close()
        await proxy.supervisor.close()
        await proxy.origin.abandoned()
        await proxy.origin.__aexit__()
    await doors.aclose()
    await until(lambda: asyncio.all_tasks() <= before | {asyncio.current_task()})
