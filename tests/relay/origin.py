"""Both ends of the wire in a test's hand: a notebook server that says exactly what it is told to, and a raw client.

Nothing here knows aiohttp or the relay's own parsers: bytes are sent as written and kept as they came.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import uvloop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

PATIENCE: Final = 15.0  # seconds until a condition that does not come true fails a test, on a busy machine too
PLAIN: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
LOOPS: Final[dict[str, Callable[[], Any]]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BODILESS: Final = frozenset({204, 304})


async def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


@dataclass(frozen=True)
class Message:
    """A request or a response, as it came."""

    head: bytes
    raw_body: bytes = b""
    body: bytes = b""

    @property
    def start(self) -> bytes:
        return self.head.partition(b"\r\n")[0]

    @property
    def target(self) -> bytes:
        return self.start.split(b" ")[1]

    @property
    def status(self) -> int:
        return int(self.start.split(b" ")[1])

    @property
    def lines(self) -> list[bytes]:
        return self.head.split(b"\r\n")[1:-2]

    def values(self, name: bytes) -> list[bytes]:
        found = (line.partition(b":") for line in self.lines)
        return [value.strip() for key, _, value in found if key.lower() == name.lower()]


@dataclass(frozen=True)
class Frame:
    """A websocket frame, unmasked, and the bytes that it came in."""

    first: int
    payload: bytes
    raw: bytes


class Wire:
    """One end of a TCP connection. `taken` holds every byte that was read so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.taken = bytearray()

    def send(self, *pieces: bytes) -> None:
        self.writer.write(b"".join(pieces))

    async def push(self, *pieces: bytes) -> None:
        """Send, and wait until it is out of this process (or nearly so)."""
        self.send(*pieces)
        await self.writer.drain()

    @property
    def unsent(self) -> int:
        return self.writer.transport.get_write_buffer_size()

    async def take(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return self._kept(await self.reader.readexactly(size))

    async def take_until(self, mark: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return self._kept(await self.reader.readuntil(mark))

    async def take_rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            return self._kept(await self.reader.read(-1))

    async def take_request(self, patience: float | None = PATIENCE) -> Message:
        async with asyncio.timeout(patience):
            head = Message(self._kept(await self.reader.readuntil(b"\r\n\r\n")))
        return await self._with_body(head)

    async def take_response(self, method: str = "GET") -> Message:
        head = Message(await self.take_until(b"\r\n\r\n"))
        if method == "HEAD" or head.status < 200 or head.status in _BODILESS:
            return head
        if not head.values(b"content-length") and not head.values(b"transfer-encoding"):
            body = await self.take_rest()
            return Message(head.head, body, body)
        return await self._with_body(head)

    async def take_frame(self) -> Frame:
        raw = await self.take(2)
        size = raw[1] & 0x7F
        if size >= 126:
            raw += await self.take(2 if size == 126 else 8)
            size = int.from_bytes(raw[2:], "big")
        mask = await self.take(4) if raw[1] & 0x80 else b""
        payload = await self.take(size)
        return Frame(raw[0], masked(payload, mask), raw + mask + payload)

    async def chunk_sizes(self) -> AsyncIterator[int]:
        """The sizes of a chunked body's chunks, as they come."""
        while size := int(await self.take_until(b"\r\n"), 16):
            await self.take(size + 2)
            yield size
        await self.take(2)

    def widen(self) -> None:
        """Make an end of the slowness of a small receive buffer."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    async def ending(self) -> str:
        """Wait for the other side to end the connection, and tell how: "closed" or "reset"."""
        try:
            await self.take_rest()
        except ConnectionError:
            return "reset"
        return "closed"

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        if not self.writer.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def closed(self) -> None:
        """Close this end, and wait until that is done."""
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()

    def _kept(self, data: bytes) -> bytes:
        self.taken += data
        return data

    async def _with_body(self, head: Message) -> Message:
        if sizes := head.values(b"content-length"):
            body = await self.take(int(sizes[0]))
            return Message(head.head, body, body)
        if not head.values(b"transfer-encoding"):
            return head
        raw = body = b""
        while True:
            line = await self.take_until(b"\r\n")
            size = int(line.split(b";")[0], 16)
            piece = await self.take(size + 2)
            raw, body = raw + line + piece, body + piece[:-2]
            if not size:
                return Message(head.head, raw, body)


async def connect(port: int, *, receive_buffer: int | None = None) -> Wire:
    """Return a client's connection. A small receive buffer makes a slow reader felt soon."""
    sock = socket.socket()
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return Wire(*await asyncio.open_connection(sock=sock))


Script: TypeAlias = "Callable[[Wire], Awaitable[None]]"


class Origin:
    """A notebook server of raw bytes. Without a script, the test itself takes each connection and plays the server.

    Attributes:
        connections: all that were ever accepted.
    """

    def __init__(self, script: Script | None = None, *, receive_buffer: int | None = None) -> None:
        self.script = script
        self.connections: list[Wire] = []
        self.port = 0
        self._receive_buffer = receive_buffer
        self._untaken: asyncio.Queue[Wire] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.refuse()
        for task in self._tasks:
            task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        for wire in self.connections:
            await wire.closed()
        assert [error for error in ended if isinstance(error, Exception)] == []

    async def listen(self) -> None:
        """Listen, after `refuse` on the same port again."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        sock.bind(("127.0.0.1", self.port))
        self.port = sock.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=sock)

    def refuse(self) -> None:
        """Accept no more connections; those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def abandoned(self) -> None:
        """Wait until every connection has been ended by the other side (or by the test)."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)
            assert all(task.done() for task in self._tasks)
        elif self.script is None:
            for wire in self.connections:
                if not wire.writer.is_closing():
                    await wire.ending()

    async def accepted(self) -> Wire:
        """Return the next connection that no test has taken yet."""
        async with asyncio.timeout(PATIENCE):
            return await self._untaken.get()

    def give_back(self, wire: Wire) -> None:
        """Let a connection be taken once more."""
        self._untaken.put_nowait(wire)

    async def asked(self) -> tuple[Wire, Message]:
        """Return the next connection and the first request on it."""
        wire = await self.accepted()
        return wire, await wire.take_request()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        self.connections.append(wire)
        if self.script is None:
            self._untaken.put_nowait(wire)
        else:
            self._tasks.add(asyncio.create_task(self._play(self.script, wire)))

    async def _play(self, script: Script, wire: Wire) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(wire)
        wire.close()


class Answers:
    """A script: gives each request the same answer, or what `answer` returns for it; keeps the requests."""

    def __init__(self, answer: bytes | Callable[[Message], bytes] = PLAIN) -> None:
        self._answer = answer
        self.requests: list[Message] = []

    async def __call__(self, wire: Wire) -> None:
        while True:
            request = await wire.take_request(patience=None)
            self.requests.append(request)
            wire.send(self._answer if isinstance(self._answer, bytes) else self._answer(request))


def ask(
    target: str = "/ws/demo/api",
    *lines: str,
    method: str = "GET",
    body: bytes | None = None,
    host: str = "localhost",
    version: str = "1.1",
) -> bytes:
    """Return a request's bytes, with a Content-Length where there is a body."""
    length = () if body is None else (f"Content-Length: {len(body)}",)
    head = "\r\n".join([f"{method} {target} HTTP/{version}", f"Host: {host}", *lines, *length, "", ""])
    return head.encode("latin-1") + (body or b"")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# Websockets -----------------------------------------------------------------------------------------------------------

KEY_LINE: Final = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="


def ask_upgrade(target: str = "/ws/demo/api/kernels/1/channels", *lines: str, host: str = "localhost") -> bytes:
    handshake = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", KEY_LINE)
    return ask(target, *handshake, *lines, host=host)


def switch(request: Message, *lines: str) -> bytes:
    """Return the right answer to a websocket handshake."""
    (key,) = request.values(b"sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
    head = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    return "\r\n".join([*head, f"Sec-WebSocket-Accept: {accept}", *lines, "", ""]).encode()


def masked(payload: bytes, mask: bytes) -> bytes:
    if not mask:
        return payload
    stream = mask * (len(payload) // 4 + 1)
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream[: len(payload)], "big")).to_bytes(
        len(payload), "big"
    )


def frame(payload: bytes, opcode: int = 0x2, *, fin: bool = True, mask: bytes = b"") -> bytes:
    """Return one websocket frame."""
    size, flag = len(payload), 0x80 if mask else 0
    if size < 126:
        length = bytes([flag | size])
    elif size < 65_536:
        length = bytes([flag | 126]) + size.to_bytes(2, "big")
    else:
        length = bytes([flag | 127]) + size.to_bytes(8, "big")
    return bytes([(0x80 if fin else 0) | opcode]) + length + mask + masked(payload, mask)


async def echo(wire: Wire) -> None:
    """A script: accept a websocket, and send each frame back unmasked, the close frame too."""
    wire.send(switch(await wire.take_request()))
    while True:
        got = await wire.take_frame()
        await wire.push(frame(got.payload, got.first & 0x0F, fin=bool(got.first & 0x80)))
        if got.first & 0x0F == 0x8:
            return
