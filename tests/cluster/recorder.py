"""Writes `Event` objects as Kubernetes' components do: one per object, reason and message, counted when it recurs."""

from __future__ import annotations

import contextlib
import itertools
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tests.cluster import resources
from tests.cluster.answers import ApiError

if TYPE_CHECKING:
    from tests.cluster.registry import Registry
    from tests.cluster.resources import Obj

# These write the newer `events.k8s.io/v1` form: an eventTime, a series instead of a count.
_SERIES_WRITERS = frozenset({"default-scheduler"})


class Recorder:
    """Records what happened to objects; a failure to record is nobody's failure."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[tuple[str, str, str], str] = {}
        self._serial = itertools.count(time.time_ns())

    def normal(self, component: str, about: Obj, reason: str, message: str, *, host: str = "") -> None:
        """Record something that is as it should be."""
        self._record(component, about, "Normal", reason, message, host=host)

    def warning(self, component: str, about: Obj, reason: str, message: str, *, host: str = "") -> None:
        """Record something that is not."""
        self._record(component, about, "Warning", reason, message, host=host)

    def _record(self, component: str, about: Obj, kind: str, reason: str, message: str, *, host: str) -> None:
        namespace = resources.namespace_of(about) or "default"
        known = (about["metadata"]["uid"], reason, message)
        with contextlib.suppress(ApiError):  # the namespace may be on its way out, and its events with it
            if known in self._known and self._registry.store.get(resources.EVENTS, namespace, self._known[known]):
                self._count(namespace, self._known[known])
                return
            name = f"{resources.name_of(about)}.{next(self._serial):x}"
            event = self._event(component, about, kind, reason, message, host=host)
            self._registry.create(resources.EVENTS, namespace, {"metadata": {"name": name}, **event})
            self._known[known] = name

    def _event(self, component: str, about: Obj, kind: str, reason: str, message: str, *, host: str) -> Obj:
        metadata = about["metadata"]
        event: Obj = {
            "involvedObject": {
                "kind": about["kind"],
                "namespace": metadata.get("namespace", ""),
                "name": metadata["name"],
                "uid": metadata["uid"],
                "apiVersion": about["apiVersion"],
                "resourceVersion": metadata["resourceVersion"],
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "reportingComponent": component,
            "reportingInstance": host,
        }
        if component in _SERIES_WRITERS:
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            return event | {
                "source": {},
                "firstTimestamp": None,
                "lastTimestamp": None,
                "eventTime": now,
                "action": "Scheduling",
            }
        now = self._registry.now()
        source = {"component": component, **({"host": host} if host else {})}
        return event | {"source": source, "firstTimestamp": now, "lastTimestamp": now, "count": 1, "eventTime": None}

    def _count(self, namespace: str, name: str) -> None:
        event = dict(self._registry.get(resources.EVENTS, namespace, name))
        if event["eventTime"]:
            seen = event.get("series", {}).get("count", 1)
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            event["series"] = {"count": seen + 1, "lastObservedTime": now}
        else:
            event |= {"count": event["count"] + 1, "lastTimestamp": self._registry.now()}
        self._registry.update(resources.EVENTS, namespace, name, event)
