"""A copy of one collection of the Kubernetes API, kept up to date for as long as the process lives.

The copy changes only by what the API server sent: while it cannot be reached, the copy stays as it was and grows old.
Every change is told once, in order; what happened unseen, during an outage, is told as what it came to.
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from proxy.backends.kubernetes.watching import Collection, Pace, watch_for_ever
from proxy.backends.kubernetes.wire import Listing
from proxy.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.backends.kubernetes.api import Api
    from proxy.backends.kubernetes.wire import Object, WatchEvent
    from proxy.clock import Clock

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
_Place: TypeAlias = tuple[str, str]
_log = logging.getLogger(__name__)


class Change(NamedTuple):
    """What happened to one object. An object whose UID has changed was deleted, and another one added."""

    type: str
    """`ADDED`, `MODIFIED` or `DELETED`."""
    old: Object | None
    """As it was; of a deletion the last that is known. None for `ADDED`."""
    new: Object | None
    """As it is. None for `DELETED`."""

    @property
    def object(self) -> Object:
        """The object, whichever there is: the newer one first."""
        found = self.new if self.new is not None else self.old
        assert found is not None
        return found


class Reflector:
    """Follows a collection. The objects are shared: whoever reads them must not change them.

    Args:
        api: asked for one list, and then one watch at a time.
        path: of the collection, see `path_to`.
        labels: a label selector.
        fields: a field selector.
        on_change: called in the event loop for every change, after the copy has changed (by a list: after all of
            it has). What it raises is logged.
        clock: paces the requests, and measures the age.
        random: returns a number from 0 to 1, for jitter.
    """

    def __init__(
        self,
        api: Api,
        path: str,
        *,
        labels: str = "",
        fields: str = "",
        on_change: Callable[[Change], None] = lambda _: None,
        clock: Clock | None = None,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._api = api
        self._collection = Collection(path, labels, fields)
        self._on_change = on_change
        self._clock = clock or SystemClock()
        self._pace = Pace(self._clock, random)
        self._objects: dict[_Place, Object] = {}
        self._synced = asyncio.Event()
        self._heard_at = 0.0
        self._lists = 0

    async def run(self) -> None:
        """Follow the collection; ends only when it is cancelled. The caller owns the task; there is one per reflector.

        The copy stays when it ends.
        """
        while True:
            try:
                async with aclosing(watch_for_ever(self._api, self._collection, self._pace)) as steps:
                    async for step in steps:
                        self._apply(step)
            except Exception:  # noqa: BLE001 the top of a task
                _log.exception("A defect stopped the following of %s; it begins anew", self._collection.path)
            await self._pace.pause()

    async def synced(self) -> None:
        """Return once the copy was complete for the first time."""
        await self._synced.wait()

    @property
    def is_synced(self) -> bool:
        """The copy was complete once; `age_of_last_sync` tells how old it is."""
        return self._synced.is_set()

    def age_of_last_sync(self) -> float | None:
        """Return the seconds since the API server last told something; None before the first list.

        With nothing to tell it sends a bookmark about once a minute, without promising to.
        """
        return self._clock.monotonic() - self._heard_at if self.is_synced else None

    @property
    def restarts(self) -> int:
        """How often it had to begin another watch or list, for whatever reason: watches end by themselves too."""
        return self._pace.pauses

    @property
    def lists(self) -> int:
        """How often the whole collection was read."""
        return self._lists

    def get(self, namespace: str, name: str) -> Object | None:
        """Return the object, or None if there was none when the API server last told."""
        return self._objects.get((namespace, name))

    def items(self) -> list[Object]:
        """Return all objects, in no order."""
        return list(self._objects.values())

    def _apply(self, step: Listing | WatchEvent) -> None:
        self._heard_at = self._clock.monotonic()
        if isinstance(step, Listing):
            changes = self._replace(step.items)
            self._lists += 1
        elif step.type == DELETED:
            changes = self._remove(step.object)
        elif step.type in {ADDED, MODIFIED}:  # which of the two depends on what is known here: a list may have told
            changes = self._put(step.object)
        else:
            changes = []
        for change in changes:
            self._tell(change)
        if self._lists:
            self._synced.set()

    def _replace(self, items: Iterable[Object]) -> list[Change]:
        """Take a list for the whole truth: what is not in it is gone."""
        listed = {_place(item): item for item in items}
        gone = [known for place, known in self._objects.items() if place not in listed]
        changes = [change for known in gone for change in self._remove(known)]
        return changes + [change for item in listed.values() for change in self._put(item)]

    def _put(self, obj: Object) -> list[Change]:
        known = self._objects.get(_place(obj))
        self._objects[_place(obj)] = obj
        if known is None:
            return [Change(ADDED, None, obj)]
        if _uid(known) != _uid(obj):
            return [Change(DELETED, known, None), Change(ADDED, None, obj)]
        if known["metadata"]["resourceVersion"] == obj["metadata"]["resourceVersion"]:
            return []
        return [Change(MODIFIED, known, obj)]

    def _remove(self, last: Object) -> list[Change]:
        known = self._objects.get(_place(last))
        if known is None or _uid(known) != _uid(last):
            return []
        del self._objects[_place(last)]
        return [Change(DELETED, last, None)]

    def _tell(self, change: Change) -> None:
        try:
            self._on_change(change)
        except Exception:  # noqa: BLE001 a defect of one listener's is not to stop the copy
            _log.exception("A change was not taken in: %s %s", change.type, _place(change.object))


def _place(obj: Object) -> _Place:
    metadata = obj["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def _uid(obj: Object) -> str:
    return str(obj["metadata"]["uid"])
