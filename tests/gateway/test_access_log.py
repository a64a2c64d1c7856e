"""What is logged of requests, what is not, and what the notebook server is told of it."""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from proxy.app import App
from proxy.config import Config
from proxy.logs import JsonFormatter
from tests.gateway.conftest import MovingBackend
from tests.relay.origin import PLAIN, Answers, Origin, Wire, ask, ask_upgrade, connect, switch, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.gateway.conftest import Launch
    from tests.relay.origin import Message

SECRETS = ("s3cret-token", "s3cret-cookie", "s3cret-query", "s3cret-password")
TRACE = "0af7651916cd43dd8448eb211c80319c"


class Site:
    """A proxy with an access log, a notebook server behind it, and a client."""

    def __init__(self, app: App, origin: Origin, answers: Answers, client: Wire) -> None:
        self.app, self.origin, self.answers, self.client = app, origin, answers, client

    async def get(self, target: str = "/ws/demo/api", *lines: str) -> int:
        self.client.send(ask(target, *lines))
        return (await self.client.take_response()).status


@asynccontextmanager
async def site(answer: bytes | Callable[[Message], bytes] = PLAIN, **settings: Any) -> AsyncIterator[Site]:
    answers = Answers(answer)
    config = Config(**{"listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0", "access_log": "full", **settings})
    async with Origin(answers) as origin, App(config, MovingBackend(origin.port)) as app:
        client = await connect(int(app.url.rpartition(":")[2]))
        yield Site(app, origin, answers, client)
        client.close()
        await client.closed()


@pytest.fixture
def log() -> Iterator[list[dict[str, Any]]]:
    """Everything that is logged, of every logger and level, as JSON has it."""
    lines: list[dict[str, Any]] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(JsonFormatter().format(record)))

    root, handler = logging.getLogger(), Keep()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


def accesses(log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in log if line["logger"] == "proxy.access_log"]


