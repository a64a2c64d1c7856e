"""Ask a notebook server whether it answers HTTP now.

One question is one fresh connection: nothing is pooled, so an answer is never an old connection's. Only the status
line is read; what is read at all is bounded, for a notebook server may be hostile.
Knows nothing of how the server was started.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeAlias

from proxy.naming import USER_HEADER

if TYPE_CHECKING:
    from proxy.workspace import Handle

Sleep: TypeAlias = Callable[[float], Awaitable[object]]

INTERVAL_SECONDS: Final = 0.04
"""Between two probes: a start is noticed at once, and a refused connection costs next to nothing."""
DEADLINE_SECONDS: Final = 1.0
"""For one probe, from connecting to the status line."""
OK: Final = 200
_ASKER: Final = "notebook-proxy"  # where a user must be named, it is the proxy itself that asks
_MAX_ANSWER_BYTES: Final = 64 * 1024
_POLITE_SECONDS: Final = 0.1
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")  # RFC 9112 section 4


async def probe(handle: Handle, target: str, *, deadline_seconds: float = DEADLINE_SECONDS) -> int | None:
    """Return the status of one `GET target`, or None when there is no HTTP answer within the deadline.

    Args:
        handle: where to ask; its headers are sent.
        target: the whole path, such as `/ws/a/api`.
        deadline_seconds: from connecting to the status line.
    """
    try:
        async with asyncio.timeout(deadline_seconds):
            reader, writer = await asyncio.open_connection(*handle.address, limit=_MAX_ANSWER_BYTES)
            try:
                writer.write(request_of(handle, target))
                line = await reader.readline()
                await _let_finish(reader)
            finally:
                await close(writer)
    except (OSError, ValueError):  # TimeoutError is an OSError; a line over the limit is a ValueError
        return None
    found = _STATUS_LINE.fullmatch(line)
    return int(found[1]) if found else None


async def until_answering(
    handle: Handle,
    target: str,
    *,
    interval_seconds: float = INTERVAL_SECONDS,
    deadline_seconds: float = DEADLINE_SECONDS,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Return when `GET target` answers 200; probe again and again until then. Cancelling ends it at once."""
    while await probe(handle, target, deadline_seconds=deadline_seconds) != OK:
        await sleep(interval_seconds)


def request_of(handle: Handle, target: str, *, accept: str = "*/*") -> bytes:
    """Return a `GET` with the handle's headers, after which the connection is closed."""
    host, port = handle.address
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"GET {target} HTTP/1.1\r\nHost: {authority}\r\nAccept: {accept}\r\nConnection: close\r\n"
    head += f"{USER_HEADER}: {_ASKER}\r\n"
    return head.encode("latin-1") + handle.header_lines + b"\r\n"


async def _let_finish(reader: asyncio.StreamReader) -> None:
    """Read on for a moment: a simple server whose answer is cut off writes a traceback into the notebook's log."""
    with suppress(TimeoutError, OSError, asyncio.IncompleteReadError):
        async with asyncio.timeout(_POLITE_SECONDS):
            await reader.readexactly(_MAX_ANSWER_BYTES)


async def close(writer: asyncio.StreamWriter) -> None:
    """Let go of the connection now, whatever the other side still sends."""
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()
