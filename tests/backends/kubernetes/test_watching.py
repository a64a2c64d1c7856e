from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from proxy.backends.kubernetes import watching
from proxy.backends.kubernetes.api_errors import ApiError, ApiUnavailable
from proxy.backends.kubernetes.watching import Collection, Pace, list_then_watch, watch_for_ever, watch_once
from proxy.backends.kubernetes.wire import Listing
from tests.backends.kubernetes.scripted import (
    BROKEN,
    HTML,
    HurriedClock,
    Reply,
    Scripted,
    Seen,
    TimeIsOver,
    bookmark,
    line,
    listing,
    reply,
    status,
    status_body,
    stream,
    thing,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from proxy.backends.kubernetes.api import Api
    from proxy.backends.kubernetes.wire import WatchEvent

PODS = Collection("/api/v1/pods", "app=a", "f=g")


def added(version: int, name: str = "a") -> bytes:
    return line("ADDED", thing(name, version))


def half() -> float:
    return 0.5


@pytest.fixture
def pace(clock: HurriedClock) -> Pace:
    return Pace(clock, half)


async def told(steps: AsyncGenerator[Listing | WatchEvent, None], count: int) -> list[str]:
    """The versions of the first steps; `list 4` is a listing's."""
    found: list[str] = []
    async with aclosing(steps):
        while len(found) < count:
            step = await anext(steps)
            found.append(f"list {step.version}" if isinstance(step, Listing) else step.version)
    return found


# One watch


@pytest.mark.parametrize(("chance", "seconds"), [(0.0, "240"), (0.5, "270"), (1.0, "300")])
async def test_how_long_a_watch_lasts_is_chance(server: Scripted, api: Api, chance: float, seconds: str) -> None:
    server.script = [stream()]

    assert [event async for event in watch_once(api, PODS, "5", lambda: chance)] == []

    assert server.seen[0].query["timeoutSeconds"] == seconds
    assert server.seen[0].query["resourceVersion"] == "5"
    assert (server.seen[0].query["labelSelector"], server.seen[0].query["fieldSelector"]) == ("app=a", "f=g")


@pytest.mark.parametrize("back", [added(3), bookmark(4)])
async def test_versions_that_go_backwards_are_as_one_that_is_gone(server: Scripted, api: Api, back: bytes) -> None:
    server.script = [stream(added(6), back)]

    with pytest.raises(ApiError) as caught:
        await told(watch_once(api, PODS, "5", half), 2)

    assert caught.value.is_gone


async def test_versions_that_are_no_numbers_are_not_compared(server: Scripted, api: Api) -> None:
    opaque = {"metadata": {"name": "a", "uid": "u", "resourceVersion": "x1"}}
    server.script = [stream(added(6), line("MODIFIED", opaque), bookmark(5))]

    assert [event.version async for event in watch_once(api, PODS, "5", half)] == ["6", "x1", "5"]


# List, then watch


async def test_a_watch_begins_where_the_list_was_made_without_a_pause(
    server: Scripted, api: Api, clock: HurriedClock, pace: Pace
) -> None:
    server.script = [listing(5, thing("a", 3)), stream(added(6, "b"), then="silence")]

    assert await told(list_then_watch(api, PODS, pace), 2) == ["list 5", "6"]

    assert server.watches[0].query["resourceVersion"] == "5"
    assert clock.slept == []


@pytest.mark.parametrize("end", ["end", "cut", "reset"])
async def test_a_watch_that_told_something_goes_on_soon_from_there(
    server: Scripted, api: Api, clock: HurriedClock, pace: Pace, end: str
) -> None:
    first = stream(added(6), bookmark(8), then=end)  # type: ignore[arg-type]
    server.script = [listing(5), first, stream(added(9), then="silence")]

    assert await told(list_then_watch(api, PODS, pace), 4) == ["list 5", "6", "8", "9"]

    assert [watch.query["resourceVersion"] for watch in server.watches] == ["5", "8"]
    assert clock.slept == [0.1875]


async def test_a_watch_cut_in_the_middle_of_a_line_goes_on_from_the_last_whole_one(
    server: Scripted, api: Api, pace: Pace
) -> None:
    server.script = [listing(5), stream(added(6), added(7)[:-9], then="end"), stream(added(7), then="silence")]

    assert await told(list_then_watch(api, PODS, pace), 3) == ["list 5", "6", "7"]

    assert server.watches[1].query["resourceVersion"] == "6"


async def test_a_quiet_watch_that_stood_long_goes_on_without_a_list(
    server: Scripted, api: Api, clock: HurriedClock, pace: Pace
) -> None:
    def quiet(_: object) -> Reply:
        if len(server.seen) == 0:
            return listing(5)
        clock.elapsed += 270
        return stream() if len(server.seen) < 4 else stream(added(6))

    server.otherwise = quiet

    assert await told(list_then_watch(api, PODS, pace), 2) == ["list 5", "6"]

    assert len(server.watches) == 4
    assert clock.slept == [0.1875] * 3


async def test_a_refusal_for_want_of_room_costs_no_list(
    server: Scripted, api: Api, clock: HurriedClock, pace: Pace
) -> None:
    busy = status(429, "TooManyRequests", Retry_After="7")
    server.script = [listing(5), busy, busy, stream(added(6), then="silence")]

    assert await told(list_then_watch(api, PODS, pace), 2) == ["list 5", "6"]

    assert clock.slept == [7.25, 7.5]  # and a quarter of the longest pause, which is chance


@pytest.mark.parametrize(
    "ended",
    [stream(), reply(200, b""), stream(bookmark(5)), stream(added(6)[:-3]), Reply(b"HTTP/1.1 200 OK\r\n\r\n", "close")],
)
async def test_a_watch_that_ends_without_progress_is_the_end(
    server: Scripted, api: Api, pace: Pace, ended: Reply
) -> None:
    server.script = [listing(5), ended]

    steps = [step async for step in list_then_watch(api, PODS, pace)]

    assert isinstance(steps[0], Listing)
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (status(410, "Expired"), ApiError),
        (stream(line("ERROR", status_body(410, "Expired"))), ApiError),
        (status(500, "InternalError"), ApiError),
        (status(504, "Timeout", "Too large resource version", "ResourceVersionTooLarge"), ApiError),
        (reply(502, HTML, "text/html"), ApiError),
        (reply(200, HTML + b"\n", "text/html"), ApiUnavailable),
    ],
)
async def test_a_watch_that_fails_is_the_end(
    server: Scripted, api: Api, pace: Pace, fault: Reply, kind: type[Exception]
) -> None:
    server.script = [listing(5), fault]

    with pytest.raises(kind):
        await told(list_then_watch(api, PODS, pace), 2)

    assert len(server.seen) == 2


