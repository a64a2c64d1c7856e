"""When something fails: what the client is told, what is tried again, and what never is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from proxy.errors import ShuttingDown, StartFailed
from proxy.relay import upstream
from tests.gateway.conftest import DEMO
from tests.relay.origin import PLAIN, Answers, Origin, ask, ask_upgrade, chunk, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Message, Wire

REPEATABLE = [("GET", None), ("HEAD", None), ("OPTIONS", None), ("DELETE", None), ("PUT", b"whole"), ("PUT", b"")]


def problem_code(response: Message) -> str:
    import json

    assert response.values(b"content-type") == [b"application/problem+json"]
    return str(json.loads(response.body)["code"])


async def kept_connection(proxy: Proxy) -> Wire:
    """Let one request pass, and return the notebook's end of the connection that is kept after it."""
    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(PLAIN)
    await client.take_response()
    return wire


# A connection that turns out dead -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_kept_connection_that_was_closed_while_idle_is_not_used(launch: Launch, how: str) -> None:
    proxy = await launch()
    getattr(await kept_connection(proxy), how)()
    await until(lambda: not proxy.pool._idle)

    client = await proxy.sent(ask(method="POST", body=b"x"))
    wire, request = await proxy.origin.asked()
    wire.send(PLAIN)

    assert (await client.take_response()).status == 200
    assert request.body == b"x"


@pytest.mark.parametrize(("method", "body"), REPEATABLE)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_kept_connection_that_dies_under_a_repeatable_request_is_replaced_once(
    launch: Launch, how: str, method: str, body: bytes | None
) -> None:
    proxy = await launch()
    kept = await kept_connection(proxy)

    client = await proxy.sent(ask("/ws/demo/x", method=method, body=body))
    first = await kept.take_request()
    getattr(kept, how)()
    wire, second = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    assert (await client.take_response(method)).status == 204
    assert first == second
    assert second.body == (body or b"")
    assert len(proxy.origin.connections) == 2


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_kept_connection_that_dies_under_what_must_not_be_sent_twice_is_told(launch: Launch, method: str) -> None:
    proxy = await launch()
    kept = await kept_connection(proxy)

    client = await proxy.sent(ask("/ws/demo/x", method=method, body=b"once"))
    await kept.take_request()
    kept.close()
    response = await client.take_response()

    assert (response.status, problem_code(response)) == (503, "upstream-gone")
    assert response.values(b"retry-after") == [b"1"]
    assert len(proxy.origin.connections) == 1


@pytest.mark.parametrize("framing", ["Content-Length: 1000", "Transfer-Encoding: chunked"])
async def test_kept_connection_that_dies_under_an_upload_is_told(launch: Launch, framing: str) -> None:
    proxy = await launch()
    kept = await kept_connection(proxy)

    client = await proxy.sent(ask("/ws/demo/x", framing, method="PUT"), chunk(b"half"))
    await kept.take_until(b"half")
    kept.close()
    response = await client.take_response()

    assert (response.status, problem_code(response)) == (503, "upstream-gone")
    assert response.values(b"connection") == [b"close"]
    assert len(proxy.origin.connections) == 1


async def test_kept_connection_that_dies_half_way_through_an_answer_is_not_replaced(launch: Launch) -> None:
    proxy = await launch()
    kept = await kept_connection(proxy)

    client = await proxy.sent(ask())
    await kept.take_request()
    await kept.push(b"HTTP/1.1 200 OK\r\nContent-")
    kept.close()
    response = await client.take_response()

    assert (response.status, problem_code(response)) == (502, "upstream-closed")
    assert len(proxy.origin.connections) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_new_connection_that_is_closed_without_an_answer_is_told(launch: Launch, method: str) -> None:
    async def slam(wire: Wire) -> None:
        await wire.take_request()

    proxy = await launch(slam)

    response = await (await proxy.sent(ask("/ws/demo/x", method=method))).take_response()

    assert (response.status, problem_code(response)) == (502, "upstream-closed")
    assert len(proxy.origin.connections) == (1 if method == "POST" else 2)


