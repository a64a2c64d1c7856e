"""TLS without an ingress: everything passes as it does without, and the certificate changes while it serves."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import asynccontextmanager
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, TCPConnector, WSMsgType

from proxy.app import App
from proxy.certificate import Certificate
from proxy.config import Config, load
from proxy.errors import ConfigError
from tests.certificates import Pair, make_pair
from tests.gateway.conftest import MovingBackend
from tests.relay.origin import Answers, Origin, Wire, ask, ask_upgrade, connect, echo, frame, switch, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.relay.origin import Script

MIB = 1 << 20


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    directory = tmp_path_factory.mktemp("tls")
    return make_pair(directory, "old"), make_pair(directory, "new")


@pytest.fixture
def used(tmp_path: Path, pairs: tuple[Pair, Pair]) -> Pair:
    """The pair that the settings name; a copy of the old one."""
    found = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    pairs[0].put(found.cert, found.key)
    return found


class Service:
    """A proxy that speaks TLS, and its clients."""

    def __init__(self, app: App, origin: Origin, old: Pair) -> None:
        self.app = app
        self.origin = origin
        self.port = int(app.url.rpartition(":")[2])
        self.wires: list[Wire] = []
        self._old = old

    async def connect(self, trusted: Pair | None = None) -> Wire:
        context = (trusted or self._old).trusting()
        self.wires.append(Wire(*await asyncio.open_connection("127.0.0.1", self.port, ssl=context)))
        return self.wires[-1]

    async def sent(self, *pieces: bytes) -> Wire:
        wire = await self.connect()
        wire.send(*pieces)
        return wire

    def http(self, trusted: Pair) -> ClientSession:
        return ClientSession(f"https://127.0.0.1:{self.port}", connector=TCPConnector(ssl=trusted.trusting()))


@asynccontextmanager
async def serving(used: Pair, script: Script | None = None, **settings: Any) -> AsyncIterator[Service]:
    old = make_copy(used)
    config = Config(listen="127.0.0.1:0", tls_cert=str(used.cert), tls_key=str(used.key), **settings)
    async with Origin(script) as origin, App(config, MovingBackend(origin.port)) as app:
        service = Service(app, origin, old)
        try:
            yield service
        finally:
            app.hurry.set()
            for wire in service.wires:
                await wire.closed()


def make_copy(pair: Pair) -> Pair:
    copy = Pair(pair.cert.with_suffix(".copy"), pair.key.with_suffix(".copied"))
    pair.put(copy.cert, copy.key)
    return copy


# What passes ----------------------------------------------------------------------------------------------------------


async def test_a_request_passes_and_the_notebook_learns_that_it_came_by_https(used: Pair) -> None:
    answers = Answers()
    async with serving(used, answers) as service:
        client = await service.sent(ask())

        response = await client.take_response()

        assert (response.status, response.body) == (200, b"ok")
        assert answers.requests[0].values(b"x-forwarded-proto") == [b"https"]
        assert service.app.url == f"https://127.0.0.1:{service.port}"


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


async def test_large_bodies_pass_both_ways(used: Pair) -> None:
    body = bytes(range(256)) * 4096 * 8
    async with serving(used, Answers(lambda got: _answer(got.body))) as service:
        async with service.http(used) as http, http.post("/ws/demo/api/contents", data=BytesIO(body)) as response:
            assert response.status == 200
            is_same = await response.read() == body

        assert is_same


async def test_a_slow_reader_holds_the_notebook_up(used: Pair) -> None:
    async with serving(used) as service:
        client = await service.sent(ask())
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        wire, _ = await service.origin.asked()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB), b"x" * 64 * MIB)

        await until(lambda: wire.unsent < 64 * MIB)
        before = -1
        while before != wire.unsent:
            before = wire.unsent
            await asyncio.sleep(0.1)
        assert before > 32 * MIB
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]

        assert len((await client.take_response()).body) == 64 * MIB


async def test_a_websocket_passes_both_ways_and_ends_well(used: Pair) -> None:
    async with serving(used, echo) as service, service.http(used) as http:
        async with http.ws_connect("/ws/demo/api/kernels/1/channels", compress=15) as websocket:
            await websocket.send_str("6*7")
            await websocket.send_bytes(b"x" * 3 * MIB)
            got = [await websocket.receive(), await websocket.receive()]

        assert [(message.type, len(message.data)) for message in got] == [
            (WSMsgType.TEXT, 3),
            (WSMsgType.BINARY, 3 * MIB),
        ]
        assert websocket.close_code == 1000


async def test_a_websocket_that_breaks_gives_the_notebook_nothing_that_its_client_never_sent(used: Pair) -> None:
    async with serving(used) as service:
        client = await service.sent(ask_upgrade())
        wire, request = await service.origin.asked()
        wire.send(switch(request))
        await client.take_response()
        said = frame(b"last words", mask=b"\x01\x02\x03\x04")
        client.send(said)
        assert await wire.take(len(said)) == said

        client.reset()

        rest = await wire.take_rest()
        assert rest == b"" or rest.startswith(b"\x88")  # a close frame of the proxy's own


async def test_a_websocket_ends_with_1012_when_the_proxy_does(used: Pair) -> None:
    async with serving(used) as service:
        client = await service.sent(ask_upgrade())
        wire, request = await service.origin.asked()
        wire.send(switch(request))
        await client.take_response()
        service.app.websockets.close_all()

        assert (await client.take_frame()).payload[:2] == (1012).to_bytes(2, "big")


async def test_what_is_no_http_is_told_so_before_the_end(used: Pair) -> None:
    async with serving(used) as service:
        client = await service.sent(b"NONSENSE\r\n\r\n", b"x" * 8 * MIB)

        assert (await client.take_response()).status == 400


# Who speaks something else --------------------------------------------------------------------------------------------


async def test_who_speaks_no_tls_gets_no_answer_and_harms_nobody(used: Pair, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(used, Answers()) as service:
        plain = await connect(service.port)
        plain.send(ask())

        assert b"200 OK" not in await asyncio.wait_for(_rest(plain), 15)
        assert (await (await service.sent(ask())).take_response()).status == 200
        await plain.closed()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def _rest(wire: Wire) -> bytes:
    try:
        return await wire.take_rest()
    except ConnectionError:
        return bytes(wire.taken)


async def test_a_handshake_that_does_not_go_on_is_given_up(used: Pair) -> None:
    async with serving(used, header_timeout=0.3) as service:
        silent = await connect(service.port)

        assert await silent.ending() in ("closed", "reset")
        await silent.closed()


async def test_a_handshake_that_does_not_go_on_holds_no_shutdown_up(used: Pair) -> None:
    async with serving(used, header_timeout=600) as service:
        silent = await connect(service.port)
        await until(lambda: service.app._listener._tasks)
    async with asyncio.timeout(10):
        assert await silent.ending() in ("closed", "reset")
    await silent.closed()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1])
async def test_old_versions_of_tls_are_not_spoken(used: Pair, version: ssl.TLSVersion) -> None:
    context = used.trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = version
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.maximum_version = version
    async with serving(used) as service:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", service.port, ssl=context)


# What changes ---------------------------------------------------------------------------------------------------------


async def test_a_new_certificate_is_shown_to_new_clients_and_old_connections_go_on(
    used: Pair, pairs: tuple[Pair, Pair]
) -> None:
    async with serving(used, Answers()) as service:
        old = await service.sent(ask())
        await old.take_response()

        pairs[1].put(used.cert, used.key)
        service.app.fresh.look()

        new = await service.connect(pairs[1])
        new.send(ask())
        assert (await new.take_response()).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            await service.connect(pairs[0])
        old.send(ask())
        assert (await old.take_response()).status == 200


@pytest.mark.parametrize("broken", ["mismatch", "missing", "empty", "encrypted"])
async def test_a_broken_pair_keeps_the_old_one_and_says_so_until_it_is_whole(
    used: Pair, pairs: tuple[Pair, Pair], broken: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async with serving(used, Answers()) as service:
        if broken == "mismatch":
            used.cert.write_bytes(pairs[1].cert.read_bytes())  # its key comes later
        elif broken == "missing":
            used.key.unlink()
        elif broken == "empty":
            used.cert.write_text("")
        else:
            make_pair(tmp_path, "locked", password="something").put(used.cert, used.key)
        service.app.fresh.look()

        assert (await (await service.sent(ask())).take_response()).status == 200
        assert "the certificate cannot be used; what was read before stays in use" in caplog.text
        pairs[1].put(used.cert, used.key)
        service.app.fresh.look()
        assert await service.connect(pairs[1])


# Settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "missing"), [("tls_cert", "tls_key"), ("tls_key", "tls_cert")])
def test_one_half_is_not_enough(given: str, missing: str) -> None:
    with pytest.raises(ConfigError, match=f"^{given} .*given together with {missing}"):
        load({given: "some.pem"})


async def test_a_pair_that_cannot_be_used_ends_the_start(used: Pair, pairs: tuple[Pair, Pair]) -> None:
    used.key.write_bytes(pairs[1].key.read_bytes())
    config = Config(listen="127.0.0.1:0", tls_cert=str(used.cert), tls_key=str(used.key))

    with pytest.raises(ConfigError, match=r"tls_cert, tls_key: .*key values mismatch"):
        await App(config, MovingBackend(1)).__aenter__()


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_its_password(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, password="something")

    with pytest.raises(ValueError, match="the key is encrypted"):
        Certificate(pair.cert, pair.key).read()
