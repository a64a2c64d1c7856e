"""Calls to the Kubernetes API, with dictionaries: every one has a deadline, and says truly whether it succeeded.

What may be repeated is repeated here, a few times and with jitter; a POST only if the API server did not take it. A
result is returned only if the API server sent it: a page of a load balancer, an empty answer and an error are failures,
never an empty list.
"""

from __future__ import annotations

import itertools
import random as _random
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final, Self, TypeVar

from proxy.backends import LOG_BYTES
from proxy.backends.kubernetes.api_errors import ApiError, ApiFailure, ApiUnavailable, StreamCut
from proxy.backends.kubernetes.connection import Connection, Request, answering, find_half_open_peer
from proxy.backends.kubernetes.wire import (
    Listing,
    Object,
    WatchEvent,
    events_of,
    object_of,
    page_of,
    path_to,
    version_of,
)
from proxy.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    import aiohttp

    from proxy.clock import Clock
    from proxy.counts import ClusterCounts

__all__ = ["Api", "ApiError", "ApiFailure", "ApiUnavailable", "Listing", "Object", "StreamCut", "WatchEvent", "path_to"]

DEADLINE: Final = 30.0  # seconds for one call with all its repetitions; a list has it for each page
ATTEMPT: Final = 10.0  # seconds for one attempt
FIRST_DELAY: Final = 0.25  # seconds; doubles
REPETITIONS: Final = 4
LONGEST_WAIT: Final = 10.0  # seconds; who is asked to wait longer is told so instead
PAGE: Final = 500  # objects, as client-go asks for
_PAGES: Final = 1000
_SUCCESS: Final = frozenset({200, 201, 202})
_T = TypeVar("_T")