async def test_an_error_after_progress_is_no_short_pause(
    server: Scripted, api: Api, clock: HurriedClock, pace: Pace
) -> None:
    again = [listing(5), stream(added(6), line("ERROR", status_body(500, "InternalError")))]
    server.script = again * 3

    await told(watch_for_ever(api, PODS, pace), 6)

    assert clock.slept == [0.75, 0.75]


async def test_a_list_that_fails_is_tried_once(server: Scripted, api: Api, clock: HurriedClock, pace: Pace) -> None:
    server.otherwise = status(500, "InternalError")

    with pytest.raises(ApiError):
        await told(list_then_watch(api, PODS, pace), 1)

    assert (len(server.seen), clock.slept) == (1, [])


# For ever


@pytest.mark.parametrize(
    "fault",
    [
        status(410, "Expired"),
        stream(line("ERROR", status_body(410, "Expired"))),
        stream(bookmark(2)),
        status(401, "Unauthorized"),
        status(403, "Forbidden"),
        status(500, "InternalError"),
        status(504, "Timeout"),
        reply(502, HTML, "text/html"),
        reply(200, HTML, "text/html"),
        reply(200, b""),
        stream(),
        stream(HTML),
        stream(b"[1]\n"),
        stream(then="cut"),
        stream(then="reset"),
        stream(added(6)[:-9], then="cut"),
        Reply(b"SSH-2.0-OpenSSH_9.2\r\n", "close"),
    ],
)
async def test_after_any_fault_of_a_watch_there_is_a_list_again(
    server: Scripted, api: Api, clock: HurriedClock, pace: Pace, fault: Reply
) -> None:
    server.script = [listing(5), fault, listing(7), stream(added(8), then="silence")]

    assert await told(watch_for_ever(api, PODS, pace), 3) == ["list 5", "list 7", "8"]

    assert clock.slept == [0.75]
    assert server.watches[-1].query["resourceVersion"] == "7"


