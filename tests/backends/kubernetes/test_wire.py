from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from proxy.backends.kubernetes.api_errors import ApiError, ApiUnavailable, StreamCut
from proxy.backends.kubernetes.wire import LONGEST_LINE, WatchEvent, events_of, path_to
from tests.backends.kubernetes.scripted import HTML, bookmark, line, status_body, thing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

ADDED = line("ADDED", thing("a", 6))
MODIFIED = line("MODIFIED", thing("ä", 7))


async def chunks(parts: Iterable[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(*parts: bytes) -> list[WatchEvent]:
    return [event async for event in events_of(chunks(parts))]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (("v1", "pods"), "/api/v1/pods"),
        (("v1", "pods", "team"), "/api/v1/namespaces/team/pods"),
        (("apps/v1", "deployments", "team", "a"), "/apis/apps/v1/namespaces/team/deployments/a"),
        (("v1", "namespaces", None, "team"), "/api/v1/namespaces/team"),
        (("v1", "pods", "../x", "a/b"), "/api/v1/namespaces/..%2Fx/pods/a%2Fb"),
    ],
)
def test_a_path_is_written_as_the_api_has_it(arguments: tuple[Any, ...], path: str) -> None:
    assert path_to(*arguments) == path


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_lines_are_found_however_they_are_cut_up(size: int) -> None:
    whole = ADDED + b"\n" + MODIFIED + bookmark(8)

    events = await read(*(whole[i : i + size] for i in range(0, len(whole), size)))

    assert [(event.type, event.version) for event in events] == [("ADDED", "6"), ("MODIFIED", "7"), ("BOOKMARK", "8")]


async def test_a_line_over_4_mib_is_read() -> None:
    big = thing("a", 6) | {"data": "x" * (5 * 2**20)}
    sent = line("ADDED", big)

    events = await read(*(sent[i : i + 65536] for i in range(0, len(sent), 65536)))

    assert events == [("ADDED", big)]


async def test_a_line_without_end_is_given_up() -> None:
    with pytest.raises(ApiUnavailable, match="longer than"):
        await read(*[b"x" * 2**20] * (LONGEST_LINE // 2**20 + 1))


async def test_a_line_that_is_cut_is_told_after_the_events_before_it() -> None:
    events = events_of(chunks([ADDED, MODIFIED[:-5]]))

    assert (await anext(events)).version == "6"
    with pytest.raises(StreamCut):
        await anext(events)


async def test_an_error_event_is_the_error_that_it_says() -> None:
    with pytest.raises(ApiError, match="too old") as caught:
        await read(line("ERROR", status_body(410, "Expired", "too old resource version")))

    assert caught.value.is_gone


async def test_types_that_are_not_known_are_passed_over() -> None:
    assert [event.type for event in await read(line("NEWS", {}), ADDED)] == ["ADDED"]


@pytest.mark.parametrize(
    "sent",
    [
        HTML + b"\n",
        b"upstream connect error\n",
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b"1\n",
        b"{}\n",
        b'{"type": "ADDED"}\n',
        b'{"type": "ADDED", "object": []}\n',
        b'{"type": {}, "object": {}}\n',
        b'{"type": "BOOKMARK", "object": {}}\n',
        line("ADDED", {"metadata": {"name": "a", "uid": "", "resourceVersion": "1"}}),
        json.dumps({"kind": "PodList", "items": []}).encode() + b"\n",
    ],
)
async def test_what_is_no_event_is_not_taken_for_one(sent: bytes) -> None:
    with pytest.raises(ApiUnavailable):
        await read(sent)
