"""What is stored on a Deployment about use and reaping, so that replicas agree without a leader.

`notebook-proxy/last-active` is only ever raised; `notebook-proxy/reap-mark` announces a reap, and whoever saw newer
activity withdraws it. Every write insists on the version that was read, so that two replicas never overwrite each
other unseen; status writes move the version too, so a conflict means: look again, a bounded number of times.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.kubernetes.api_errors import ApiError, ApiFailure
from proxy.backends.kubernetes.ownership import EXTENDED_UNTIL, LAST_ACTIVE, REAP_MARK, is_ours
from proxy.backends.kubernetes.wire import path_to
from proxy.errors import Contested, StopFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.backends.kubernetes.api import Api, Object
    from proxy.clock import Clock
    from proxy.workspace import Key

_SAME: Final = timedelta(
    seconds=2
)  # by which two readings of one moment may differ: clocks are slewed, and read one by one
LOOKS: Final = 5  # how often a write is tried that finds the object changed
_STALE_MARKS: Final = 3  # a mark older than so many times reap_grace was left by a replica that died


@dataclass(frozen=True, slots=True)
class Mark:
    """A reap that was announced: which Deployment, at which version, and what was written."""

    uid: str
    version: str
    stamp: str
    last_active: datetime


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC, with microseconds: what is stored must not differ from what is known."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_time(text: object) -> datetime | None:
    """Read RFC 3339; None for what is not, since annotations can be edited by anyone."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def annotations_of(obj: Mapping[str, Any]) -> Mapping[str, str]:
    """Return an object's annotations, empty where it has none."""
    return obj["metadata"].get("annotations") or {}


def last_active_of(obj: Mapping[str, Any]) -> datetime | None:
    """Return the activity that is stored on a Deployment."""
    return parse_time(annotations_of(obj).get(LAST_ACTIVE))


def extended_until_of(obj: Mapping[str, Any]) -> datetime | None:
    """Return until when a Deployment is not to be stopped for being idle."""
    return parse_time(annotations_of(obj).get(EXTENDED_UNTIL))


