"""Users, and what they do: whole requests, those that are broken off, websockets in every way to end; all checked.

Workspaces are of three kinds: the steady ones are always used, those that come and go are left until they are reaped,
and visited again, those that crash are ended in the middle of their users' requests.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import aiohttp

from tests.soak.bodies import body_of, digest_of
from tests.soak.verdict import EXCUSED, RIGHT, WRONG, Answer, Tally, judge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

_RESET: Final = struct.pack("ii", 1, 0)
_THINK: Final = 0.03  # seconds between a user's requests, on average
_SMALL, _LARGE = 2_000, 3_000_000
_TIMEOUT: Final = aiohttp.ClientTimeout(total=90)
_CUT: Final = (aiohttp.ClientError, ConnectionError, TimeoutError, asyncio.IncompleteReadError)
_BROKEN_OFF: Final = "broken off"
STEADY: Final = 2
COMING: Final = 4
CRASHING: Final = 2
_PER_WORKSPACE: Final = 3  # users
_NAMES: Final = 60  # of the workspaces that come and go: what is kept for each for ever is seen to grow


@dataclass
class User:
    """One who sends one request after the other, on kept connections or on new ones."""

    port: int
    rng: random.Random
    tally: Tally
    name: str
    may_crash: bool = False
    _count: int = field(default=0, init=False)

    # What users do ----------------------------------------------------------------------------------------------------

    async def act(self, workspace: str) -> None:
        """Do one thing, chosen at random; wait a little."""
        actions: list[Callable[[str], Coroutine[None, None, None]]] = [
            self.get_small, self.get_large, self.get_chunked, self.post, self.post_chunked, self.break_off_download,
            self.break_off_upload, self.talk,
        ]  # fmt: skip
        (action,) = self.rng.choices(actions, [50, 6, 8, 8, 5, 5, 4, 8])
        await action(workspace)
        await asyncio.sleep(self.rng.expovariate(1 / _THINK))

    async def get_small(self, workspace: str) -> None:
        """A few small requests on one connection."""
        async with self._session() as session:
            for _ in range(self.rng.randint(1, 5)):
                await self._get(session, workspace, "small GET", self.rng.randint(0, _SMALL))

    async def get_large(self, workspace: str) -> None:
        """A large one, with its length."""
        async with self._session() as session:
            await self._get(session, workspace, "large GET", self.rng.randint(_SMALL, _LARGE))

    async def get_chunked(self, workspace: str) -> None:
        """One without a length."""
        async with self._session() as session:
            await self._get(session, workspace, "chunked GET", self.rng.randint(0, _LARGE // 4), "&chunked=1")

    async def get_half(self, workspace: str) -> None:
        """One that the notebook server does not live to the end of: nothing of it may look whole."""
        size = self.rng.randint(100_000, _LARGE)
        chunked = self.rng.choice(["", "&chunked=1"])
        async with self._session() as session:
            query = f"&until={self.rng.randint(0, size - 1)}{chunked}"
            await self._get(session, workspace, "GET of a body that is cut", size, query)

    async def post(self, workspace: str) -> None:
        """An upload with its length."""
        await self._post(workspace, "POST", self.rng.choice([0, 1, 300, 70_000, 1_000_000]), is_chunked=False)

    async def post_chunked(self, workspace: str) -> None:
        """An upload in chunks."""
        await self._post(workspace, "chunked POST", self.rng.randint(0, _LARGE // 4), is_chunked=True)

    async def break_off_download(self, workspace: str) -> None:
        """Ask for much, read some of it, and go."""
        size = self.rng.randint(100_000, _LARGE)
        target = f"/ws/{workspace}/body?name={self._next()}&size={size}"
        head = f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"
        await self._break_off("GET", head.encode(), read=self.rng.randint(0, size))

    async def break_off_upload(self, workspace: str) -> None:
        """Send half of what was announced, and go."""
        size = self.rng.randint(1000, _LARGE // 4)
        head = f"POST /ws/{workspace}/sink HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n"
        await self._break_off("POST", head.encode() + bytes(self.rng.randint(0, size - 1)), read=0)

    async def talk(self, workspace: str) -> None:
        """Open a websocket, exchange messages, and end it in one of the ways in which websockets end."""
        ends = [self._close, self._be_closed, self._see_it_vanish, self._vanish]
        (end,) = self.rng.choices(ends, [5, 2, 1, 2])
        what = f"websocket: {end.__name__.strip('_').replace('_', ' ')}"
        compress = self.rng.choice([0, 0, 15])
        async with self._session() as session:
            try:
                url = f"/ws/{workspace}/echo"
                async with session.ws_connect(url, compress=compress, max_msg_size=0, timeout=_WS_TIMEOUT) as websocket:
                    for _ in range(self.rng.randint(0, 10)):
                        await self._exchange(websocket)
                    await end(websocket)
            except aiohttp.WSServerHandshakeError as error:
                retry = error.headers.get("Retry-After", "") if error.headers is not None else ""
                answer = Answer(error.status, is_whole=True, retry_after=retry, trouble=error.message)
                self.tally.note(what, *judge(answer, workspace, b"", may_crash=self.may_crash))
            except (*_CUT, _Amiss) as error:
                self.tally.note(what, EXCUSED if self.may_crash else WRONG, f"{type(error).__name__}: {error}")
            else:
                self.tally.note(what, RIGHT)

    # How they do it ---------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[aiohttp.ClientSession]:
        connector = aiohttp.TCPConnector(force_close=self.rng.random() < 0.2)
        base = f"http://localhost:{self.port}"
        async with aiohttp.ClientSession(
            base, connector=connector, timeout=_TIMEOUT, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            yield session

    def _next(self) -> str:
        self._count += 1
        return f"{self.name}-{self._count}"

    async def _get(self, session: aiohttp.ClientSession, workspace: str, what: str, size: int, query: str = "") -> None:
        name = self._next()
        answer = await _ask(session, "GET", f"/ws/{workspace}/body?name={name}&size={size}{query}")
        self._note(what, answer, workspace, body_of(workspace, name, size))

    async def _post(self, workspace: str, what: str, size: int, *, is_chunked: bool) -> None:
        body = body_of(workspace, self._next(), size)
        wanted = json.dumps({"sha256": digest_of(body), "size": size}).encode()
        async with self._session() as session:
            answer = await _ask(session, "POST", f"/ws/{workspace}/sink", _pieces(body) if is_chunked else body)
        self._note(what, answer, workspace, wanted)

    def _note(self, what: str, answer: Answer, workspace: str, wanted: bytes) -> None:
        self.tally.note(what, *judge(answer, workspace, wanted, may_crash=self.may_crash))

    async def _break_off(self, what: str, sent: bytes, *, read: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        with suppress(*_CUT):
            writer.write(sent)
            async with asyncio.timeout(30):
                while read > 0 and (data := await reader.read(65_536)):
                    read -= len(data)
        _leave(writer.transport, is_reset=self.rng.random() < 0.5)
        self.tally.note(f"{what} {_BROKEN_OFF}", RIGHT)

    async def _exchange(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        body = body_of("", self._next(), self.rng.choice([0, 1, 125, 126, 300, 300, 300, 70_000, 700_000]))
        is_text = self.rng.random() < 0.5
        sent: str | bytes = body.hex() if is_text else body
        await (websocket.send_str(body.hex()) if is_text else websocket.send_bytes(body))
        if self.rng.random() < 0.2:
            await websocket.ping(b"still there?")
        got = await websocket.receive()
        if got.data != sent:
            raise _Amiss(f"{got.type!r} came for a message of {len(sent)}")
        if self.rng.random() < 0.1:
            await asyncio.sleep(self.rng.random())

    async def _close(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        code = self.rng.choice([1000, 1001, 3000, 4999])
        await websocket.close(code=code)
        if websocket.close_code != code:
            raise _Amiss(f"the answer to close code {code} is {websocket.close_code}")

    async def _be_closed(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        code = self.rng.choice([1000, 1011, 3999, 4000])
        await websocket.send_str(f"close {code}")
        got = await websocket.receive()
        if (got.type, got.data, got.extra) != (aiohttp.WSMsgType.CLOSE, code, "as asked"):
            raise _Amiss(f"close code {code} came as {got!r}")

    async def _see_it_vanish(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        await websocket.send_str("vanish")
        got = await websocket.receive()
        if got.type not in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}:
            raise _Amiss(f"a reset connection came as {got!r}")

    async def _vanish(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        if websocket._writer.transport is not None:
            _leave(websocket._writer.transport, is_reset=True)


_WS_TIMEOUT: Final = aiohttp.ClientWSTimeout(ws_receive=90, ws_close=30)


class _Amiss(Exception):
    """A websocket did not say what it should."""


async def _ask(
    session: aiohttp.ClientSession, method: str, target: str, body: bytes | AsyncIterator[bytes] | None = None
) -> Answer:
    answer = Answer()
    try:
        async with session.request(method, target, data=body) as response:
            answer.status = response.status
            answer.workspace = response.headers.get("X-Workspace", "")
            answer.retry_after = response.headers.get("Retry-After", "")
            async for piece in response.content.iter_any():
                answer.body += piece
            answer.is_whole = True
    except _CUT as error:
        answer.trouble = f"{type(error).__name__}: {error}"
    return answer


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 50_000):
        yield body[start : start + 50_000]


def _leave(transport: asyncio.WriteTransport, *, is_reset: bool) -> None:
    sock = transport.get_extra_info("socket")
    if is_reset and sock is not None and not transport.is_closing():
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


class Load:
    """All users together.

    Args:
        port: the proxy's.
        seed: what they do follows from it; when, does not.
        idle_ttl: after how many seconds a workspace is reaped.
    """

    def __init__(self, port: int, seed: int, idle_ttl: float) -> None:
        self.tally = Tally()
        self._port = port
        self._seed = seed
        self._idle_ttl = idle_ttl
        self._round = 0

    async def run(self, seconds: float) -> None:
        """Let users be active for so long; return when the last of them is done."""
        self._round += 1
        deadline = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(STEADY * _PER_WORKSPACE):
                user = self._user(f"steady-{number}")
                group.create_task(self._stay(user, f"steady-{number % STEADY}", deadline))
            for number in range(COMING):
                group.create_task(self._come_and_go(number, deadline))
            for number in range(CRASHING):
                group.create_task(self._crash(self._user(f"crasher-{number}"), f"crashing-{number}", deadline))
                for one in range(_PER_WORKSPACE - 1):
                    user = self._user(f"crashed-{number}-{one}", may_crash=True)
                    group.create_task(self._stay(user, f"crashing-{number}", deadline))

    def _user(self, name: str, *, may_crash: bool = False) -> User:
        rng = random.Random(f"{self._seed}/{self._round}/{name}")
        return User(self._port, rng, self.tally, f"{self._round}-{name}", may_crash)

    async def _stay(self, user: User, workspace: str, deadline: float) -> None:
        while asyncio.get_running_loop().time() < deadline:
            await user.act(workspace)

    async def _come_and_go(self, number: int, deadline: float) -> None:
        """Visit a workspace, leave it until it is nearly reaped, or just being so, or gone."""
        now = asyncio.get_running_loop().time
        users = [self._user(f"coming-{number}-{one}") for one in range(_PER_WORKSPACE)]
        rng = users[0].rng
        while now() < deadline:
            workspace = f"coming-{number}-{rng.randrange(_NAMES // COMING)}"
            for _ in range(rng.randint(1, 3)):
                leaves_at = min(deadline, now() + rng.uniform(0.1, 2))
                async with asyncio.TaskGroup() as group:
                    for user in users:
                        group.create_task(self._stay(user, workspace, leaves_at))
                await asyncio.sleep(min(max(deadline - now(), 0), self._idle_ttl * rng.uniform(0.8, 1.5)))

    async def _crash(self, user: User, workspace: str, deadline: float) -> None:
        """End a notebook server again and again, half way through an answer or before it."""
        user.may_crash = True
        while asyncio.get_running_loop().time() < deadline:
            await user.get_small(workspace)
            await asyncio.sleep(user.rng.uniform(0.5, 3))
            if user.rng.random() < 0.6:
                await user.get_half(workspace)
            else:
                async with user._session() as session:
                    answer = await _ask(session, "GET", f"/ws/{workspace}/crash")
                user._note("GET of a crash", answer, workspace, b"")
