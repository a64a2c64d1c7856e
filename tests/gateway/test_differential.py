"""What hostile clients send, through other web servers and this proxy to Tornado: refused, or the same to everybody."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from proxy.carriage import Carriage
from proxy.express import ExpressWay
from proxy.relay import server
from proxy.relay.server import Limits
from tests.gateway import fronts
from tests.gateway.hostile import CASES, Seen
from tests.relay.origin import connect, until

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

    from proxy.relay.express import ExpressExchange
    from proxy.relay.precedent import Precedent
    from proxy.target import Target
    from proxy.workspace import Key
    from tests.gateway.conftest import Launch

pytestmark = [pytest.mark.front, pytest.mark.uvloop]

LIMITS = Limits(header_timeout=1, body_idle_timeout=1)
AT_ONCE = 64


class Everything(RequestHandler):
    """Remembers every request."""

    seen: list[Seen]
    hosts: set[str]

    def initialize(self, seen: list[Seen], hosts: set[str]) -> None:
        self.seen, self.hosts = seen, hosts

    def prepare(self) -> None:
        assert self.request.method is not None
        assert self.request.uri is not None
        self.seen.append((self.request.method, self.request.uri, self.request.body))
        self.hosts.add(self.request.headers["Host"])
        self.finish("ok")


async def exchange(port: int, sent: bytes, gate: asyncio.Semaphore) -> bytes:
    """Send it, and return everything that is said to it until the connection ends."""
    async with gate:
        client = await connect(port)
        client.send(sent)
        with suppress(ConnectionError):
            await client.take_rest()
        await client.closed()
        return bytes(client.taken)


@pytest.fixture(params=["alone", "nginx", "haproxy"])
def program(request: pytest.FixtureRequest) -> fronts.Program | None:
    """What stands in front of the proxy."""
    if request.param == "alone":
        return None
    make = fronts.nginx_in if request.param == "nginx" else fronts.haproxy_in
    return make(request.getfixturevalue(request.param))


async def test_hostile_requests_are_refused_or_the_same_to_everybody(
    launch: Launch, program: fronts.Program | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE", 1)  # who has had all answers is let go
    seen: list[Seen] = []
    hosts: set[str] = set()
    tornado = HTTPServer(Application([(".*", Everything, {"seen": seen, "hosts": hosts})]))
    sockets = bind_sockets(0, "127.0.0.1")
    tornado.add_sockets(sockets)
    proxy = await launch(limits=LIMITS)
    proxy.backend.port = sockets[0].getsockname()[1]
    relayed = Counter[tuple[str, str]]()
    carry, begin = Carriage.relay, ExpressWay.begin

    async def relay(
        self: Carriage, request: web.BaseRequest, key: Key, target: Target, *args: Any, **kw: Any
    ) -> web.StreamResponse:
        relayed[request.method, target.wire.decode()] += 1
        return await carry(self, request, key, target, *args, **kw)

    def express(self: ExpressWay, precedent: Precedent, target: str) -> ExpressExchange | None:
        begun = begin(self, precedent, target)
        if begun is not None:
            relayed["GET", begun.target.wire.decode()] += 1
        return begun

    monkeypatch.setattr(Carriage, "relay", relay)
    monkeypatch.setattr(ExpressWay, "begin", express)
    gate = asyncio.Semaphore(AT_ONCE)

    async def send_all(port: int) -> None:
        answers = await asyncio.gather(*(exchange(port, case.send, gate) for case in CASES))
        assert [case for case, answer in zip(CASES, answers, strict=True) if b" 500 " in answer[:16]] == []
        await until(lambda: not proxy.gateway.in_flight)

    passed: Counter[Seen] | None = None
    if program is None:
        await send_all(proxy.port)
    else:
        async with fronts.running(program, tmp_path / "front", proxy.port) as front:
            await send_all(front.port)
        passed = Counter(what for what, status in front.passed() if status == 200)
    tornado.stop()
    await tornado.close_all_connections()

    assert len(seen) > 60
    assert hosts == {"localhost"}
    assert Counter((method, target) for method, target, _ in seen) == relayed
    if passed is None:
        assert not any("smuggled" in target for _, target, _ in seen)
        assert Counter(seen) == Counter(what for case in CASES for what in case.reaches)
    else:
        assert Counter(seen) == passed
