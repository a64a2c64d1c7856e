"""A server on loopback that answers each request with the next of a list of replies, byte by byte as told.

For the faults that a server which behaves cannot make: an answer cut in the middle of a line, a peer that falls
silent, a page where an object should be. Also the clock for those who wait between their requests.
"""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from proxy.backends.kubernetes.api import Api
from proxy.backends.kubernetes.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TLS = Path(__file__).parent / "tls"
HTML = b"<html><body><h1>Sign in</h1></body></html>"


class TimeIsOver(Exception):
    """Whoever sleeps past the end of a `HurriedClock`."""


class HurriedClock:
    """Sleeps take no time: they are written down, and the clock goes on by them, to its end if it has one."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.elapsed = 1000.0
        self.ends_at = math.inf

    def monotonic(self) -> float:
        return self.elapsed

    def now(self) -> datetime:
        return datetime(2024, 2, 29, 12, tzinfo=UTC) + timedelta(seconds=self.elapsed - 1000)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.elapsed += seconds
        await asyncio.sleep(0)
        if self.elapsed > self.ends_at:
            raise TimeIsOver


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    target: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def is_watch(self) -> bool:
        return self.query.get("watch") == "true"


@dataclass(frozen=True)
class Reply:
    """Bytes to send, and what comes after them."""

    sent: bytes
    then: Literal["keep", "close", "reset", "silence"] = "keep"


def reply(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Reply:
    """An answer with a length."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return Reply("\r\n".join([*lines, "", ""]).encode() + body)


def obj(body: dict[str, Any], status: int = 200) -> Reply:
    return reply(status, json.dumps(body).encode())


def status(code: int, reason: str, message: str = "", *causes: str, **headers: str) -> Reply:
    """A refusal, as the API server writes it."""
    return reply(code, json.dumps(status_body(code, reason, message, *causes)).encode(), **headers)


def status_body(code: int, reason: str, message: str = "", *causes: str) -> dict[str, Any]:
    details = {"causes": [{"reason": cause} for cause in causes]} if causes else {}
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "details": details,
        "code": code,
    }


def thing(name: str, version: int, uid: str = "", namespace: str = "team") -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata}


def listing(version: int, *items: dict[str, Any], rest: str = "") -> Reply:
    metadata = {"resourceVersion": str(version)} | ({"continue": rest} if rest else {})
    return obj({"kind": "PodList", "apiVersion": "v1", "metadata": metadata, "items": list(items)})


def line(kind: str, body: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": body}).encode() + b"\n"


def bookmark(version: int) -> bytes:
    return line("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": str(version)}})


def stream(*parts: bytes, then: Literal["end", "cut", "reset", "silence"] = "end") -> Reply:
    """A watch: each part is a chunk. `cut` closes without the last chunk."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    match then:
        case "end":
            return Reply(head + body + b"0\r\n\r\n")
        case "cut":
            return Reply(head + body, "close")
        case "reset":
            return Reply(head + body, "reset")
        case "silence":
            return Reply(head + body, "silence")


SILENCE = Reply(b"", "silence")
BROKEN = Reply(b"", "close")


@dataclass
class Scripted:
    """The server. `script` is used up in order, whatever is asked; after it everything is answered `otherwise`."""

    script: list[Reply] = field(default_factory=list)
    otherwise: Reply | Callable[[Seen], Reply] = SILENCE
    tls: bool = False
    seen: list[Seen] = field(default_factory=list)
    port: int = 0

    async def __aenter__(self) -> Self:
        context = None
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(TLS / "api-server.crt", TLS / "api-server.key")
        self._writers: set[asyncio.StreamWriter] = set()
        self._arrived = asyncio.Condition()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()

    @property
    def watches(self) -> list[Seen]:
        return [seen for seen in self.seen if seen.is_watch]

    async def has_seen(self, count: int) -> None:
        """Return once that many requests have come."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.seen) >= count)

    async def is_idle(self) -> None:
        """Return once no connection is open."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: not self._writers)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while (request := await _read(reader)) is not None:
                answer = self.script.pop(0) if self.script else self.otherwise
                found = answer if isinstance(answer, Reply) else answer(request)
                async with self._arrived:
                    self.seen.append(request)
                    self._arrived.notify_all()
                writer.write(found.sent)
                await writer.drain()
                if found.then == "silence":
                    await reader.read()
                if found.then == "reset":
                    writer.transport.abort()
                if found.then != "keep":
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self._writers.discard(writer)
            async with self._arrived:
                self._arrived.notify_all()


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, target, headers, body)


def write_kubeconfig(path: Path, server: str, *, user: dict[str, Any] | None = None, ca: Path | None = None) -> Path:
    """Write a kubeconfig (JSON is YAML) with one context, `here`."""
    cluster = {"server": server} | ({"certificate-authority": str(ca)} if ca else {})
    config = {
        "current-context": "here",
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"token": "secret-token"} if user is None else user}],
    }
    path.write_text(json.dumps(config))
    return path


async def api_of(port: int, folder: Path, clock: HurriedClock, random: Callable[[], float] = lambda: 0.5) -> Api:
    """An `Api` without TLS; close it."""
    config = write_kubeconfig(folder / "kubeconfig", f"http://127.0.0.1:{port}")
    return Api(await Connection.open(config, None, clock), clock, random)


def versions(found: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    return sorted((each["metadata"]["name"], each["metadata"]["resourceVersion"]) for each in found)
