"""The loop that all controllers share: a change names what to look at again, and each is then looked at once.

What must hold: one queue, served in order, so that a run is repeatable; no controller awaits or polls; the garbage
collector's work waits until the others have none, as it comes last in a real cluster too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Protocol

from tests.cluster.answers import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.cluster.registry import Registry
    from tests.cluster.store import Change, Key

log = logging.getLogger(__name__)
# As client-go's default rate limiter: 5 ms, doubled with each failure in a row.
_FIRST_RETRY_SECONDS = 0.005
_LAST_RETRY_SECONDS = 1000.0


class Controller(Protocol):
    """One controller: which keys a change concerns, and what to do about one key."""

    is_last: bool

    def concerns(self, change: Change) -> Iterable[Key]:
        """Return the keys to look at again after `change`."""

    def sync(self, key: Key) -> None:
        """Bring the cluster closer to what `key` asks for; an `ApiError` means: again, later."""


class Manager:
    """Runs controllers until it is closed."""

    def __init__(self, registry: Registry, controllers: Iterable[Controller]) -> None:
        self._controllers = tuple(controllers)
        self._queues: tuple[dict[tuple[Controller, Key], None], ...] = ({}, {})
        self._failures: dict[tuple[Controller, Key], int] = {}
        self._retries: set[asyncio.TimerHandle] = set()
        self._wake = asyncio.Event()
        self._running = asyncio.Event()
        self._running.set()
        self._settled = asyncio.Event()
        self._unsubscribe = registry.store.subscribe(self._enqueue)
        self._task = asyncio.create_task(self._run())

    def hold(self) -> None:
        """Let the controllers be late: nothing is done until `release`."""
        self._running.clear()

    def release(self) -> None:
        """Let the controllers go on."""
        self._running.set()

    async def settled(self) -> None:
        """Wait until the controllers have nothing to do."""
        await self._settled.wait()

    async def close(self) -> None:
        """Stop for good."""
        self._unsubscribe()
        for retry in self._retries:
            retry.cancel()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _enqueue(self, change: Change) -> None:
        for controller in self._controllers:
            for key in controller.concerns(change):
                self._add(controller, key)

    def _add(self, controller: Controller, key: Key) -> None:
        self._queues[controller.is_last][controller, key] = None
        self._settled.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            await self._running.wait()
            queue = self._queues[0] or self._queues[1]
            if not queue:
                self._wake.clear()
                self._settled.set()
                continue
            item = next(iter(queue))
            del queue[item]
            self._sync(*item)
            # Others must get a turn between two syncs, as they do when each is a round trip.
            await asyncio.sleep(0)

    def _sync(self, controller: Controller, key: Key) -> None:
        try:
            controller.sync(key)
        except ApiError as error:
            log.debug("a controller tries again later: %s", error)
            self._retry(controller, key)
        except Exception:
            log.exception("a controller of the test cluster failed at %s", key)
        else:
            self._failures.pop((controller, key), None)

    def _retry(self, controller: Controller, key: Key) -> None:
        failures = self._failures.get((controller, key), 0)
        self._failures[controller, key] = failures + 1
        delay = min(_FIRST_RETRY_SECONDS * 2**failures, _LAST_RETRY_SECONDS)

        def again() -> None:
            self._retries.discard(handle)
            self._add(controller, key)

        handle = asyncio.get_running_loop().call_later(delay, again)
        self._retries.add(handle)
