"""Keys that an issuer publishes: fetched from a real socket, kept, exchanged, never given up for something worse."""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from proxy.auth.build import make_door
from proxy.auth.jwks import Jwks, _Unusable, keys_of
from proxy.auth.keys import KeySet
from proxy.config import Config
from proxy.errors import KeysUnavailable, Unauthenticated
from proxy.target import parse_target
from tests.auth.tokens import SECRET, jwk, private, signed
from tests.gateway.conftest import HandClock
from tests.relay.origin import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_aiohttp.plugin import AiohttpServer

    from proxy.auth.door import Door

TARGET = parse_target("/ws/demo/lab", "localhost")


class Issuer:
    """Publishes keys, or whatever a test puts in their place."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.response: web.Response | None = None
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        await self.gate.wait()
        if self.response is not None:
            return web.Response(
                status=self.response.status, body=self.response.body, headers=dict(self.response.headers)
            )
        return web.json_response({"keys": self.keys})


@pytest.fixture
async def issuer(aiohttp_server: AiohttpServer) -> Issuer:
    found = Issuer()
    app = web.Application()
    app.router.add_get("/keys", found.answer)
    server = await aiohttp_server(app)
    found.url = str(server.make_url("/keys"))
    return found


class Opened:
    """A door that takes what the issuer's keys have signed."""

    def __init__(self, door: Door, clock: HandClock) -> None:
        self.door = door
        self.clock = clock

    async def admits(self, token: str) -> bool:
        request = make_mocked_request("GET", "/ws/demo/lab", headers={"Authorization": f"Bearer {token}"})
        try:
            return (await self.door.identify(request, TARGET)).name == "alice"
        except Unauthenticated:
            return False

    def knows(self, token: str) -> bool:
        request = make_mocked_request("GET", "/ws/demo/lab", headers={"Authorization": f"Bearer {token}"})
        return self.door.known(request, TARGET) is not None


@pytest.fixture
async def opened(issuer: Issuer) -> AsyncIterator[Opened]:
    issuer.keys = [jwk("RS256", kid="one")]
    clock = HandClock()
    async with AsyncExitStack() as stack:
        config = Config(auth="jwt", jwt_jwks_url=issuer.url)
        config.check()
        door = await stack.enter_async_context(make_door(config, clock))
        await until(lambda: clock._sleepers)
        yield Opened(door, clock)
    assert not [task for task in asyncio.all_tasks() if "jwks" in task.get_name()]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_what_a_published_key_has_signed_is_taken(issuer: Issuer, opened: Opened, algorithm: str) -> None:
    issuer.keys = [jwk("ES256", 1, kid="x"), jwk(algorithm, kid="two")]
    opened.clock.advance(60)

    assert await opened.admits(signed(algorithm, kid="two"))
    assert not await opened.admits(signed(algorithm, kid="two", number=2))


async def test_a_new_key_is_fetched_when_a_token_names_it(issuer: Issuer, opened: Opened) -> None:
    assert await opened.admits(signed("RS256", kid="one"))
    issuer.keys = [jwk("RS256", kid="one"), jwk("ES256", kid="two")]
    opened.clock.advance(60)

    assert await opened.admits(signed("ES256", kid="two"))
    assert await opened.admits(signed("RS256", kid="one"))
    assert issuer.asked == 2


async def test_strangers_key_ids_cause_one_fetch_in_so_many_seconds(issuer: Issuer, opened: Opened) -> None:
    opened.clock.advance(60)
    tokens = [signed("ES256", kid=f"k{number}") for number in range(20)]
    issuer.gate.clear()
    waiting = asyncio.gather(*(opened.admits(token) for token in tokens))
    await until(lambda: issuer.asked == 2)
    issuer.gate.set()

    assert await waiting == [False] * 20
    assert [await opened.admits(token) for token in tokens] == [False] * 20
    assert issuer.asked == 2
    opened.clock.advance(60)
    assert not await opened.admits(tokens[0])
    assert issuer.asked == 3


async def test_who_gives_up_waiting_ends_no_fetch_for_others(issuer: Issuer, opened: Opened) -> None:
    opened.clock.advance(60)
    issuer.keys = [jwk("ES256", kid="two")]
    issuer.gate.clear()
    first = asyncio.create_task(opened.admits(signed("ES256", kid="two")))
    second = asyncio.create_task(opened.admits(signed("ES256", kid="two")))
    await until(lambda: issuer.asked == 2)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    issuer.gate.set()

    assert await second


