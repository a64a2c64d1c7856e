"""HTTP in both directions: framing, streaming, backpressure, and who notices that the other side is gone."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.gateway.conftest import DEMO
from tests.relay.origin import PLAIN, Answers, Message, ask, chunk, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch
    from tests.relay.origin import Wire

MIB = 1 << 20
SMALL_BUFFER = 16_384
SIZE = 32 * MIB
LIMIT = 20 * MIB  # what two pairs of socket buffers may hold besides the proxy's own few hundred kilobytes
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


# Connections ----------------------------------------------------------------------------------------------------------


async def test_connections_are_kept_on_both_sides(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)

    client = await proxy.connect()
    for _ in range(5):
        client.send(ask())
        assert (await client.take_response()).body == b"ok"

    assert len(answers.requests) == 5
    assert len(proxy.origin.connections) == 1


async def test_clients_share_the_kept_connections(launch: Launch) -> None:
    proxy = await launch(Answers())

    for _ in range(3):
        await (await proxy.sent(ask())).take_response()

    assert len(proxy.origin.connections) == 1


async def test_pipelined_requests_are_answered_in_order(launch: Launch) -> None:
    def echo_target(request: Message) -> bytes:
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(request.target), request.target)

    proxy = await launch(Answers(echo_target))
    targets = [f"/ws/demo/{number}" for number in range(40)]

    client = await proxy.sent(*(ask(target, method="PUT", body=b"x" * 100) for target in targets))
    bodies = [(await client.take_response()).body for _ in targets]

    assert bodies == [target.encode() for target in targets]


async def test_pipelining_without_reading_the_answers_is_held_up(launch: Launch) -> None:
    answers = Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000)
    proxy = await launch(answers)
    client = await proxy.connect(receive_buffer=SMALL_BUFFER)

    for _ in range(400):  # 24 MB of answers
        client.send(ask())
    await until(lambda: any(server.writing_paused for server in proxy.server.handler.connections))
    await settled(lambda: len(answers.requests))

    assert len(answers.requests) * 60_000 < LIMIT
    for _ in range(400):
        assert len((await client.take_response()).body) == 60_000


async def test_client_that_asks_for_it_gets_its_connection_closed(launch: Launch) -> None:
    proxy = await launch(Answers())

    client = await proxy.sent(ask("/ws/demo/api", "Connection: close"))
    response = await client.take_response()

    assert response.values(b"connection") == [b"close"]
    assert await client.ending() == "closed"


async def test_notebook_that_closes_its_connection_does_not_close_the_clients(launch: Launch) -> None:
    proxy = await launch(Answers(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"))

    client = await proxy.sent(ask(), ask())
    responses = [await client.take_response() for _ in range(2)]

    assert [response.values(b"connection") for response in responses] == [[], []]
    assert len(proxy.origin.connections) == 2


async def settled(figure: object) -> None:
    """Return when a figure has not changed for a while, which can only make a test pass that should."""
    assert callable(figure)
    last, calm = figure(), 0
    while calm < 50:
        await asyncio.sleep(0.001)
        last, calm = figure(), calm + 1 if figure() == last else 0


# Framing of responses -------------------------------------------------------------------------------------------------


async def test_head_keeps_the_length_and_has_no_body(launch: Launch) -> None:
    proxy = await launch(Answers(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"))

    client = await proxy.sent(ask(method="HEAD"), ask(method="HEAD"))
    responses = [await client.take_response("HEAD") for _ in range(2)]

    assert [response.values(b"content-length") for response in responses] == [[b"500"], [b"500"]]
    assert len(proxy.origin.connections) == 1


@pytest.mark.parametrize(
    ("answer", "lines"),
    [
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX: 1\r\n\r\n", [b"X: 1"]),
        (b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n', [b'ETag: "a"']),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 70\r\n\r\n", [b"Content-Length: 70"]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [b"Content-Length: 0"]),
    ],
)
async def test_answers_without_a_body_keep_both_connections(launch: Launch, answer: bytes, lines: list[bytes]) -> None:
    proxy = await launch(Answers(answer))

    client = await proxy.sent(ask(), ask())
    responses = [await client.take_response() for _ in range(2)]

    assert [response.lines for response in responses] == [lines, lines]
    assert len(proxy.origin.connections) == 1


async def test_chunked_answer_is_chunked_anew_without_trailers(launch: Launch) -> None:
    pieces = b"5;ext=1\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n"
    proxy = await launch(Answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + pieces))

    client = await proxy.sent(ask(), ask())
    responses = [await client.take_response() for _ in range(2)]

    assert [response.body for response in responses] == [b"hello world"] * 2
    assert responses[0].lines == [b"Transfer-Encoding: chunked"]
    assert b"ext" not in responses[0].raw_body
    assert responses[0].raw_body.endswith(b"\r\n0\r\n\r\n")
    assert len(proxy.origin.connections) == 1


async def test_close_delimited_answer_becomes_chunked_and_the_client_goes_on(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nhello")
    wire.close()
    response = await client.take_response()
    client.send(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(PLAIN)

    assert (response.start, response.body) == (b"HTTP/1.1 200 OK", b"hello")
    assert response.lines == [b"Content-Type: text/plain", b"Transfer-Encoding: chunked"]
    assert (await client.take_response()).body == b"ok"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_http_1_0_client_gets_an_unchunked_body_and_the_end_of_its_connection(
    launch: Launch, version: str
) -> None:
    proxy = await launch(Answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))

    client = await proxy.sent(ask(version="1.0"))
    response = await client.take_response()

    assert response.lines == [b"Connection: close"]
    assert response.body == b"hello"


async def test_http_1_0_client_may_not_keep_its_connection(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)

    client = await proxy.sent(ask("/ws/demo/api", "Connection: keep-alive", version="1.0"))
    response = await client.take_response()

    assert response.values(b"connection") == [b"close"]
    assert await client.ending() == "closed"
    assert answers.requests[0].start.endswith(b"HTTP/1.1")


async def test_compressed_answer_passes_untouched(launch: Launch) -> None:
    packed = gzip.compress(b"hello" * 1000)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed)
    proxy = await launch(Answers(head + packed))

    response = await proxy.http.get("/ws/demo/api")

    assert (response.headers["Content-Encoding"], await response.read()) == ("gzip", packed)


async def test_interim_responses_pass_before_the_final_one(launch: Launch) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
    proxy = await launch(Answers(hints + hints + PLAIN))

    client = await proxy.sent(ask(), ask(version="1.0"))
    first, second, last = [await client.take_response() for _ in range(3)]
    old = await client.take_rest()

    assert first.head == second.head == hints
    assert last.body == b"ok"
    assert old.startswith(b"HTTP/1.1 200 OK\r\n")


# Framing of requests --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_body_of_known_length_passes_as_it_is(launch: Launch, method: str) -> None:
    answers = Answers()
    proxy = await launch(answers)
    packed = gzip.compress(b"hello" * 1000)

    line = "Content-Encoding: gzip"
    client = await proxy.sent(ask("/ws/demo/x", line, method=method, body=packed))
    await client.take_response()

    (request,) = answers.requests
    assert (request.body, request.values(b"content-encoding")) == (packed, [b"gzip"])
    assert request.values(b"content-length") == [str(len(packed)).encode()]


async def test_chunked_body_is_chunked_anew_without_trailers(launch: Launch) -> None:
    answers = Answers()
    proxy = await launch(answers)

    head = ask("/ws/demo/x", "Transfer-Encoding: chunked", method="POST")
    client = await proxy.sent(head, b"5;e=1\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\nTrailer: x\r\n\r\n", ask())
    responses = [await client.take_response() for _ in range(2)]

    first, second = answers.requests
    assert [response.status for response in responses] == [200, 200]
    assert (first.body, first.values(b"transfer-encoding")) == (b"hello world", [b"chunked"])
    assert b"Trailer" not in first.raw_body
    assert second.target == b"/ws/demo/api"


@pytest.mark.parametrize(
    ("lines", "body", "raw"),
    [
        (("Content-Length: 0",), b"", b""),
        (("Transfer-Encoding: chunked",), b"0\r\n\r\n", b"0\r\n\r\n"),
    ],
)
async def test_empty_body_stays_what_it_was(launch: Launch, lines: tuple[str], body: bytes, raw: bytes) -> None:
    answers = Answers()
    proxy = await launch(answers)

    client = await proxy.sent(ask("/ws/demo/x", *lines, method="POST"), body)
    await client.take_response()

    (request,) = answers.requests
    assert request.raw_body == raw
    assert request.values(b"content-length") == [line[16:].encode() for line in lines if line.startswith("Content")]


async def test_body_that_comes_in_pieces_goes_on_as_it_comes(launch: Launch) -> None:
    proxy = await launch()
    client = await proxy.sent(ask("/ws/demo/x", "Transfer-Encoding: chunked", method="POST"))
    wire = await proxy.origin.accepted()
    await wire.take_until(b"\r\n\r\n")

    for piece in (b"a", b"bc", b"def" * 1000):
        client.send(chunk(piece))
        assert await wire.take(len(chunk(piece))) == chunk(piece)
    client.send(b"0\r\n\r\n")
    assert await wire.take(5) == b"0\r\n\r\n"
    wire.send(EMPTY)

    response = await client.take_response()
    assert (response.status, response.values(b"connection")) == (204, [])


@pytest.mark.parametrize("delay_the_rest", [True, False])
async def test_malformed_chunk_is_answered_with_400_and_costs_the_upstream_connection(
    launch: Launch, delay_the_rest: bool
) -> None:
    proxy = await launch()

    client = await proxy.sent(ask("/ws/demo/x", "Transfer-Encoding: chunked", method="POST"), chunk(b"good"))
    wire = await proxy.origin.accepted()
    if delay_the_rest:
        await wire.take_until(chunk(b"good"))
    client.send(b"zz\r\nbad\r\n")
    response = await client.take_response()

    assert (response.status, response.values(b"connection")) == (400, [b"close"])
    assert await client.ending() == "closed"
    assert await wire.ending() in ("closed", "reset")
    assert b"bad" not in wire.taken
    assert not wire.taken.endswith(b"0\r\n\r\n")


async def test_chunk_that_turns_out_malformed_before_its_request_is_taken_up_is_answered_with_400(
    launch: Launch,
) -> None:
    proxy = await launch()
    client = await proxy.connect()
    (server,) = await connections(proxy.server.handler)

    # Two reads in one turn of the event loop: the request is queued, and its handler has not begun.
    server.data_received(ask("/ws/demo/x", "Transfer-Encoding: chunked", method="POST"))
    server.data_received(b"zz\r\nbad\r\n")

    assert (await client.take_response()).status == 400
    assert await client.ending() == "closed"


async def connections(server: object) -> list[asyncio.Protocol]:
    await until(lambda: server.connections)  # type: ignore[attr-defined]
    return list(server.connections)  # type: ignore[attr-defined]


# Expect ---------------------------------------------------------------------------------------------------------------


async def test_100_continue_comes_from_the_notebook(launch: Launch) -> None:
    proxy = await launch()
    lines = ("Content-Length: 5", "Expect: 100-continue")

    client = await proxy.sent(ask("/ws/demo/x", *lines, method="PUT"))
    wire = await proxy.origin.accepted()
    head = Message(await wire.take_until(b"\r\n\r\n"))
    assert head.values(b"expect") == [b"100-continue"]
    assert client.taken == b""
    wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert await client.take_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"hello", ask())
    assert await wire.take(5) == b"hello"
    wire.send(PLAIN)

    assert (await client.take_response()).body == b"ok"
    assert (await wire.take_request()).target == b"/ws/demo/api"
    wire.send(PLAIN)
    assert (await client.take_response()).body == b"ok"


async def test_refused_expectation_passes_and_the_body_is_not_wanted(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask("/ws/demo/x", "Content-Length: 5", "Expect: 100-continue", method="PUT"))
    wire = await proxy.origin.accepted()
    await wire.take_until(b"\r\n\r\n")
    wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
    response = await client.take_response()

    assert (response.status, response.body) == (413, b"big")
    assert response.values(b"connection") == [b"close"]
    assert await wire.ending() == "closed"


async def test_client_that_does_not_wait_gets_no_100(launch: Launch) -> None:
    answers = Answers(b"HTTP/1.1 100 Continue\r\n\r\n" + PLAIN)
    proxy = await launch(answers)

    client = await proxy.sent(ask("/ws/demo/x", "Expect: 100-continue", method="PUT", body=b"hello"))
    response = await client.take_response()

    assert response.status == 200
    assert answers.requests[0].values(b"expect") == []


# Streaming ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", ["Transfer-Encoding: chunked", "Content-Length: 1000000", "X: close-delimited"])
async def test_each_server_sent_event_arrives_before_the_next_is_sent(launch: Launch, framing: str) -> None:
    proxy = await launch()
    client = await proxy.sent(ask("/ws/demo/events", "Accept: text/event-stream"))
    wire, _ = await proxy.origin.asked()
    wire.send(f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n".encode())
    await client.take_until(b"\r\n\r\n")

    for number in range(20):
        event = b"data: %d\n\n" % number
        wire.send(chunk(event) if "chunked" in framing else event)
        assert event in await client.take_until(event)

    await client.closed()
    assert await wire.ending() == "closed"


async def test_large_bodies_pass_whole_in_both_directions(launch: Launch) -> None:
    proxy = await launch()
    body = bytes(range(256)) * (8 * MIB // 256)

    client = await proxy.sent(ask("/ws/demo/x", method="POST", body=body))
    wire, request = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    response = await client.take_response()

    wanted = hashlib.sha256(body).digest()
    assert hashlib.sha256(request.body).digest() == wanted
    assert hashlib.sha256(response.body).digest() == wanted


@pytest.mark.parametrize("is_chunked", [True, False])
async def test_upload_to_a_slow_notebook_is_held_up_at_the_client(launch: Launch, is_chunked: bool) -> None:
    proxy = await launch(receive_buffer=SMALL_BUFFER)
    framing = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {SIZE}"
    client = await proxy.sent(ask("/ws/demo/x", framing, method="PUT"))
    wire = await proxy.origin.accepted()
    await wire.take_until(b"\r\n\r\n")

    for _ in range(SIZE // MIB):
        client.send(chunk(b"x" * MIB) if is_chunked else b"x" * MIB)
    if is_chunked:
        client.send(b"0\r\n\r\n")
    await settled(lambda: client.unsent)
    held = client.unsent
    wire.widen()
    length = sum([size async for size in wire.chunk_sizes()]) if is_chunked else len(await wire.take(SIZE))
    wire.send(EMPTY)

    assert held > SIZE - LIMIT
    assert length == SIZE
    assert (await client.take_response()).status == 204


async def test_download_to_a_slow_client_is_held_up_at_the_notebook(launch: Launch) -> None:
    proxy = await launch()
    client = await proxy.connect(receive_buffer=SMALL_BUFFER)
    client.send(ask())
    wire, _ = await proxy.origin.asked()

    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
    for _ in range(SIZE // MIB):
        wire.send(b"x" * MIB)
    await settled(lambda: wire.unsent)
    held = wire.unsent
    client.widen()
    response = await client.take_response()

    assert held > SIZE - LIMIT
    assert len(response.body) == SIZE


async def test_early_refusal_of_a_large_upload_reaches_the_client(launch: Launch) -> None:
    proxy = await launch(receive_buffer=SMALL_BUFFER)
    size = 24 * MIB

    client = await proxy.sent(ask("/ws/demo/x", f"Content-Length: {size}", method="POST"), b"x" * size)
    wire = await proxy.origin.accepted()
    await wire.take_until(b"\r\n\r\n")
    wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
    response = await client.take_response()

    assert (response.status, response.body) == (413, b"big")
    assert response.values(b"connection") == [b"close"]
    assert await wire.ending() in ("closed", "reset")


async def test_early_refusal_reaches_the_client_though_the_notebook_resets_the_upload(launch: Launch) -> None:
    proxy = await launch()
    size = 2 * MIB

    for _ in range(100):
        client = await proxy.sent(ask("/ws/demo/x", f"Content-Length: {size}", method="POST"), b"x" * size)
        wire = await proxy.origin.accepted()
        await wire.take_until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        wire.close()  # with bytes unread: the kernel sends a reset behind the answer
        response = await client.take_response()
        await client.closed()

        assert (response.status, response.body) == (413, b"big")


# Who is gone ----------------------------------------------------------------------------------------------------------


async def gone(wire: Wire) -> None:
    async with asyncio.timeout(1.0):
        await wire.ending()


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize(
    "request_bytes",
    [
        ask(),
        ask(method="POST", body=b"whole"),
        ask("/ws/demo/x", "Content-Length: 1000", method="PUT") + b"half",
        ask("/ws/demo/x", "Transfer-Encoding: chunked", method="PUT") + chunk(b"half"),
        ask("/ws/demo/x", "Content-Length: 1000", "Expect: 100-continue", method="PUT"),
    ],
    ids=["waiting", "sent", "uploading", "uploading-chunks", "expecting"],
)
async def test_client_that_leaves_before_the_answer_ends_the_request_upstream(
    launch: Launch, request_bytes: bytes, how: str
) -> None:
    proxy = await launch()
    client = await proxy.sent(request_bytes)
    wire = await proxy.origin.accepted()
    await wire.take_until(b"\r\n\r\n")

    getattr(client, how)()

    await gone(wire)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_client_that_leaves_during_the_answer_ends_it_upstream(launch: Launch, how: str) -> None:
    proxy = await launch()
    client = await proxy.sent(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
    await client.take_until(b"half")

    getattr(client, how)()

    await gone(wire)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_slow_client_that_leaves_ends_the_answer_upstream(launch: Launch, how: str) -> None:
    proxy = await launch()
    client = await proxy.connect(receive_buffer=SMALL_BUFFER)
    client.send(ask())
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 * MIB), b"x" * 32 * MIB)
    await until(lambda: any(server.writing_paused for server in proxy.server.handler.connections))

    getattr(client, how)()

    await gone(wire)


async def test_client_that_leaves_while_a_start_is_awaited_does_not_end_the_start(launch: Launch) -> None:
    proxy = await launch(Answers())
    proxy.backend.gate.clear()
    client = await proxy.sent(ask())
    await until(lambda: proxy.backend.starts["demo"])

    await client.closed()
    await until(lambda: not proxy.gateway.in_flight)
    assert proxy.supervisor.phases()[DEMO].value == "starting"
    proxy.backend.gate.set()

    assert (await proxy.http.get("/ws/demo/api")).status == 200
    assert proxy.backend.starts == {"demo": 1}


async def test_many_requests_at_once_share_one_start(launch: Launch) -> None:
    proxy = await launch(Answers())
    proxy.backend.gate.clear()
    asked = [asyncio.ensure_future(proxy.http.get("/ws/demo/api")) for _ in range(50)]
    await until(lambda: proxy.gateway.in_flight == 50)

    proxy.backend.gate.set()
    responses = await asyncio.gather(*asked)

    assert {response.status for response in responses} == {200}
    assert proxy.backend.starts == {"demo": 1}
