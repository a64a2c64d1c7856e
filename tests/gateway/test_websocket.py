"""Websockets: the handshake, the bytes behind it, and how each side learns that the other is gone."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest
from aiohttp import WSMsgType

from tests.relay.origin import PLAIN, Answers, ask, ask_upgrade, connect, echo, frame, switch, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch, Proxy
    from tests.relay.origin import Wire

MASK = b"\x01\x02\x03\x04"
MIB = 1 << 20
LIMIT = 20 * MIB
SMALL_BUFFER = 16_384


async def opened(proxy: Proxy, *, receive_buffer: int | None = None) -> tuple[Wire, Wire]:
    """Return both ends of an open websocket: the client's and the notebook's."""
    client = await proxy.connect(receive_buffer=receive_buffer)
    client.send(ask_upgrade())
    wire, request = await proxy.origin.asked()
    wire.send(switch(request))
    assert (await client.take_response()).status == 101
    return client, wire


# The handshake --------------------------------------------------------------------------------------------------------


async def test_aiohttps_own_client_talks_through_the_proxy(launch: Launch) -> None:
    proxy = await launch(echo)

    async with proxy.http.ws_connect("/ws/demo/api/kernels/1/channels", compress=15) as websocket:
        await websocket.send_str("6*7")
        await websocket.send_bytes(b"x" * 200_000)
        texts = [await websocket.receive(), await websocket.receive()]

    assert [message.type for message in texts] == [WSMsgType.TEXT, WSMsgType.BINARY]
    assert [len(message.data) for message in texts] == [3, 200_000]
    assert websocket.close_code == 1000


async def test_handshake_passes_with_subprotocol_and_extensions(launch: Launch) -> None:
    proxy = await launch()
    asked = (
        "Sec-WebSocket-Protocol: v1.kernel.websocket.jupyter.org, other",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        "Origin: http://localhost", "Cookie: a=b", "Authorization: token mine",
    )  # fmt: skip
    answered = (
        "Sec-WebSocket-Protocol: v1.kernel.websocket.jupyter.org",
        "Sec-WebSocket-Extensions: permessage-deflate",
        "Set-Cookie: c=d; Path=/ws/demo/",
    )

    client = await proxy.sent(ask_upgrade("/ws/demo/x", *asked))
    wire, request = await proxy.origin.asked()
    wire.send(switch(request, *answered))
    response = await client.take_response()

    assert [line.encode() for line in asked[:4]] == request.lines[3:7]
    assert request.values(b"authorization") == [b"token secret"]
    assert request.values(b"upgrade") == [b"websocket"]
    assert request.values(b"connection") == [b"Upgrade"]
    assert (response.status, response.values(b"upgrade")) == (101, [b"websocket"])
    assert [line.encode() for line in answered] == response.lines[1:4]


async def test_client_is_answered_only_after_the_notebook_has_answered(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask_upgrade())
    wire, request = await proxy.origin.asked()
    assert client.reader._buffer == b""  # type: ignore[attr-defined]
    wire.send(switch(request))

    assert (await client.take_response()).status == 101


async def test_websocket_never_takes_a_kept_connection(launch: Launch) -> None:
    proxy = await launch()
    http = await proxy.sent(ask())
    kept, _ = await proxy.origin.asked()
    kept.send(PLAIN)
    await http.take_response()

    _, wire = await opened(proxy)

    assert wire is not kept
    assert len(proxy.origin.connections) == 2


async def test_refused_upgrade_passes_as_the_answer_that_it_is_and_keep_alive_goes_on(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask_upgrade(), ask())
    wire, _ = await proxy.origin.asked()
    wire.send(b"HTTP/1.1 403 Forbidden\r\nX-Why: no\r\nContent-Length: 3\r\n\r\nno!")
    refused = await client.take_response()
    plain, request = await proxy.origin.asked()
    plain.send(PLAIN)

    assert (refused.start, refused.values(b"x-why"), refused.body) == (b"HTTP/1.1 403 Forbidden", [b"no"], b"no!")
    assert (await client.take_response()).body == b"ok"
    assert request.values(b"upgrade") == []


@pytest.mark.parametrize(
    "answer",
    [
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: bm9wZQ==\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n{accept_line}\r\n",
        "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n{accept_line}{accept_line}Connection: Upgrade\r\n\r\n",
    ],
)
async def test_switch_that_a_browser_would_not_accept_is_not_passed_on(launch: Launch, answer: str) -> None:
    proxy = await launch()

    client = await proxy.sent(ask_upgrade())
    wire, _ = await proxy.origin.asked()
    accept_line = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    wire.send(answer.format(accept_line=accept_line).encode())
    response = await client.take_response()

    assert (response.status, b"upstream-invalid" in response.body) == (502, True)
    assert await wire.ending() in ("closed", "reset")


async def test_client_that_leaves_during_the_handshake_ends_it_upstream(launch: Launch) -> None:
    proxy = await launch()
    client = await proxy.sent(ask_upgrade())
    wire, _ = await proxy.origin.asked()

    client.close()

    assert await wire.ending() == "closed"


# The bytes ------------------------------------------------------------------------------------------------------------

STREAMS = {
    "text": frame(b"hello", 1, mask=MASK),
    "empty": frame(b"", 2, mask=MASK),
    "fragments": frame(b"a", 1, fin=False, mask=MASK)
    + frame(b"b", 0, fin=False, mask=MASK)
    + frame(b"c", 0, mask=MASK),
    "control-between": frame(b"a", 2, fin=False, mask=MASK) + frame(b"p", 9, mask=MASK) + frame(b"b", 0, mask=MASK),
    "ping-pong": frame(b"", 9, mask=MASK) + frame(b"x" * 125, 10, mask=MASK),
    "16-bit": frame(os.urandom(65_535), mask=MASK),
    "64-bit": frame(os.urandom(65_536), mask=MASK),
    "large": frame(os.urandom(5 * MIB), mask=MASK),
    "reserved-bits": bytes([0xF3, 0x85]) + MASK + b"weird",
    "not-frames-at-all": b"\xff" * 1000,
}


@pytest.mark.parametrize("name", STREAMS)
async def test_bytes_pass_unchanged_to_the_notebook(launch: Launch, name: str) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)

    client.send(STREAMS[name])

    assert await wire.take(len(STREAMS[name])) == STREAMS[name]


@pytest.mark.parametrize("name", STREAMS)
async def test_bytes_pass_unchanged_to_the_client(launch: Launch, name: str) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)

    wire.send(STREAMS[name])

    assert await client.take(len(STREAMS[name])) == STREAMS[name]


async def test_bytes_right_behind_the_clients_handshake_are_not_lost(launch: Launch) -> None:
    proxy = await launch()

    client = await proxy.sent(ask_upgrade(), frame(b"early", mask=MASK))
    wire, request = await proxy.origin.asked()
    client.send(frame(b"waiting", mask=MASK))
    wire.send(switch(request))
    client.send(frame(b"late", mask=MASK))

    assert [(await wire.take_frame()).payload for _ in range(3)] == [b"early", b"waiting", b"late"]


async def test_many_bytes_right_behind_the_clients_handshake_are_not_lost(launch: Launch) -> None:
    proxy = await launch()
    stream = frame(os.urandom(4 * MIB), mask=MASK)

    client = await proxy.sent(ask_upgrade(), stream)
    wire, request = await proxy.origin.asked()
    wire.send(switch(request))

    assert await wire.take(len(stream)) == stream
    assert (await client.take_response()).status == 101


@pytest.mark.parametrize("size", [10, 60_000, 2 * MIB])
async def test_bytes_right_behind_the_notebooks_handshake_are_not_lost(launch: Launch, size: int) -> None:
    proxy = await launch()
    stream = frame(os.urandom(size))

    client = await proxy.sent(ask_upgrade())
    wire, request = await proxy.origin.asked()
    wire.send(switch(request), stream)
    await client.take_response()

    assert await client.take(len(stream)) == stream


async def test_notebook_that_speaks_and_leaves_right_behind_its_handshake_is_heard(launch: Launch) -> None:
    proxy = await launch()
    stream = frame(b"bye") + frame(struct.pack("!H", 4000), 8)

    client = await proxy.sent(ask_upgrade())
    wire, request = await proxy.origin.asked()
    wire.send(switch(request), stream)
    wire.close()
    await client.take_response()

    assert await client.take_rest() == stream


@pytest.mark.parametrize("code", [1000, 1001, 4321])
async def test_close_codes_and_reasons_pass_both_ways(launch: Launch, code: int) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)
    reason = struct.pack("!H", code) + "sch\N{LATIN SMALL LETTER O WITH DIAERESIS}n".encode()

    client.send(frame(reason, 8, mask=MASK))
    asked = await wire.take_frame()
    wire.send(frame(reason, 8))
    wire.close()

    assert (asked.first, asked.payload) == (0x88, reason)
    assert await client.take_rest() == frame(reason, 8)


async def test_each_frame_touches_in_both_directions(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)

    for opcode in (1, 2, 9, 10):
        for sender, receiver, mask in ((client, wire, MASK), (wire, client, b"")):
            proxy.clock.advance(100)
            assert proxy.idle_seconds == 100
            sender.send(frame(b"x", opcode, mask=mask))
            await receiver.take_frame()
            assert proxy.idle_seconds == 0


async def test_pieces_of_one_large_frame_touch(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)
    whole = frame(b"x" * 1000, mask=MASK)

    for start in range(0, len(whole), 252):
        proxy.clock.advance(100)
        client.send(whole[start : start + 252])
        await wire.take(len(whole[start : start + 252]))
        assert proxy.idle_seconds == 0


# Backpressure ---------------------------------------------------------------------------------------------------------


async def calm(wire: Wire) -> int:
    """Return what is still unsent when it does not get less any more."""
    last, rounds = -1, 0

    def is_calm() -> bool:
        nonlocal last, rounds
        rounds = rounds + 1 if wire.unsent == last else 0
        last = wire.unsent
        return rounds > 50

    await until(is_calm)
    return last


async def test_notebook_that_does_not_read_holds_the_client_up(launch: Launch) -> None:
    proxy = await launch(receive_buffer=SMALL_BUFFER)
    client, wire = await opened(proxy)
    stream = frame(b"x" * 32 * MIB, mask=MASK)

    client.send(stream)
    held = await calm(client)
    wire.widen()
    received = await wire.take(len(stream))

    assert held > len(stream) - LIMIT
    assert received == stream


async def test_client_that_does_not_read_holds_the_notebook_up(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy, receive_buffer=SMALL_BUFFER)
    stream = frame(b"x" * 32 * MIB)

    wire.send(stream)
    held = await calm(wire)
    client.widen()
    received = await client.take(len(stream))

    assert held > len(stream) - LIMIT
    assert received == stream


async def test_one_direction_goes_on_while_the_other_is_held_up(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy, receive_buffer=SMALL_BUFFER)
    wire.send(frame(b"x" * 32 * MIB))
    await calm(wire)

    client.send(frame(b"stop", mask=MASK))

    assert (await wire.take_frame()).payload == b"stop"


# Ends -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_dead_notebook_closes_the_client_at_once(launch: Launch, how: str) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)

    getattr(wire, how)()

    assert await client.ending() in ("closed", "reset")
    await until(lambda: len(proxy.websockets) == 0)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_dead_client_closes_the_notebook_at_once(launch: Launch, how: str) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)

    getattr(client, how)()

    assert await wire.ending() in ("closed", "reset")
    await until(lambda: len(proxy.websockets) == 0)


async def test_last_words_of_a_client_reach_the_notebook(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)
    stream = frame(os.urandom(50_000), mask=MASK) + frame(b"", 8, mask=MASK)

    client.send(stream)
    client.close()

    assert await wire.take_rest() == stream


async def test_last_words_of_a_notebook_reach_the_client(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)
    stream = frame(os.urandom(3 * MIB)) + frame(struct.pack("!H", 1011), 8)

    wire.send(stream)
    wire.close()

    assert await client.take_rest() == stream


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_slow_client_that_leaves_frees_the_notebook(launch: Launch, how: str) -> None:
    proxy = await launch()
    client, wire = await opened(proxy, receive_buffer=SMALL_BUFFER)
    wire.send(frame(b"x" * 32 * MIB))
    await calm(wire)

    getattr(client, how)()

    assert await wire.ending() in ("closed", "reset")


async def test_closing_all_sends_1012_to_both_sides_at_a_frame_boundary(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)
    client.send(frame(b"a", mask=MASK))
    await wire.take_frame()
    wire.send(frame(b"b"))
    await client.take_frame()

    proxy.websockets.close_all()
    told_client, told_notebook = await client.take_frame(), await wire.take_frame()
    client.send(frame(told_client.payload, 8, mask=MASK))

    assert told_client.raw == b"\x88\x02" + struct.pack("!H", 1012)
    assert (told_notebook.first, told_notebook.payload) == (0x88, struct.pack("!H", 1012))
    assert told_notebook.raw[1] == 0x82
    assert await client.ending() == "closed"
    assert await wire.ending() == "closed"


@pytest.mark.parametrize("side", ["client", "notebook"])
async def test_closing_all_cuts_off_the_side_that_is_within_a_frame(launch: Launch, side: str) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)
    sender, receiver = (wire, client) if side == "client" else (client, wire)
    sender.send(frame(b"x" * 100, mask=MASK)[:50])
    await receiver.take(50)
    mark = len(receiver.taken)

    proxy.websockets.close_all()

    assert await receiver.ending() in ("closed", "reset")
    assert len(receiver.taken) == mark
    other = client if receiver is wire else wire
    assert (await other.take_frame()).payload == struct.pack("!H", 1012)


async def test_closing_all_passes_nothing_of_either_side_behind_the_close_frame(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)

    proxy.websockets.close_all()
    await client.take_frame()
    await wire.take_frame()
    client.send(frame(b"after", mask=MASK))
    wire.send(frame(b"after"))
    client.send(frame(b"", 8, mask=MASK))

    assert await client.take_rest() == b""
    assert await wire.take_rest() == b""


async def test_client_that_ignores_the_close_frame_is_closed_all_the_same(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.relay.tunnel.CLOSE_PATIENCE", 0.05)
    proxy = await launch()
    client, wire = await opened(proxy)

    proxy.websockets.close_all()

    assert len(await client.take_rest()) == 4
    assert await wire.ending() == "closed"


async def test_client_that_does_not_even_read_is_closed_all_the_same(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.relay.tunnel.CLOSE_PATIENCE", 0.05)
    proxy = await launch()
    _, wire = await opened(proxy, receive_buffer=SMALL_BUFFER)
    (tunnel,) = proxy.websockets._tunnels
    while not tunnel._is_held:  # frames that come in one piece, so that it is held at a boundary
        sent = tunnel._from_notebook.data_frames
        await wire.push(frame(b"x" * 60_000))
        await until(lambda sent=sent: tunnel._from_notebook.data_frames > sent)  # type: ignore[misc]
    assert tunnel._from_notebook.is_at_boundary

    proxy.websockets.close_all()

    await until(lambda: len(proxy.websockets) == 0)
    assert await wire.ending() in ("closed", "reset")


async def test_handshake_under_way_when_all_are_closed_ends_with_1012(launch: Launch) -> None:
    proxy = await launch()
    client = await proxy.sent(ask_upgrade())
    wire, request = await proxy.origin.asked()

    proxy.websockets.close_all()
    wire.send(switch(request), frame(b"hello"))

    assert (await client.take_response()).status == 101
    assert (await client.take_frame()).payload == struct.pack("!H", 1012)
    assert (await wire.take_frame()).payload == struct.pack("!H", 1012)
    client.send(frame(b"", 8, mask=MASK))
    assert await client.ending() == "closed"


async def test_websocket_that_the_notebook_is_closing_is_not_told_again(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)
    wire.send(frame(struct.pack("!H", 1000), 8))
    await client.take_frame()

    proxy.websockets.close_all()

    assert await client.take_rest() == b""


async def test_hundred_websockets_at_once_leave_nothing_behind(launch: Launch) -> None:
    proxy = await launch(echo)
    clients = [await proxy.connect() for _ in range(100)]

    for client in clients:
        client.send(ask_upgrade(), frame(b"x", mask=MASK))
    for client in clients:
        await client.take_response()
        assert (await client.take_frame()).payload == b"x"
    assert len(proxy.websockets) == 100
    for number, client in enumerate(clients):
        (client.close, client.reset)[number % 2]()

    await until(lambda: len(proxy.websockets) == 0)


async def test_ordinary_requests_pass_beside_a_busy_websocket(launch: Launch) -> None:
    proxy = await launch()
    _, wire = await opened(proxy)
    wire.send(frame(b"x" * MIB))

    http = await connect(proxy.port)
    http.send(ask())
    plain, _ = await proxy.origin.asked()
    plain.send(PLAIN)

    assert (await http.take_response()).body == b"ok"
    await http.closed()


async def test_handshake_that_cannot_be_started_is_answered_in_words(launch: Launch) -> None:
    proxy = await launch(Answers())
    proxy.backend.fault = RuntimeError("no")

    response = await (await proxy.sent(ask_upgrade())).take_response()

    assert response.status == 503
    assert response.values(b"retry-after") == [b"1"]
