"""The end of a websocket: nothing that was said before it is lost, whoever is slow, and every close code passes."""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

import pytest

from tests.gateway.test_websocket import MASK, MIB, SMALL_BUFFER, calm, opened
from tests.relay.origin import frame, until

if TYPE_CHECKING:
    from tests.gateway.conftest import Launch

CODES = range(1000, 5000)


def closing(code: int, *, mask: bytes = b"") -> bytes:
    return frame(struct.pack("!H", code) + b"why", 8, mask=mask)


def assert_same(got: bytes, wanted: bytes) -> None:
    """Fail unless they are the same. Megabytes are not shown."""
    is_same = got == wanted
    assert len(got) == len(wanted)
    assert is_same


# Close codes ----------------------------------------------------------------------------------------------------------


async def test_every_close_code_passes_unchanged_both_ways(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy)
    up, down = b"".join(closing(code, mask=MASK) for code in CODES), b"".join(map(closing, CODES))

    client.send(up)
    wire.send(down)

    assert_same(await wire.take(len(up)), up)
    assert_same(await client.take(len(down)), down)


@pytest.mark.parametrize("code", [1000, 1005, 1006, 1009, 1012, 1015, 2999, 3000, 3999, 4000, 4999])
async def test_each_side_may_begin_to_close_with_any_code(launch: Launch, code: int) -> None:
    for is_client_first in (True, False):
        proxy = await launch()
        client, wire = await opened(proxy)
        first, second = (client, wire) if is_client_first else (wire, client)

        first.send(closing(code, mask=MASK if first is client else b""))
        assert (await second.take_frame()).payload == struct.pack("!H", code) + b"why"
        second.send(closing(code, mask=MASK if second is client else b""))
        assert (await first.take_frame()).payload == struct.pack("!H", code) + b"why"
        wire.close()  # RFC 6455 section 7.1.1: the server closes the connection

        assert await client.ending() == "closed"
        assert await wire.ending() == "closed"


# Last words -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 70_000, 3 * MIB])
async def test_close_right_behind_data_loses_none_of_it(launch: Launch, size: int) -> None:
    for sender in ("client", "notebook"):
        proxy = await launch()
        client, wire = await opened(proxy)
        source, sink, mask = (client, wire, MASK) if sender == "client" else (wire, client, b"")
        stream = frame(os.urandom(size), mask=mask) + closing(1000, mask=mask)

        source.send(stream)
        source.close()

        assert_same(await sink.take_rest(), stream)


async def test_client_that_is_held_up_gets_all_that_a_notebook_said_before_it_left(launch: Launch) -> None:
    proxy = await launch()
    client, wire = await opened(proxy, receive_buffer=SMALL_BUFFER)
    stream = b"".join(frame(os.urandom(MIB)) for _ in range(16)) + closing(1011)

    wire.send(stream)
    wire.close()
    await calm(wire)
    client.widen()

    assert_same(await client.take_rest(), stream)


async def test_notebook_that_is_held_up_gets_all_that_a_client_said_before_it_left(launch: Launch) -> None:
    proxy = await launch(receive_buffer=SMALL_BUFFER)
    client, wire = await opened(proxy)
    stream = b"".join(frame(os.urandom(MIB), mask=MASK) for _ in range(16)) + closing(1001, mask=MASK)

    client.send(stream)
    client.close()
    await calm(client)
    wire.widen()

    assert_same(await wire.take_rest(), stream)


async def test_client_that_left_is_heard_to_the_end_though_the_notebook_spoke_to_it_in_between(launch: Launch) -> None:
    proxy = await launch(receive_buffer=SMALL_BUFFER)
    client, wire = await opened(proxy)
    (tunnel,) = proxy.websockets._tunnels
    stream = b""
    while not tunnel._connection.is_write_paused:
        sent, piece = tunnel._from_client.data_frames, frame(os.urandom(60_000), mask=MASK)
        client.send(piece)
        stream += piece
        await until(lambda sent=sent: tunnel._from_client.data_frames > sent)  # type: ignore[misc]
    client.send(frame(b"behind", mask=MASK), closing(1001, mask=MASK))  # waits in the proxy's system's buffer
    stream += frame(b"behind", mask=MASK) + closing(1001, mask=MASK)
    await client.closed()

    for number in range(3):  # the client's system answers with a reset: there is nobody any more
        wire.send(frame(b"beat", 9))
        await until(
            lambda number=number: tunnel._from_notebook.control_frames > number or not len(proxy.websockets)  # type: ignore[misc]
        )
    wire.widen()

    assert_same(await wire.take(len(stream)), stream)


async def test_client_that_is_still_sending_hears_why_the_notebook_closes(launch: Launch) -> None:
    proxy = await launch(receive_buffer=SMALL_BUFFER)
    client, wire = await opened(proxy)

    client.send(frame(bytes(32 * MIB), mask=MASK))
    await calm(client)
    wire.send(closing(1009))
    wire.close()  # with much unread: its system resets the connection behind the close frame

    assert (await client.take_frame()).payload == struct.pack("!H", 1009) + b"why"
    assert await client.ending() == "closed"
