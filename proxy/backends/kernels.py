"""Ask a notebook server what its kernels and terminals do: `api/kernels` and `api/terminals`, once each.

Goes straight to the server with the handle's headers: it passes no relay, and so counts as no activity. The server may
be hostile: what is read is bounded in bytes and time, redirects are not followed, and an answer that is not exactly
what Jupyter gives is no answer. Knows nothing of what follows from it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import httptools

from proxy.backends.probe import close, request_of
from proxy.target import PREFIX

if TYPE_CHECKING:
    from proxy.workspace import Handle, Key

DEADLINE_SECONDS: Final = 10.0
"""For both answers. A server whose machine is busy answers late; it is not idle for that."""
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024
"""A kernel takes about 200 bytes: thousands fit."""
_CHUNK: Final = 64 * 1024
_OK: Final = 200
# What says for good that there is no such API: another server than Jupyter, or one without terminals. A redirect is
# some server's way to its login page; Jupyter has the token and redirects no API call. What is not here (401, 403, 429,
# 5xx) says only that there is no telling now.
_NO_SUCH_API: Final = frozenset({301, 302, 303, 307, 308, 404, 405, 410, 501})


@dataclass(frozen=True, slots=True)
class Work:
    """What the kernels and terminals of one server do.

    Args:
        busy: how many kernels are computing.
        last_activity: the newest activity of any kernel or terminal, by the server's clock; None where there are none.
        what: whose that was: `kernel` or `terminal`; empty where there are none.
    """

    busy: int = 0
    last_activity: datetime | None = None
    what: str = ""


async def ask(key: Key, handle: Handle, *, deadline_seconds: float = DEADLINE_SECONDS) -> Work | None:
    """Return what a workspace's server says of its kernels and terminals; None where it does not say.

    Args:
        key: its id is in the path.
        handle: where to ask; its headers are sent.
        deadline_seconds: for all of it.
    """
    base = f"{PREFIX}{key.workspace_id}/api/"
    kernels, terminals = await asyncio.gather(
        _list(handle, base + "kernels", deadline_seconds), _list(handle, base + "terminals", deadline_seconds)
    )
    if kernels is None or terminals is None:
        return None
    try:
        busy = sum(_text(kernel, "execution_state") == "busy" for kernel in kernels)
        active = [(_moment(kernel), "kernel") for kernel in kernels]
        active += [(_moment(terminal), "terminal") for terminal in terminals]
    except ValueError:
        return None
    at, what = max(active, default=(None, ""))
    return Work(busy, at, what)


async def _list(handle: Handle, target: str, deadline_seconds: float) -> list[Any] | None:
    """Return the list that the server has there, empty where it has no such thing; None where it does not say."""
    try:
        async with asyncio.timeout(deadline_seconds):
            answer = await _get(handle, target)
    except (OSError, httptools.HttpParserError):  # TimeoutError is an OSError
        return None
    if answer.status in _NO_SUCH_API or (answer.status == _OK and not answer.is_json):  # one page for every path
        return []
    if answer.status != _OK:
        return None
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, list) else None


async def _get(handle: Handle, target: str) -> _Answer:
    """Send one request over a connection of its own, and read the answer to its end."""
    reader, writer = await asyncio.open_connection(*handle.address)
    try:
        writer.write(request_of(handle, target, accept="application/json"))
        answer = _Answer()
        while not answer.is_complete:
            data = await reader.read(_CHUNK)
            if not data:
                break  # who says no length ends so; what was cut off is no JSON
            answer.feed(data)
    finally:
        await close(writer)
    if not answer.has_head:
        raise ConnectionError("no answer")
    return answer


class _Answer:
    """One response, as far as it has come. Raises `httptools.HttpParserError` for what is not HTTP, or too long."""

    def __init__(self) -> None:
        self.has_head = False
        self.is_complete = False
        self.is_json = False
        self.status = 0
        self.body = bytearray()
        self._fed = 0
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take what has come; what follows a complete answer is not read."""
        self._fed += len(data)
        with suppress(httptools.HttpParserUpgrade):  # nobody asked for one: its status says that it is no answer
            self._parser.feed_data(data)
        if self._fed > MAX_HEAD_BYTES + MAX_BODY_BYTES or (not self.has_head and self._fed > MAX_HEAD_BYTES):
            raise httptools.HttpParserError("too long")

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note whether it says that it is JSON."""
        if name.lower() == b"content-type" and not self.has_head:
            self.is_json = value.partition(b";")[0].strip().lower() == b"application/json"

    def on_headers_complete(self) -> None:
        """Note the status; an interim response is no answer, and ends it."""
        if not self.has_head:
            self.has_head, self.status = True, self._parser.get_status_code()

    def on_body(self, data: bytes) -> None:
        """Keep the body, within bounds; of a second response nothing."""
        if not self.is_complete:
            self.body += data

    def on_message_complete(self) -> None:
        """Read no further."""
        self.is_complete = True


def _text(item: Any, name: str) -> str:
    found = item.get(name) if isinstance(item, dict) else None
    if not isinstance(found, str):
        raise ValueError(name)  # noqa: TRY004 - what is read is wrong, not how
    return found


def _moment(item: Any) -> datetime:
    moment = datetime.fromisoformat(_text(item, "last_activity"))
    if moment.tzinfo is None:
        raise ValueError("no zone")
    return moment
