"""What goes over the wire to and from the Kubernetes API: paths, objects, pages of lists, lines of watches.

Reads strictly: what is not what was asked for is an `ApiUnavailable`, for then something else has answered.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote

from proxy.backends.kubernetes.api_errors import ApiError, ApiUnavailable, StreamCut

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable

Object: TypeAlias = dict[str, Any]

# etcd takes objects up to 1.5 MiB and the API server requests up to 3 MiB; what is far beyond is no event.
LONGEST_LINE: Final = 16 * 2**20
_EVENTS: Final = frozenset({"ADDED", "MODIFIED", "DELETED", "BOOKMARK"})


class Listing(NamedTuple):
    """All objects of a collection at one version. The items lack `kind` and `apiVersion`, as the API sends them."""

    items: list[Object]
    version: str


class WatchEvent(NamedTuple):
    """One line of a watch: `ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, and its object."""

    type: str
    object: Object

    @property
    def version(self) -> str:
        """The version from which a later watch goes on."""
        return str(self.object["metadata"]["resourceVersion"])


class Page(NamedTuple):
    """A part of a list, and what continues it; empty if nothing does."""

    items: list[Object]
    version: str
    rest: str


def path_to(group_version: str, plural: str, namespace: str | None = None, name: str | None = None) -> str:
    """Return a path of the API: a collection in one namespace or in all, or one object of it.

    Args:
        group_version: such as `v1` or `apps/v1`.
        plural: such as `deployments`.
        namespace: None for all, and for what lives in none.
        name: None for the collection.
    """
    parts = ["apis" if "/" in group_version else "api", *group_version.split("/")]
    parts += ["namespaces", namespace] if namespace is not None else []
    parts += [plural] + ([name] if name is not None else [])
    return "/" + "/".join(quote(part, safe="") for part in parts)


def object_of(body: bytes) -> Object:
    """Read a successful answer.

    Raises:
        ApiUnavailable: it is no object of the API.
        ApiError: it is a Status that says Failure.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiUnavailable(f"The answer is not of the Kubernetes API: {len(body)} bytes that are no JSON") from error
    if not isinstance(found, dict) or not isinstance(found.get("kind"), str):
        raise ApiUnavailable("The answer is not of the Kubernetes API: JSON, but no object")
    if found["kind"] == "Status" and found.get("status") == "Failure":
        raise ApiError.of_status(found)
    return found


def version_of(body: bytes) -> str:
    """Read the answer at `/version`.

    Raises:
        ApiUnavailable: it is none of the API.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    version = found.get("gitVersion") if isinstance(found, dict) else None
    if not isinstance(version, str):
        raise ApiUnavailable("The answer is not of the Kubernetes API: it tells no version")
    return version


def page_of(body: bytes) -> Page:
    """Read a successful answer that is to be a page of a list; raises like `object_of`."""
    found = object_of(body)
    items, metadata = found.get("items", ()), found.get("metadata")
    if items is None:  # how Go writes a list that was never filled
        items = []
    if (
        not found["kind"].endswith("List")
        or not isinstance(metadata, dict)
        or not metadata.get("resourceVersion")
        or not isinstance(items, list)
        or not all(_is_named(item) for item in items)
    ):
        raise ApiUnavailable(f"The answer is no list but {found['kind']!r}")
    return Page(items, str(metadata["resourceVersion"]), metadata.get("continue") or "")


async def events_of(chunks: AsyncIterable[bytes]) -> AsyncGenerator[WatchEvent, None]:
    """Read a watch; types that are not known are passed over.

    Raises:
        ApiError: an ERROR event.
        StreamCut: it ends in the middle of a line.
        ApiUnavailable: a line is no event, or over `LONGEST_LINE` bytes.
    """
    kept = bytearray()
    async for chunk in chunks:
        searched = len(kept)
        kept += chunk
        while (end := kept.find(b"\n", searched)) >= 0:
            line = bytes(kept[:end])
            del kept[: end + 1]
            searched = 0
            if line.strip() and (event := _event_of(line)):
                yield event
        if len(kept) > LONGEST_LINE:
            raise ApiUnavailable(f"A line of the watch is longer than {LONGEST_LINE} bytes")
    if kept.strip():
        raise StreamCut("The watch ended in the middle of a line")


def _event_of(line: bytes) -> WatchEvent | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ApiUnavailable(f"The watch sent {len(line)} bytes that are no JSON") from error
    kind, obj = (found.get("type"), found.get("object")) if isinstance(found, dict) else (None, None)
    if kind == "ERROR":
        raise ApiError.of_status(obj, said="an ERROR event without a Status")
    if not isinstance(kind, str) or not isinstance(obj, dict):
        raise ApiUnavailable("The watch sent JSON that is no event")
    if kind not in _EVENTS:
        return None
    if not (_is_named(obj) if kind != "BOOKMARK" else _metadata(obj).get("resourceVersion")):
        raise ApiUnavailable(f"The watch sent {kind} without name, uid or version")
    return WatchEvent(kind, obj)


def _metadata(obj: Any) -> Object:
    found = obj.get("metadata") if isinstance(obj, dict) else None
    return found if isinstance(found, dict) else {}


def _is_named(obj: Any) -> bool:
    metadata = _metadata(obj)
    return all(isinstance(metadata.get(name), str) and metadata[name] for name in ("name", "uid", "resourceVersion"))