class Fence:
    """Reads and writes what is stored.

    Args:
        api: for the writes.
        replica: this process's name, unique among replicas.
        clock: its wall clock stamps marks.
        grace: `reap_grace`.
        max_extend: what lies further ahead was written by nobody of ours.
    """

    def __init__(self, api: Api, replica: str, clock: Clock, grace: timedelta, max_extend: timedelta) -> None:
        self._api = api
        self._replica = replica
        self._clock = clock
        self._grace = grace
        self._max_extend = max_extend + _SAME

    def is_condemned(self, old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
        """Tell whether another replica has announced a reap between two looks; whatever its clock says.

        A replica whose clock is ahead takes for idle what is in use: its mark, of all marks, must be objected to.
        """
        stamp = annotations_of(new).get(REAP_MARK)
        is_same = old is not None and annotations_of(old).get(REAP_MARK) == stamp
        return bool(stamp) and not is_same and _read_mark(stamp)[0] != self._replica

    def _is_fresh_mark(self, obj: Mapping[str, Any]) -> bool:
        """Tell whether another replica is about to reap it; one that died leaves its mark behind."""
        replica, moment = _read_mark(annotations_of(obj).get(REAP_MARK))
        if moment is None or replica == self._replica:
            return False
        return abs(self._clock.now() - moment) < _STALE_MARKS * self._grace

    async def mark(self, key: Key, last_active: datetime) -> Mark:
        """Announce a reap.

        Raises:
            Contested: newer activity is stored, another replica is about to reap it, or it is gone.
            StopFailed: it could not be announced.
        """
        stamp = f"{self._replica} {format_time(self._clock.now())}"
        for _ in range(LOOKS):
            found = await self._get(key)
            self._refuse_contested(found, last_active)
            if self._is_fresh_mark(found):
                raise Contested("Another replica is about to stop it.")
            written = await self._write(key, found, {REAP_MARK: stamp})
            if written is not None:
                meta = written["metadata"]
                return Mark(meta["uid"], meta["resourceVersion"], stamp, last_active)
        raise Contested("It changes too often to be marked.")

    async def store(self, key: Key, last_active: datetime, *, pardon: bool) -> None:
        """Raise what is stored; withdraw a mark where asked to. Gone is success.

        Raises:
            StopFailed: it could not be stored.
        """
        for _ in range(LOOKS):
            try:
                found = await self._get(key)
            except Contested:
                return
            stored = last_active_of(found)
            changes: dict[str, str | None] = {}
            if stored is None or stored < last_active or stored > self._clock.now():  # or a clock was ahead
                changes[LAST_ACTIVE] = format_time(last_active)
            if pardon and REAP_MARK in annotations_of(found):
                changes[REAP_MARK] = None
            if not changes or await self._write(key, found, changes) is not None:
                return
        raise StopFailed("It changes too often for its activity to be stored.")

    async def extend(self, key: Key, until: datetime) -> None:
        """Raise what is stored about the time that it is given, and withdraw a mark. Gone is success.

        Raises:
            StopFailed: it could not be stored.
        """
        for _ in range(LOOKS):
            try:
                found = await self._get(key)
            except Contested:
                return
            stored = extended_until_of(found)
            changes: dict[str, str | None] = {REAP_MARK: None} if REAP_MARK in annotations_of(found) else {}
            if stored is None or stored < until:
                changes[EXTENDED_UNTIL] = format_time(until)
            if not changes or await self._write(key, found, changes) is not None:
                return
        raise StopFailed("It changes too often for its extension to be stored.")

    async def delete(self, key: Key, mark: Mark | None = None) -> str | None:
        """Delete a Deployment, its pods first; with a mark only if nothing newer was stored since. Gone is success.

        Returns:
            The UID of what was deleted, whoever did it; None if there was nothing.

        Raises:
            Contested: newer activity is stored, or the mark was withdrawn.
            StopFailed: it could not be deleted.
        """
        uid, version = (mark.uid, mark.version) if mark else ("", None)
        for _ in range(LOOKS):
            if not version:  # without a mark, or after a conflict: look what there is
                try:
                    found = await self._get(key)
                except Contested:
                    return uid or None  # gone: another replica was faster
                if mark is not None:
                    self._refuse_unmarked(found, mark)
                    version = found["metadata"]["resourceVersion"]
                uid = found["metadata"]["uid"]
            try:
                await self._api.delete(_path(key), uid=uid, version=version, propagation="Foreground")
            except ApiError as error:
                if error.is_not_found:
                    return uid
                if not error.is_conflict:
                    raise StopFailed(f"Kubernetes does not delete it: {error}") from error
                version = None
            except ApiFailure as error:
                raise StopFailed(f"Kubernetes does not answer: {error}") from error
            else:
                return uid
        raise Contested("It changes too often to be deleted safely.")

    def _refuse_unmarked(self, found: Mapping[str, Any], mark: Mark) -> None:
        """Raise `Contested` if a reap that was announced must not be carried out any more."""
        if found["metadata"]["uid"] != mark.uid:
            raise Contested("It was started anew.", last_active_of(found))
        self._refuse_contested(found, mark.last_active)
        if annotations_of(found).get(REAP_MARK) != mark.stamp:
            raise Contested("Another replica saw that it is used.", last_active_of(found))

    def _refuse_contested(self, found: Mapping[str, Any], last_active: datetime) -> None:
        stored = last_active_of(found)
        if stored is not None and stored > last_active + _SAME and stored <= self._clock.now():
            raise Contested("Newer activity is stored.", stored)
        until = extended_until_of(found)
        if until is not None and self._clock.now() < until < self._clock.now() + self._max_extend:
            raise Contested("Somebody asked for more time.")

    async def _get(self, key: Key) -> Object:
        try:
            found = await self._api.get(_path(key))
        except ApiError as error:
            if error.is_not_found:
                raise Contested("It is gone.") from error
            raise StopFailed(f"Kubernetes does not show it: {error}") from error
        except ApiFailure as error:
            raise StopFailed(f"Kubernetes does not answer: {error}") from error
        if not is_ours(found, key):
            raise Contested("Something that is not ours has its name.")
        return found

    async def _write(self, key: Key, found: Mapping[str, Any], changes: Mapping[str, str | None]) -> Object | None:
        """Write annotations onto the very version that was read; None if it has changed since, or is gone."""
        meta = found["metadata"]
        body = {
            "metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "annotations": dict(changes)}
        }
        try:
            return await self._api.patch(_path(key), body)
        except ApiError as error:
            if error.is_conflict or error.is_not_found:
                return None
            raise StopFailed(f"Kubernetes does not let it be written: {error}") from error
        except ApiFailure as error:
            raise StopFailed(f"Kubernetes does not answer: {error}") from error


def _read_mark(text: str | None) -> tuple[str, datetime | None]:
    replica, _, moment = (text or "").partition(" ")
    return replica, parse_time(moment)


def _path(key: Key) -> str:
    return path_to("apps/v1", "deployments", key.namespace, key.deployment_name)