class Api:
    """Calls to one API server, shared by the whole process.

    Every method raises `ApiError` (the API server refused or failed) or `ApiUnavailable` (no answer), both
    `ApiFailure`. Cancelling a call ends it at once; what was sent may be carried out.

    Args:
        connection: owned by this from now on.
        clock: waits between repetitions; the deadlines of attempts are the event loop's.
        random: returns a number from 0 to 1, for jitter.
    """

    def __init__(self, connection: Connection, clock: Clock, random: Callable[[], float] = _random.random) -> None:
        self._connection = connection
        self._clock = clock
        self._random = random
        self._under_way: dict[object, float] = {}  # calls that have no result yet, oldest first, and when they began

    @classmethod
    async def connect(
        cls,
        kubeconfig: str | Path | None = None,
        context: str | None = None,
        *,
        clock: Clock | None = None,
        counts: ClusterCounts | None = None,
    ) -> Self:
        """Use the service account of this pod, or if either argument is given, a kubeconfig. Sends nothing yet.

        Raises:
            ConfigError: there is no usable credential.
        """
        clock = clock or SystemClock()
        return cls(await Connection.open(kubeconfig, context, clock, counts=counts), clock)

    async def get(self, path: str, *, deadline: float = DEADLINE) -> Object:
        """Return the object. The deadline is in seconds, here and below."""
        return await self._call(Request("GET", path, deadline), object_of)

    async def list(
        self, path: str, *, labels: str = "", fields: str = "", repeat: bool = True, deadline: float = DEADLINE
    ) -> Listing:
        """Return the whole collection as it is now (a consistent read), page by page.

        Args:
            path: of the collection.
            labels: a label selector.
            fields: a field selector.
            repeat: whether to repeat what fails; without, for who has a pace of their own.
            deadline: for each page.
        """
        query = _selectors(labels, fields) | {"limit": str(PAGE)}
        first, items = "", list[Object]()
        for _ in range(_PAGES):
            try:
                page = await self._call(Request("GET", path, deadline, query, verb="list"), page_of, repeat=repeat)
            except ApiError as error:
                if not (error.is_gone and "continue" in query):
                    raise
                # The continuation has expired (it lives about five minutes): once more, in one piece.
                first, items, query = "", [], _selectors(labels, fields)
                continue
            first = first or page.version
            items += page.items
            if not page.rest:
                return Listing(items, first)
            query["continue"] = page.rest
        raise ApiUnavailable(f"The list has no end: {_PAGES} pages")

    async def create(self, path: str, body: Object, *, dry_run: bool = False, deadline: float = DEADLINE) -> Object:
        """Create the object in the collection at `path` and return it as stored, or with `dry_run`, as it would be.

        Repeated only after an answer that says it was not taken, or if no connection could be made. Whoever gets a
        failure with `may_be_done` looks whether the object is there.
        """
        query = {"dryRun": "All"} if dry_run else {}
        return await self._call(Request("POST", path, deadline, query, body), object_of)

    async def greet(self, *, deadline: float = ATTEMPT) -> tuple[str, str]:
        """Return the version of the API server, and the moment by its clock as its answer's `Date` has it."""
        async with self._answer(Request("GET", "/version", deadline)) as response:
            return version_of(await response.read()), response.headers.get("Date", "")

    async def patch(self, path: str, body: Object, *, deadline: float = DEADLINE) -> Object:
        """Merge `body` into the object (RFC 7396) and return the object as stored.

        `metadata.resourceVersion` or `metadata.uid` in `body` is a precondition. A patch with one that was carried
        out, but whose answer was lost, is repeated and then a conflict: look again.
        """
        request = Request("PATCH", path, deadline, body=body, content_type="application/merge-patch+json")
        return await self._call(request, object_of)

    async def delete(
        self,
        path: str,
        *,
        uid: str | None = None,
        version: str | None = None,
        propagation: str = "Background",
        deadline: float = DEADLINE,
    ) -> Object:
        """Delete one object and return it, or a Status if it is gone at once; not found is an `ApiError`.

        Args:
            path: of the object.
            uid: delete this very object or nothing (conflict).
            version: delete it only if nothing has changed it since this `resourceVersion` (conflict).
            propagation: `Foreground` keeps the object until what it owns is gone; `Background` and `Orphan` do not.
            deadline: see `get`.
        """
        conditions = {"uid": uid, "resourceVersion": version}
        options: Object = {"propagationPolicy": propagation}
        if met := {name: value for name, value in conditions.items() if value is not None}:
            options["preconditions"] = met
        return await self._call(Request("DELETE", path, deadline, body=options), object_of)

    async def log_tail(
        self, path: str, *, container: str, lines: int = 20, previous: bool = False, deadline: float = DEADLINE
    ) -> str:
        """Return the last lines that a container has written.

        Args:
            path: of the pod.
            container: its name.
            lines: how many.
            previous: of the run before the last restart.
            deadline: see `get`.
        """
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(LOG_BYTES)}
        query |= {"previous": "true"} if previous else {}
        return await self._call(Request("GET", f"{path}/log", deadline, query, verb="log"), _text_of)

    async def watch(
        self, path: str, version: str, *, labels: str = "", fields: str = "", seconds: int, grace: float
    ) -> AsyncGenerator[WatchEvent, None]:
        """Yield what happens to a collection after a version, bookmarks too, until the API server ends the watch.

        Nothing is repeated. Close it (`aclosing`) to end it.

        Args:
            path: of the collection.
            version: the `resourceVersion` of a listing or of an earlier event.
            labels: as in the listing.
            fields: as in the listing.
            seconds: after which the API server is to end it.
            grace: seconds more after which it is taken for silent.

        Raises:
            ApiError: the status of the answer, or of an ERROR event; `is_gone` if the version is too old.
            StreamCut: it broke off, perhaps in the middle of a line.
            ApiUnavailable: not reached, silent, or what came were no events.
        """
        query = _selectors(labels, fields) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(seconds),
        }
        async with self._answer(Request("GET", path, seconds + grace, query, verb="watch")) as response:
            find_half_open_peer(response)
            with answering(StreamCut):
                async with aclosing(events_of(response.content.iter_any())) as events:
                    async for event in events:
                        yield event

    def longest_wait(self) -> float:
        """Return the seconds for which the oldest call under way has had no result, with all its repetitions.

        It tells a silent API server long before the call is given up. Watches do not count.
        """
        return self._clock.monotonic() - next(iter(self._under_way.values()), self._clock.monotonic())

    async def close(self) -> None:
        """Close every connection; calls under way fail."""
        await self._connection.close()

    async def _call(self, request: Request, read: Callable[[bytes], _T], *, repeat: bool = True) -> _T:
        """Return what `read` makes of the answer, after as many attempts as are needed and the deadline allows."""
        began, call = self._clock.monotonic(), object()
        self._under_way[call] = began
        try:
            for attempt in itertools.count():
                left = began + request.seconds - self._clock.monotonic()
                try:
                    async with self._answer(request._replace(seconds=min(ATTEMPT, left))) as response:
                        return read(await response.read())
                except ApiFailure as error:
                    delay = self._delay(request.method, error, attempt) if repeat else None
                    if delay is None or self._clock.monotonic() + delay >= began + request.seconds:
                        raise
                await self._clock.sleep(delay)
        finally:
            del self._under_way[call]
        raise AssertionError("unreachable")  # pragma: no cover

    def _delay(self, method: str, error: ApiFailure, attempt: int) -> float | None:
        """Return the seconds to wait before the next attempt; None if there must be none."""
        if isinstance(error, ApiError):
            may_repeat = error.is_not_taken or (error.is_server_error and method != "POST")
        else:
            may_repeat = method != "POST" or not error.may_be_done
        asked = error.retry_after or 0.0
        if not may_repeat or attempt >= REPETITIONS or asked > LONGEST_WAIT:
            return None
        # Half of the back-off is chance, and is added to what was asked for: no herd comes back at once.
        backoff = FIRST_DELAY * 2.0**attempt
        return max(asked, backoff / 2) + self._random() * backoff / 2

    @asynccontextmanager
    async def _answer(self, request: Request) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give a successful answer, to be read."""
        response = await self._connection.send(request)
        try:
            with answering():
                if response.status not in _SUCCESS:
                    said = await response.read()
                    raise ApiError.of_answer(response.status, response.headers, said, self._clock.now())
                yield response
        finally:
            response.close()  # one that was read to its end has given its connection back


def _selectors(labels: str, fields: str) -> dict[str, str]:
    selectors = {"labelSelector": labels, "fieldSelector": fields}
    return {name: selector for name, selector in selectors.items() if selector}


def _text_of(body: bytes) -> str:
    return body.decode(errors="replace")