async def test_each_request_is_a_line_with_its_method_path_status_and_time(log: list[dict[str, Any]]) -> None:
    async with site(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n") as proxy:
        assert await proxy.get("/ws/demo/api/x?a=1", "X-Request-Id: mine-1") == 201
        assert await proxy.get("/nowhere") == 404
        await until(lambda: len(accesses(log)) == 2)

    first, second = accesses(log)
    assert {name: first[name] for name in ("method", "path", "status", "request", "peer")} == {
        "method": "GET", "path": "/ws/demo/api/x", "status": 201, "request": "mine-1", "peer": "127.0.0.1",
    }  # fmt: skip
    assert first["seconds"] > 0
    assert (second["path"], second["status"]) == ("/nowhere", 404)


async def test_nothing_is_logged_of_requests_by_default(log: list[dict[str, Any]]) -> None:
    async with site(access_log="off") as proxy:
        await proxy.get()

    assert accesses(log) == []


async def test_sample_is_one_in_so_many_and_every_error_of_the_servers_side(log: list[dict[str, Any]]) -> None:
    failed = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
    answers = iter([*[PLAIN] * 10, *[failed] * 3])
    async with site(lambda _: next(answers), access_log="sampled", access_log_sample=5) as proxy:
        for _ in range(13):
            await proxy.get()
        await until(lambda: len(accesses(log)) == 5)

    assert [line["status"] for line in accesses(log)] == [200, 200, 500, 500, 500]


async def test_no_token_cookie_or_query_is_logged_by_anybody_at_any_level(log: list[dict[str, Any]]) -> None:
    async with site(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: a=s3cret-cookie\r\n\r\nok") as proxy:
        lines = ("Authorization: token s3cret-token", "Cookie: session=s3cret-cookie; b=c")
        assert await proxy.get("/ws/demo/lab?token=s3cret-query", *lines) == 200
        assert await proxy.get("/ws/demo/api?x=s3cret-query", *lines, "Origin: http://elsewhere") in (200, 403)
        assert await proxy.get("/ws/demo/../x?token=s3cret-query", *lines) == 400
        await proxy.origin.__aexit__()
        assert await proxy.get("/ws/demo/api/gone?token=s3cret-query", *lines) == 502
        await until(lambda: len(accesses(log)) == 4)

    said = json.dumps(log)
    assert [secret for secret in SECRETS if secret in said] == []
    assert "token secret" not in said  # the notebook server's own


@pytest.mark.parametrize(
    "target", ["/ws/demo/a%0aERROR%20forged", "/ws/demo/\x1b[2J", "/ws/demo/\x85x", "/ws/demo/" + "a" * 3000]
)
async def test_hostile_path_stays_within_its_line(log: list[dict[str, Any]], target: str) -> None:
    async with site() as proxy:
        proxy.client.send(ask("/ws/demo/x").replace(b"/ws/demo/x", target.encode("latin-1"), 1))
        await proxy.client.take_response()

    for line in accesses(log):
        assert "\n" not in line["message"]
        assert line["message"].isprintable()
        assert len(line["path"]) < 600


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\x85ERROR forged", b"x" * 4000, b"a b"])
async def test_hostile_request_id_is_replaced_for_the_log_and_for_the_notebook_server(
    log: list[dict[str, Any]], name: bytes
) -> None:
    async with site() as proxy:
        proxy.client.send(ask("/ws/demo/api", "X-Request-Id: MARK").replace(b"MARK", name))
        assert (await proxy.client.take_response()).status == 200
        [passed] = proxy.answers.requests[0].values(b"x-request-id")
        await until(lambda: bool(accesses(log)))

    assert len(passed) == 32
    assert accesses(log)[0]["request"] == passed.decode()


async def test_trace_names_a_request_and_passes_untouched(log: list[dict[str, Any]]) -> None:
    trace = f"00-{TRACE}-b7ad6b7169203331-01"
    async with site() as proxy:
        await proxy.get("/ws/demo/api", f"traceparent: {trace}", "tracestate: a=b,c=d", "baggage: k=v")
        request = proxy.answers.requests[0]
        await until(lambda: bool(accesses(log)))

    assert request.values(b"traceparent") == [trace.encode()]
    assert (request.values(b"tracestate"), request.values(b"baggage")) == ([b"a=b,c=d"], [b"k=v"])
    assert request.values(b"x-request-id") == [TRACE.encode()]
    assert accesses(log)[0]["request"] == TRACE


async def test_without_an_access_log_the_headers_of_a_trace_pass_as_they_came(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)
    client = await proxy.connect()
    for lines in ((f"traceparent: 00-{TRACE}-b7ad6b7169203331-01", "tracestate: a=b", "X-Request-Id: mine"), ()):
        client.send(ask("/ws/demo/api", *lines))
        await client.take_response()

    names = (b"traceparent", b"tracestate", b"x-request-id")
    assert [[request.values(name) for name in names] for request in answers.requests] == [
        [[f"00-{TRACE}-b7ad6b7169203331-01".encode()], [b"a=b"], [b"mine"]],
        [[], [], []],
    ]


@pytest.mark.parametrize("method", ["CONNECT", "GET"])
@pytest.mark.parametrize("target", ["me:{}@example.org:443", "http://me:{}@example.org/x"])
async def test_password_of_an_authority_is_not_logged(log: list[dict[str, Any]], method: str, target: str) -> None:
    async with site() as proxy:
        proxy.client.send(ask("/x", method=method).replace(b" /x ", f" {target.format(SECRETS[-1])} ".encode()))
        await proxy.client.take_response()

    assert SECRETS[-1] not in json.dumps(log)


async def test_websocket_is_logged_when_it_has_ended(log: list[dict[str, Any]]) -> None:
    async with Origin() as origin:
        config = Config(listen="127.0.0.1:0", ops_listen="127.0.0.1:0", access_log="full")
        async with App(config, MovingBackend(origin.port)) as app:
            client = await connect(int(app.url.rpartition(":")[2]))
            client.send(ask_upgrade())
            wire, request = await origin.asked()
            wire.send(switch(request))
            await client.take_response()
            before = accesses(log)
            client.close()
            await wire.closed()
            await until(lambda: bool(accesses(log)))

    assert before == []
    assert [line["status"] for line in accesses(log)] == [101]


async def test_own_answer_says_what_its_request_is_called_and_so_does_the_log(launch: Launch, caplog: Any) -> None:
    proxy = await launch()
    await proxy.origin.__aexit__()
    async with proxy.http.get("/ws/demo/api", headers={"X-Request-Id": "mine-2"}) as response:
        assert (response.status, response.headers["X-Request-Id"]) == (502, "mine-2")
    async with proxy.http.get("/nowhere") as response:
        assert len(response.headers["X-Request-Id"]) == 32

    assert "request=mine-2" in caplog.text