@pytest.mark.parametrize("fault", [BROKEN, Reply(b"", "reset")])
async def test_a_connection_that_breaks_before_an_answer_leads_to_a_list(
    server: Scripted, api: Api, clock: HurriedClock, pace: Pace, fault: Reply
) -> None:
    # The HTTP client itself sends a request once more if a kept connection turns out to be closed.
    server.script = [listing(5), fault, fault, listing(7)]

    assert await told(watch_for_ever(api, PODS, pace), 2) == ["list 5", "list 7"]

    assert clock.slept == [0.75]


async def test_a_silent_watch_is_given_up_and_listed_again(
    server: Scripted, api: Api, pace: Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SHORTEST_WATCH", 0)
    monkeypatch.setattr(watching, "LONGEST_WATCH", 0)
    monkeypatch.setattr(watching, "GRACE", 0.05)
    server.script = [listing(5), stream(then="silence"), listing(7)]

    assert await told(watch_for_ever(api, PODS, pace), 2) == ["list 5", "list 7"]


async def test_a_list_that_is_refused_for_want_of_room_waits_as_it_is_told(
    server: Scripted, api: Api, clock: HurriedClock, pace: Pace
) -> None:
    server.script = [
        status(429, "TooManyRequests", Retry_After="20"),
        status(429, "TooManyRequests", Retry_After="86400"),
        listing(5),
    ]

    assert await told(watch_for_ever(api, PODS, pace), 1) == ["list 5"]

    assert clock.slept == [20.25, 60.5]


async def test_pauses_grow_until_there_is_progress(server: Scripted, api: Api, clock: HurriedClock, pace: Pace) -> None:
    away = [status(500, "InternalError")] * 6
    server.script = [
        *away,
        listing(5),
        stream(added(6)),
        away[0],
        away[0],
        listing(6),
        stream(added(7), then="silence"),
    ]

    await told(watch_for_ever(api, PODS, pace), 4)

    growing = [0.75, 1.5, 3.0, 6.0, 7.5, 7.5]
    assert clock.slept == [*growing, 0.1875, 0.75, 1.5]


@pytest.mark.parametrize(
    "fault",
    [
        BROKEN,
        reply(200, b""),
        reply(200, HTML, "text/html"),
        status(500, "InternalError"),
        status(403, "Forbidden"),
        status(401, "Unauthorized"),
        status(429, "TooManyRequests"),
        status(410, "Expired"),
    ],
)
@pytest.mark.parametrize("is_listed", [True, False])
async def test_requests_are_few_while_everything_fails(
    server: Scripted, api: Api, clock: HurriedClock, fault: Reply, is_listed: bool
) -> None:
    """With `is_listed` only the watches fail, so each round costs two requests."""
    times: list[float] = []

    def answer(seen: Seen) -> Reply:
        times.append(clock.elapsed)
        return listing(5) if is_listed and not seen.is_watch else fault

    server.otherwise = answer
    clock.ends_at = clock.elapsed + 120

    with pytest.raises(TimeIsOver):
        await told(watch_for_ever(api, PODS, Pace(clock, lambda: 0.0)), 1000)  # with the shortest pauses there are

    in_any_second = max(sum(begin <= time < begin + 1 for time in times) for begin in times)
    # The HTTP client itself sends a request once more if a kept connection turns out to be closed.
    assert in_any_second <= (6 if fault == BROKEN else 4)
    assert 20 < len(times) <= 90
