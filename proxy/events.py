"""Server-sent events (WHATWG HTML, section 9.2): what changes, told to a page as long as somebody looks at it.

A stream is bounded: it holds no queue, only what was said last, and says what is new once the client has taken that. It
speaks at least every `BEAT_SECONDS`, so that a page can tell silence from quiet; it touches nothing, wakes nothing, and
ends at a shutdown without being waited for.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from proxy import pages
from proxy.errors import ShuttingDown, TooManyStreams
from proxy.relay.downstream import RELAYED_CLOSE, cut_off

if TYPE_CHECKING:
    from proxy.in_flight import InFlight

logger = logging.getLogger(__name__)

BEAT_SECONDS: Final = 15.0
LIMIT: Final = 2_000
"""Streams at once; each costs a connection and about 20 kB."""
_HEADERS: Final = {
    **pages.HEADERS,
    "Content-Type": "text/event-stream; charset=utf-8",
    "X-Accel-Buffering": "no",  # nginx would hold it back
}


class Feed(Protocol):
    """Where one stream's news comes from."""

    gap: float
    """Seconds between two messages, at least: what happens in between is said together."""

    def look(self) -> str:
        """Return what there is to say now, in one line."""
        ...

    async def goes_on(self) -> bool:
        """Tell whether it may still be said; asked before each look."""
        ...

    async def changed(self) -> None:
        """Return when there may be something new since the last look. Cancelling is free."""


class Streams:
    """Every stream that is open.

    Args:
        in_flight: does not wait for them.
        beat_seconds: how long a stream may be silent.
        limit: how many there may be at once.
    """

    def __init__(self, in_flight: InFlight, *, beat_seconds: float = BEAT_SECONDS, limit: int = LIMIT) -> None:
        self._in_flight = in_flight
        self._beat = beat_seconds
        self._limit = limit
        self._count = 0
        self._end = asyncio.Event()

    def __len__(self) -> int:
        return self._count

    def close(self) -> None:
        """End all streams; there will be no more."""
        self._end.set()

    async def serve(self, request: web.BaseRequest, feed: Feed) -> web.StreamResponse:
        """Say what a feed has to say until the client goes away, or may not be told more, or the proxy ends.

        Raises:
            ShuttingDown: the proxy is ending.
            TooManyStreams: there are as many as there may be.
        """
        if request.method == "HEAD":
            return web.Response(headers=_HEADERS)
        if self._end.is_set():
            raise ShuttingDown
        if self._count >= self._limit:
            raise TooManyStreams
        self._count += 1
        self._in_flight.exempt()
        end = asyncio.create_task(self._end.wait())
        response = web.StreamResponse(headers=_HEADERS)
        response.force_close()  # an ended stream must not hold up the end of its connection
        try:
            await response.prepare(request)
            while not end.done() and await feed.goes_on():
                await response.write(f"data: {feed.look()}\n\n".encode())
                await self._wait(feed, end)
            await response.write_eof()
        except ConnectionError:
            raise
        except Exception:
            logger.exception("stream of events broke")
            cut_off(request)  # an answer in words would be read as part of it
            return RELAYED_CLOSE
        finally:
            self._count -= 1
            end.cancel()
        return response

    async def _wait(self, feed: Feed, end: asyncio.Task[bool]) -> None:
        """Return when the feed may have news, when it is time to speak anyway, or at the end."""
        if feed.gap:
            await asyncio.wait((end,), timeout=feed.gap)
        news = asyncio.create_task(feed.changed())
        try:
            await asyncio.wait((news, end), timeout=self._beat, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
            await asyncio.wait((news,))
        if not news.cancelled() and (error := news.exception()) is not None:
            raise error