# Refused connections --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        ask(),
        ask("/ws/demo/x", method="POST", body=b"untouched"),
        ask("/ws/demo/x", "Transfer-Encoding: chunked", method="POST") + chunk(b"untouched") + b"0\r\n\r\n",
    ],
    ids=["get", "post", "chunked"],
)
async def test_notebook_that_died_behind_its_handle_is_started_anew_and_the_request_answered(
    launch: Launch, request_bytes: bytes
) -> None:
    proxy = await launch(Answers())
    await proxy.http.get("/ws/demo/api")
    proxy.origin.refuse()
    for wire in proxy.origin.connections:
        await wire.closed()
    await until(lambda: not proxy.pool._idle)
    answers = Answers()

    async with Origin(answers) as moved:
        proxy.backend.port = moved.port
        response = await (await proxy.sent(request_bytes)).take_response()

    assert response.status == 200
    assert answers.requests[0].body in (b"", b"untouched")
    assert answers.requests[0].raw_body == request_bytes.partition(b"\r\n\r\n")[2]
    assert proxy.backend.starts == {"demo": 2}


async def test_upload_that_is_still_to_come_is_answered_by_the_notebook_that_was_started_anew(launch: Launch) -> None:
    proxy = await launch(Answers())
    await proxy.http.get("/ws/demo/api")
    proxy.origin.refuse()
    for wire in proxy.origin.connections:
        await wire.closed()
    await until(lambda: not proxy.pool._idle)

    async with Origin() as moved:
        proxy.backend.port = moved.port
        client = await proxy.sent(ask("/ws/demo/x", "Content-Length: 4", method="POST"), b"ha")
        wire = await moved.accepted()
        await wire.take_until(b"ha")
        client.send(b"lf")
        await wire.take_until(b"lf")
        wire.send(PLAIN)
        response = await client.take_response()

    assert response.status == 200


async def test_websocket_finds_the_notebook_that_was_started_anew(launch: Launch) -> None:
    proxy = await launch(Answers())
    await proxy.http.get("/ws/demo/api")
    proxy.origin.refuse()

    async with Origin() as moved:
        proxy.backend.port = moved.port
        client = await proxy.sent(ask_upgrade())
        wire, _ = await moved.asked()
        wire.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        response = await client.take_response()

    assert response.status == 403
    assert proxy.backend.starts == {"demo": 2}


@pytest.mark.parametrize("request_bytes", [ask(), ask(method="POST", body=b"x"), ask_upgrade()])
async def test_second_refusal_in_a_row_is_told(launch: Launch, request_bytes: bytes) -> None:
    proxy = await launch()
    proxy.origin.refuse()

    response = await (await proxy.sent(request_bytes)).take_response()

    assert (response.status, problem_code(response)) == (502, "upstream-refused")
    assert proxy.backend.starts == {"demo": 2}
    assert DEMO in proxy.supervisor.phases()  # it stays known, so that it can be reaped


# Answers that are none ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 000 Nothing\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
    ],
)
async def test_answer_that_is_not_strictly_http_is_not_passed_on(launch: Launch, answer: bytes) -> None:
    proxy = await launch()

    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(answer)
    response = await client.take_response()

    assert (response.status, problem_code(response)) == (502, "upstream-invalid")
    assert await wire.ending() in ("closed", "reset")


@pytest.mark.parametrize(
    "behind", [b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"x", b"\r\n"], ids=["response", "byte", "line"]
)
@pytest.mark.parametrize("is_at_once", [True, False])
async def test_bytes_behind_an_answer_never_reach_the_next_client(
    launch: Launch, behind: bytes, is_at_once: bool
) -> None:
    proxy = await launch()

    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(PLAIN, behind if is_at_once else b"")
    first = await client.take_response()
    if not is_at_once:
        wire.send(behind)
        await until(lambda: not proxy.pool._idle)
    client.send(ask())
    fresh, _ = await proxy.origin.asked()
    fresh.send(PLAIN)

    assert [first.body, (await client.take_response()).body] == [b"ok", b"ok"]
    assert await wire.ending() in ("closed", "reset")


