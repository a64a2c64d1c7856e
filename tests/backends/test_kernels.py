"""What is understood of what a notebook server says of its kernels, however it says it."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from yarl import URL

from proxy.backends.kernels import MAX_BODY_BYTES, MAX_HEAD_BYTES, Work, ask
from proxy.workspace import Handle, Key

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

KEY = Key("demo", "default")
EARLY, LATE = "2024-02-29T11:00:00.123456Z", "2024-02-29T12:00:00Z"
NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)


def answer(body: bytes, *, status: int = 200, kind: str = "application/json; charset=UTF-8") -> bytes:
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def listed(*items: Any) -> bytes:
    return answer(json.dumps(items).encode())


def kernel(state: str = "idle", last_activity: Any = EARLY, **more: Any) -> dict[str, Any]:
    return {
        "id": "k",
        "name": "python3",
        "connections": 0,
        "execution_state": state,
        "last_activity": last_activity,
    } | more


NOT_FOUND = answer(b'{"message": "Not Found"}', status=404)
NONE = listed()


class Server:
    """Answers each path as it is told, and remembers what it was asked."""

    def __init__(self, answers: Mapping[str, bytes], *, closes: bool = True) -> None:
        self.answers = answers
        self.closes = closes
        self.asked: list[bytes] = []
        self.sent = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            self.asked.append(request)
            target = request.split(b" ")[1].decode()
            writer.write(self.answers[target.rpartition("/")[2]])
            await writer.drain()
            if not self.closes:
                await reader.read()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def served(server: Server) -> AsyncIterator[Handle]:
    listener = await asyncio.start_server(server, "127.0.0.1", 0)
    try:
        yield Handle(
            URL(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/ws/demo/"), {"Authorization": "token t"}
        )
    finally:
        listener.close()
        await listener.wait_closed()


async def asked(kernels: bytes, terminals: bytes = NOT_FOUND, *, closes: bool = True) -> Work | None:
    async with served(Server({"kernels": kernels, "terminals": terminals}, closes=closes)) as handle:
        return await ask(KEY, handle, deadline_seconds=5.0)


async def test_both_are_asked_below_the_workspaces_path_with_the_handles_headers() -> None:
    server = Server({"kernels": NONE, "terminals": NONE})

    async with served(server) as handle:
        assert await ask(KEY, handle) == Work()

    assert sorted(request.split(b"\r\n")[0] for request in server.asked) == [
        b"GET /ws/demo/api/kernels HTTP/1.1",
        b"GET /ws/demo/api/terminals HTTP/1.1",
    ]
    assert all(b"\r\nAuthorization: token t\r\n" in request for request in server.asked)


@pytest.mark.parametrize("closes", [True, False])
async def test_busy_kernels_are_counted_and_the_newest_activity_is_told(closes: bool) -> None:
    kernels = listed(kernel("busy"), kernel("idle", LATE), kernel("busy"), kernel("starting"))

    assert await asked(kernels, listed({"name": "1", "last_activity": EARLY}), closes=closes) == Work(2, NOON, "kernel")


async def test_terminal_counts_by_its_last_activity() -> None:
    assert await asked(listed(kernel()), listed({"name": "1", "last_activity": LATE})) == Work(0, NOON, "terminal")


async def test_chunked_answer_is_understood() -> None:
    chunks = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"
    )

    assert await asked(chunks, closes=False) == Work()


async def test_answer_that_ends_with_the_connection_is_understood() -> None:
    assert await asked(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[]") == Work()


@pytest.mark.parametrize(
    "no_such_api",
    [
        NOT_FOUND,
        answer(b"", status=302),
        answer(b"", status=405),
        answer(b"<html>", kind="text/html"),  # a server with one page for every path
        answer(b"[]", kind="text/plain"),
    ],
)
async def test_server_without_such_an_api_has_no_kernels(no_such_api: bytes) -> None:
    assert await asked(no_such_api) == Work()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"\x00" * 100,
        b"HTTP/1.1 200 OK\r\n",
        answer(b"", status=500),
        answer(b"", status=401),
        answer(b"", status=403),
        answer(b"", status=429),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + NONE,
        answer(b"{}"),
        answer(b"null"),
        answer(b"[" * 100_000),
        answer(b"[]")[:-1],
        answer(b'"' + b"9" * 5000 + b'"'),
        answer(b"9" * 5000),
        answer(b"\xff\xfe"),
        listed(1),
        listed(None),
        listed({}),
        listed(kernel(last_activity="yesterday")),
        listed(kernel(last_activity="2024-02-29T12:00:00")),  # of which zone?
        listed(kernel(last_activity=5)),
        listed(kernel(last_activity=None)),
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX: " + b"x" * 2 * MAX_HEAD_BYTES,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES,
        answer(b'["' + b"x" * (MAX_BODY_BYTES + MAX_HEAD_BYTES) + b'"]'),
    ],
    ids=range(26),
)
async def test_what_is_no_proper_answer_is_no_answer(nonsense: bytes) -> None:
    assert await asked(nonsense) is None
    assert await asked(NONE, nonsense) is None


async def test_kernel_without_a_state_is_no_answer() -> None:
    assert await asked(listed({"execution_state": None, "last_activity": EARLY})) is None


async def test_endless_body_is_not_read_to_its_end() -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n["
    sent = 0

    async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        try:
            writer.write(begun)
            while True:
                writer.write(b" " * 65536)
                await writer.drain()
                sent += 65536
        except ConnectionError:
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(pour, "127.0.0.1", 0)
    async with listener:
        handle = Handle(URL(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/ws/demo/"))

        assert await ask(KEY, handle, deadline_seconds=60) is None

    assert sent < 40 * MAX_BODY_BYTES  # what two connections' buffers hold, at most


async def test_server_that_never_ends_its_answer_is_given_up() -> None:
    assert await asked_shortly(NONE[:-1]) is None


async def test_server_that_accepts_and_says_nothing_is_given_up() -> None:
    assert await asked_shortly(b"") is None


async def asked_shortly(kernels: bytes) -> Work | None:
    async with served(Server({"kernels": kernels, "terminals": NONE}, closes=False)) as handle:
        return await ask(KEY, handle, deadline_seconds=0.05)


async def test_nobody_listening_is_no_answer() -> None:
    async with served(Server({})) as handle:
        pass

    assert await ask(KEY, handle) is None


async def test_cancelled_question_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    server = Server({"kernels": b"", "terminals": b""}, closes=False)
    async with served(server) as handle:
        task = asyncio.create_task(ask(KEY, handle))
        while len(server.asked) < 2:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    while asyncio.all_tasks() - before:  # the server's own see that they are left
        await asyncio.sleep(0)
