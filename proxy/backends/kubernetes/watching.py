"""Follow a collection of the Kubernetes API: one watch → list, then watch → for ever.

Three generators, each in the next. A stream that made progress goes on from its last version; anything else begins anew
with a list. Only a watch follows its list at once: before any other request is a pause, and pauses grow until there is
progress. Keeps no objects.
"""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.backends.kubernetes.api_errors import ApiError, ApiFailure, StreamCut

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from proxy.backends.kubernetes.api import Api
    from proxy.backends.kubernetes.wire import Listing, WatchEvent
    from proxy.clock import Clock

SHORTEST_WATCH: Final = 240  # seconds; the API server ends a watch after this and up to a minute more,
LONGEST_WATCH: Final = 300  # by chance, so that not all watches end at once
GRACE: Final = 30.0  # seconds more, after which the API server is taken for silent
PAUSE: Final = 0.25  # seconds; after progress
FIRST_PAUSE: Final = 1.0  # seconds; without progress it doubles
LONGEST_PAUSE: Final = 10.0
LONGEST_ASKED: Final = 60.0  # seconds of `Retry-After` that are heeded
STEADY: Final = 30.0  # seconds; a watch that stood so long was a good one, even if nothing happened
_log = logging.getLogger(__name__)


class Collection(NamedTuple):
    """What to follow: the path of a collection, and selectors; the API leaves out what they do not match."""

    path: str
    labels: str = ""
    fields: str = ""


class Pace:
    """How long to pause before the next request.

    Args:
        clock: waits.
        random: returns a number from 0 to 1: half of every pause is chance.
    """

    def __init__(self, clock: Clock, random: Callable[[], float]) -> None:
        self._clock = clock
        self.monotonic = clock.monotonic
        self.random = random
        self.pauses = 0
        self.failures = 1  # in a row; no progress was made yet

    def progress(self) -> None:
        """Let the next pause be short."""
        self.failures = 0

    def failure(self) -> None:
        """Let the next pause not be short, whatever progress came before."""
        self.failures = max(self.failures, 1)

    async def pause(self, asked: float | None = None) -> None:
        """Wait, for at least what the API server asked (seconds, within bounds)."""
        grown = FIRST_PAUSE * 2.0 ** min(self.failures - 1, 16)
        longest = min(LONGEST_PAUSE, grown) if self.failures else PAUSE
        self.pauses += 1
        self.failures += 1
        at_least = max(longest / 2, min(asked or 0.0, LONGEST_ASKED))
        await self._clock.sleep(at_least + self.random() * longest / 2)


async def watch_once(
    api: Api, collection: Collection, version: str, random: Callable[[], float]
) -> AsyncGenerator[WatchEvent, None]:
    """Yield what follows `version`, bookmarks too, until the API server ends the watch.

    Raises:
        ApiError: as `Api.watch`; `is_gone` also if the versions go backwards, as after a restored backup. (They may
            be compared: KEP-5504; where they are no numbers, they are not.)
        StreamCut: as `Api.watch`.
        ApiUnavailable: as `Api.watch`.
    """
    seconds = SHORTEST_WATCH + round(random() * (LONGEST_WATCH - SHORTEST_WATCH))
    _, labels, fields = collection
    stream = api.watch(collection.path, version, labels=labels, fields=fields, seconds=seconds, grace=GRACE)
    async with aclosing(stream) as events:
        async for event in events:
            if event.version.isdecimal() and version.isdecimal() and int(event.version) < int(version):
                raise ApiError(410, "Expired", f"the API server went back from version {version} to {event.version}")
            version = event.version
            yield event


async def list_then_watch(api: Api, collection: Collection, pace: Pace) -> AsyncGenerator[Listing | WatchEvent, None]:
    """Yield the whole collection once, then its events, over as many watches as go well.

    Ends after a watch without progress (it ended at once, or broke): another list must tell what is there.

    Raises:
        ApiFailure: the list or a watch failed; a watch that is too old is `is_gone`.
    """
    listing = await api.list(collection.path, labels=collection.labels, fields=collection.fields, repeat=False)
    yield listing
    version = listing.version
    while True:
        began, began_at, refusal = version, pace.monotonic(), None
        try:
            async with aclosing(watch_once(api, collection, version, pace.random)) as events:
                async for event in events:
                    if event.version != version:
                        pace.progress()
                    version = event.version
                    yield event
        except StreamCut as error:
            _log.debug("A watch broke off: %s: %s", collection.path, error)
        except ApiError as error:
            if not error.is_not_taken:
                raise
            refusal = error  # a list would cost the API server more than another watch
        if pace.monotonic() - began_at >= STEADY:
            pace.progress()
        elif version == began and refusal is None:
            return
        await pace.pause(refusal.retry_after if refusal else None)


async def watch_for_ever(api: Api, collection: Collection, pace: Pace) -> AsyncGenerator[Listing | WatchEvent, None]:
    """Yield the whole collection and then its events, again after every failure; ends only when it is closed."""
    while True:
        asked = None
        try:
            async with aclosing(list_then_watch(api, collection, pace)) as steps:
                async for step in steps:
                    yield step
        except ApiFailure as error:
            asked = error.retry_after
            pace.failure()
            is_usual = pace.failures > 1 or (isinstance(error, ApiError) and error.is_gone)
            level = logging.DEBUG if is_usual else logging.WARNING  # an outage is warned of once
            _log.log(level, "Kubernetes cannot be followed; trying again: %s: %s", collection.path, error)
        await pace.pause(asked)