async def test_unread_body_of_a_head_answer_never_reaches_the_next_client(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask(method="HEAD"))
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    await client.take_response("HEAD")
    client.send(ask())
    fresh, _ = await proxy.origin.asked()
    fresh.send(PLAIN)

    assert (await client.take_response()).body == b"ok"


@pytest.mark.parametrize(
    ("head", "version"),
    [
        (b"Content-Length: 1000\r\n", "1.1"),
        (b"Transfer-Encoding: chunked\r\n", "1.1"),
        (b"Content-Length: 1000\r\n", "1.0"),
        (b"Transfer-Encoding: chunked\r\n", "1.0"),
    ],
)
@pytest.mark.parametrize("how", ["close", "reset"])
async def test_answer_that_breaks_off_is_broken_off_and_never_ended(
    launch: Launch, head: bytes, version: str, how: str
) -> None:
    proxy = await launch()

    client = await proxy.sent(ask(version=version))
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\n", head, b"\r\n", chunk(b"half"))
    await client.take_until(b"half")
    getattr(wire, how)()

    assert await client.ending() == "reset"
    assert b"\r\n0\r\n" not in client.taken


async def test_malformed_chunk_of_an_answer_breaks_it_off(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", chunk(b"half"))
    await client.take_until(b"half")
    wire.send(b"zz\r\n")

    assert await client.ending() == "reset"
    assert await wire.ending() in ("closed", "reset")


# Time -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def _short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_TICK", 0.01)


@pytest.mark.usefixtures("_short_ticks")
@pytest.mark.parametrize("request_bytes", [ask(), ask(method="POST", body=b"x"), ask_upgrade()])
async def test_notebook_that_sends_no_head_in_time_is_given_up(launch: Launch, request_bytes: bytes) -> None:
    proxy = await launch(head_timeout=0.05)

    client = await proxy.sent(request_bytes)
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\n")
    response = await client.take_response()

    assert (response.status, problem_code(response)) == (504, "upstream-timeout")
    assert await wire.ending() == "closed"


@pytest.mark.usefixtures("_short_ticks")
async def test_body_may_take_for_ever(launch: Launch) -> None:
    proxy = await launch(head_timeout=0.05)

    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    await client.take_until(b"\r\n\r\n")
    late = proxy.pool._now + 0.3
    await until(lambda: proxy.pool._now > late)
    wire.send(b"ok")

    assert await client.take(2) == b"ok"


@pytest.mark.usefixtures("_short_ticks")
async def test_upload_that_goes_on_may_take_longer_than_an_answer(launch: Launch) -> None:
    proxy = await launch(head_timeout=0.5)

    client = await proxy.sent(ask("/ws/demo/x", "Content-Length: 20", method="PUT"))
    wire = await proxy.origin.accepted()
    await wire.take_until(b"\r\n\r\n")
    for _ in range(20):
        late = proxy.pool._now + 0.05
        await until(lambda late=late: proxy.pool._now > late)  # type: ignore[misc]
        client.send(b"x")
        await wire.take(1)
    wire.send(PLAIN)

    assert (await client.take_response()).status == 200


# Starts ---------------------------------------------------------------------------------------------------------------


async def test_failed_start_is_told_to_programs_as_a_problem(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.fault = StartFailed("no-jupyter", "It is not installed.", detail="log <tail>", retry_after=7)

    response = await proxy.http.get("/ws/demo/api")
    problem = await response.json()

    assert (response.status, response.headers["Retry-After"]) == (503, "7")
    assert response.headers["Content-Type"].startswith("application/problem+json")
    assert problem == {
        "type": "about:blank", "title": "The notebook server could not be started", "status": 503,
        "detail": "It is not installed.", "code": "no-jupyter", "log": "log <tail>", "retry_after": 7,
        "status_url": "/ws/demo/_proxy/status",
    }  # fmt: skip


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Mode": "navigate"}, {"Accept": "text/html,*/*"}])
async def test_failed_start_is_told_to_people_as_a_page(launch: Launch, headers: dict[str, str]) -> None:
    proxy = await launch()
    proxy.backend.fault = StartFailed("no-jupyter", "It is <not> installed.", detail="log <tail>")

    response = await proxy.http.get("/ws/demo/lab", headers=headers)
    page = await response.text()

    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert response.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "It is &lt;not&gt; installed." in page
    assert "log &lt;tail&gt;" in page
    assert "demo could not be started" in page
    assert "unsafe" not in response.headers["Content-Security-Policy"]


async def test_failed_start_is_not_tried_again_before_its_back_off_is_over(launch: Launch) -> None:
    proxy = await launch(Answers())
    proxy.backend.fault = StartFailed("crashed", "It crashed.", retry_after=7)

    first = await proxy.http.get("/ws/demo/api")
    proxy.backend.fault = None
    second = await proxy.http.get("/ws/demo/api")
    proxy.clock.advance(8)
    third = await proxy.http.get("/ws/demo/api")

    assert [response.status for response in (first, second, third)] == [503, 503, 200]
    assert proxy.backend.starts == {"demo": 2}


async def test_start_that_takes_too_long_is_told_and_goes_on(launch: Launch) -> None:
    proxy = await launch(Answers())
    proxy.backend.gate.clear()
    client = await proxy.sent(ask("/ws/demo/api"))
    await until(lambda: proxy.backend.starts["demo"] and proxy.clock._sleepers)

    proxy.clock.advance(51)
    response = await client.take_response()
    proxy.backend.gate.set()
    again = await proxy.http.get("/ws/demo/api")

    assert (response.status, response.values(b"retry-after")) == (504, [b"5"])
    assert problem_code(response) == "not-ready"
    assert response.values(b"link") == [b'</ws/demo/_proxy/status>; rel="status"']
    assert again.status == 200
    assert proxy.backend.starts == {"demo": 1}


async def test_unread_body_of_a_request_that_could_not_be_carried_ends_its_connection(launch: Launch) -> None:
    proxy = await launch()
    proxy.backend.fault = StartFailed("crashed", "It crashed.")

    client = await proxy.sent(ask("/ws/demo/x", method="POST", body=b"GET /ws/demo/smuggled HTTP/1.1\r\n\r\n"))
    response = await client.take_response()

    assert (response.status, response.values(b"connection")) == (503, [b"close"])
    assert await client.ending() == "closed"


async def test_proxy_that_shuts_down_starts_nothing(launch: Launch) -> None:
    proxy = await launch()
    proxy.supervisor.refuse_starts()

    response = await proxy.http.get("/ws/demo/api")

    assert (response.status, response.headers["Retry-After"]) == (503, str(ShuttingDown.retry_after))
    assert proxy.backend.starts == {}


async def test_broken_backend_is_told_without_its_secrets(launch: Launch, caplog: pytest.LogCaptureFixture) -> None:
    proxy = await launch()
    proxy.backend.fault = RuntimeError("token secret")

    response = await proxy.http.get("/ws/demo/api")

    assert response.status == 503
    assert "secret" not in await response.text()


async def test_defect_of_the_proxy_is_a_500_and_the_next_request_is_answered(
    launch: Launch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = await launch(Answers())

    with monkeypatch.context() as patched:
        patched.setattr(proxy.supervisor, "ensure_running", None)
        first = await proxy.http.get("/ws/demo/api")
    second = await proxy.http.get("/ws/demo/api")

    assert [first.status, second.status] == [500, 200]
    assert "request broke" in caplog.text


async def test_many_clients_and_dying_connections_leave_nothing_behind(launch: Launch) -> None:
    async def fickle(wire: Wire) -> None:
        for number in range(3):
            await wire.take_request()
            await wire.push(PLAIN if number < 2 else PLAIN[:-1])

    proxy = await launch(fickle)

    async def use() -> None:
        client = await proxy.connect()
        for _ in range(5):
            client.send(ask())
            try:
                await client.take_response()
            except (asyncio.IncompleteReadError, ConnectionError):
                return

    await asyncio.gather(*(use() for _ in range(40)))

    await until(lambda: not proxy.gateway.in_flight)
    assert not proxy.pool._awaiting_head