async def test_a_withdrawn_key_holds_no_longer_than_the_next_fetch(issuer: Issuer, opened: Opened) -> None:
    token = signed("RS256", kid="one")
    assert await opened.admits(token)
    assert opened.knows(token)
    issuer.keys = [jwk("ES256", kid="two")]

    opened.clock.advance(601)
    await until(lambda: issuer.asked == 2 and not opened.knows(token))

    assert not await opened.admits(token)


WORSE = {
    "an error": web.Response(status=500),
    "a redirect": web.Response(status=302, headers={"Location": "/keys"}),
    "no JSON": web.Response(body=b"<html>"),
    "no keys": web.Response(body=b'{"keys": []}'),
    "something else": web.Response(body=b"[1, 2]"),
    "another form": web.Response(body=b'{"keys": {"kty": "RSA"}}'),
    "too much": web.Response(body=b" " * 300_000),
    "deep nesting": web.Response(body=b"[" * 100_000),
}


@pytest.mark.parametrize("worse", WORSE)
async def test_the_last_good_keys_are_kept(
    issuer: Issuer, opened: Opened, worse: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = signed("RS256", kid="one")
    issuer.response = WORSE[worse]
    opened.clock.advance(601)
    await until(lambda: "keys not fetched" in caplog.text)

    assert await opened.admits(token)


async def test_after_a_failure_it_is_tried_again_soon(issuer: Issuer, opened: Opened) -> None:
    issuer.response = WORSE["an error"]
    opened.clock.advance(601)
    await until(lambda: issuer.asked == 2)
    issuer.response = None
    issuer.keys = [jwk("ES256", kid="two")]

    await until(lambda: len(opened.clock._sleepers) == 2)
    opened.clock.advance(31)

    await until(lambda: issuer.asked == 3)


async def test_before_there_are_keys_nobody_enters_and_nobody_is_called_a_stranger(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = HandClock()
    async with make_door(Config(auth="jwt", jwt_jwks_url="http://127.0.0.1:1/keys"), clock) as door:
        request = make_mocked_request("GET", "/", headers={"Authorization": f"Bearer {signed('RS256')}"})
        with pytest.raises(KeysUnavailable):
            await door.identify(request, TARGET)

    assert "keys not fetched" in caplog.text


async def test_nothing_of_what_came_is_logged(issuer: Issuer, opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "proxy")
    issuer.response = web.Response(body=SECRET.encode())
    opened.clock.advance(601)
    await until(lambda: "keys not fetched" in caplog.text)

    assert SECRET not in caplog.text
    assert issuer.url not in caplog.text


# What a set may hold --------------------------------------------------------------------------------------------------


def read(*entries: Any) -> list[tuple[str, str | None]]:
    return [(key.algorithm, key.key_id) for key in keys_of(json.dumps({"keys": entries}).encode())]


GOOD = jwk("ES256", kid="good")


def test_keys_for_signatures_are_read() -> None:
    assert read(jwk("RS256", kid="a"), GOOD, jwk("EdDSA", alg="EdDSA")) == [
        ("RS256", "a"),
        ("ES256", "good"),
        ("EdDSA", None),
    ]


OTHERS: dict[str, Any] = {
    "a secret": {"kty": "oct", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA", "kid": "x"},
    "for encryption": jwk("RS256", use="enc"),
    "for other operations": jwk("RS256", key_ops=["encrypt"]),
    "of another algorithm": jwk("RS256", alg="PS512"),
    "of an unknown kind": {"kty": "XYZ"},
    "without a kind": {"kid": "a"},
    "a private key": {**jwk("ES256"), "d": "A" * 43},
    "of a broken form": {"kty": "RSA", "n": 5, "e": None},
    "of an even exponent": {"kty": "RSA", "n": "AQAB", "e": "AA"},
    "no mapping": ["kty", "RSA"],
    "with a strange id": jwk("RS256", kid=5),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_key_that_is_not_for_this_is_passed_over(name: str) -> None:
    assert read(OTHERS[name], GOOD) == [("ES256", "good")]
    with pytest.raises(_Unusable):
        read(OTHERS[name])


def test_a_set_is_read_up_to_a_size() -> None:
    assert len(read(*[jwk("EdDSA", kid=str(number)) for number in range(200)])) == 64


async def test_no_proxy_of_the_environment_is_asked(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    issuer.keys = [GOOD]
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    keys = KeySet()

    async with Jwks(issuer.url, keys, HandClock()) as jwks:
        await jwks.renew()

    assert [key.key_id for key in keys.candidates("ES256", "good")] == ["good"]
    assert private("ES256")
