from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from proxy.backends.kubernetes.api import (
    ATTEMPT,
    DEADLINE,
    LONGEST_WAIT,
    REPETITIONS,
    Api,
    ApiError,
    ApiUnavailable,
    StreamCut,
    path_to,
)
from tests.backends.kubernetes.scripted import (
    BROKEN,
    HTML,
    SILENCE,
    HurriedClock,
    Reply,
    Scripted,
    api_of,
    bookmark,
    line,
    listing,
    obj,
    reply,
    status,
    stream,
    thing,
    versions,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from proxy.backends.kubernetes.wire import WatchEvent

PODS = path_to("v1", "pods", "team")
POD = path_to("v1", "pods", "team", "a")
A_POD = {"kind": "Pod"} | thing("a", 7)

reads_and_repeatable_writes = pytest.mark.parametrize(
    "call",
    [
        lambda api: api.get(POD),
        lambda api: api.patch(POD, {"metadata": {}}),
        lambda api: api.delete(POD),
        lambda api: api.log_tail(POD, container="notebook"),
    ],
    ids=["get", "patch", "delete", "log"],
)


async def watched(api: Api, seconds: int = 1, grace: float = 30.0, **options: Any) -> list[WatchEvent]:
    async with aclosing(api.watch(PODS, "5", seconds=seconds, grace=grace, **options)) as events:
        return [event async for event in events]


# What is sent


async def test_every_request_carries_credential_and_user_agent(server: Scripted, api: Api) -> None:
    server.script = [obj(A_POD)]

    found = await api.get(POD)

    assert found == A_POD
    assert server.seen[0].headers["authorization"] == "Bearer secret-token"
    assert server.seen[0].headers["user-agent"].startswith("notebook-proxy/0")


async def test_a_list_asks_with_selectors(server: Scripted, api: Api) -> None:
    server.script = [listing(9, thing("a", 3))]

    found = await api.list(PODS, labels="app=a,b in (c, d)", fields="metadata.name!=x+y")

    assert (versions(found.items), found.version) == ([("a", "3")], "9")
    assert server.seen[0].path == PODS
    assert server.seen[0].query["labelSelector"] == "app=a,b in (c, d)"
    assert server.seen[0].query["fieldSelector"] == "metadata.name!=x+y"


async def test_a_patch_is_a_merge_patch(server: Scripted, api: Api) -> None:
    server.script = [obj(A_POD)]

    await api.patch(POD, {"metadata": {"annotations": {"a": None}}})

    assert server.seen[0].method == "PATCH"
    assert server.seen[0].headers["content-type"] == "application/merge-patch+json"
    assert server.seen[0].json == {"metadata": {"annotations": {"a": None}}}


async def test_a_delete_sends_its_preconditions(server: Scripted, api: Api) -> None:
    server.script = [obj(A_POD)]

    await api.delete(POD, uid="uid-a", version="7", propagation="Foreground")

    assert server.seen[0].json == {
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": "uid-a", "resourceVersion": "7"},
    }


async def test_a_created_object_comes_back_as_stored(server: Scripted, api: Api) -> None:
    server.script = [obj(A_POD, 201)]

    assert await api.create(PODS, {"metadata": {"name": "a"}}) == A_POD
    assert (server.seen[0].method, server.seen[0].path) == ("POST", PODS)


async def test_the_log_is_text_and_bounded(server: Scripted, api: Api) -> None:
    server.script = [reply(200, "one\ntwö\n".encode() + b"\xff", "text/plain")]

    assert await api.log_tail(POD, container="notebook", lines=5, previous=True) == "one\ntwö\n\ufffd"
    assert server.seen[0].path == POD + "/log"
    query = server.seen[0].query
    assert (query["container"], query["tailLines"], query["previous"]) == ("notebook", "5", "true")
    assert int(query["limitBytes"]) < 2**20


async def test_proxy_variables_and_netrc_are_not_heeded(
    server: Scripted, clock: HurriedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    server.script = [obj(A_POD)]
    api = await api_of(server.port, tmp_path, clock)

    await api.get(POD)

    assert server.seen[0].headers["authorization"] == "Bearer secret-token"
    await api.close()


async def test_no_body_and_no_credential_is_ever_logged(
    server: Scripted, api: Api, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = {"kind": "Secret", "data": {"token": "very-secret"}}
    server.script = [obj(secret), obj(secret, 201), status(422, "Invalid", "very-secret")]

    await api.get(POD)
    await api.create(PODS, secret)
    with pytest.raises(ApiError):
        await api.create(PODS, secret)

    assert "secret" not in caplog.text


# Lists


async def test_a_list_is_read_page_by_page(server: Scripted, api: Api) -> None:
    server.script = [listing(9, thing("a", 1), rest="more"), listing(9, thing("b", 2), rest="yet"), listing(9)]

    found = await api.list(PODS, labels="x=y")

    assert versions(found.items) == [("a", "1"), ("b", "2")]
    assert [seen.query.get("continue") for seen in server.seen] == [None, "more", "yet"]
    assert {(seen.query["limit"], seen.query["labelSelector"]) for seen in server.seen} == {("500", "x=y")}


async def test_a_list_whose_continuation_expired_is_read_in_one_piece(server: Scripted, api: Api) -> None:
    server.script = [
        listing(9, thing("a", 1), rest="more"),
        status(410, "Expired"),
        listing(12, thing("a", 10), thing("b", 11)),
    ]

    found = await api.list(PODS)

    assert (versions(found.items), found.version) == ([("a", "10"), ("b", "11")], "12")
    assert "limit" not in server.seen[-1].query


async def test_a_list_without_end_is_given_up(server: Scripted, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy.backends.kubernetes.api._PAGES", 20)
    server.otherwise = listing(9, thing("a", 1), rest="more")

    with pytest.raises(ApiUnavailable, match="no end"):
        await api.list(PODS)

    assert len(server.seen) == 20


async def test_a_list_that_is_gone_at_once_is_an_error(server: Scripted, api: Api) -> None:
    server.script = [status(410, "Expired")]

    with pytest.raises(ApiError) as caught:
        await api.list(PODS)

    assert caught.value.is_gone


@pytest.mark.parametrize("items", [b"[]", b"null"])
async def test_an_empty_list_is_one_that_says_so(server: Scripted, api: Api, items: bytes) -> None:
    server.script = [reply(200, b'{"kind":"PodList","metadata":{"resourceVersion":"4"},"items":%s}' % items)]

    assert await api.list(PODS) == ([], "4")


@pytest.mark.parametrize(
    "answer",
    [
        reply(200, b""),
        reply(200, HTML, "text/html"),
        reply(200, b"[]"),
        reply(200, b"{}"),
        reply(200, b'{"items":[]}'),
        reply(200, b'{"kind":"Pod","metadata":{"resourceVersion":"1"},"items":[]}'),
        reply(200, b'{"kind":"PodList","metadata":{"resourceVersion":"1"}}'),
        reply(200, b'{"kind":"PodList","metadata":{},"items":[]}'),
        reply(200, b'{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":[{}]}'),
        reply(200, b'{"kind":"PodList","metadata":{"resourceVersion":"1"},"items":['),
        reply(200, b"[" * 100_000),
        reply(200, b'{"kind":"Status","status":"Failure","code":500}'),
        reply(204, b""),
        reply(502, HTML, "text/html"),
        status(500, "InternalError"),
        status(403, "Forbidden"),
        Reply(reply(200, b"x" * 50).sent[:-10], "close"),
        BROKEN,
    ],
)
async def test_nothing_else_is_taken_for_an_empty_list(server: Scripted, api: Api, answer: Reply) -> None:
    server.otherwise = answer

    with pytest.raises((ApiError, ApiUnavailable)):
        await api.list(PODS)


# What is repeated, and when


@reads_and_repeatable_writes
@pytest.mark.parametrize("fault", [BROKEN, status(500, "InternalError"), reply(502, HTML, "text/html")])
async def test_what_can_be_repeated_is_repeated_with_growing_pauses(
    server: Scripted, api: Api, clock: HurriedClock, fault: Reply, call: Callable[[Api], Awaitable[object]]
) -> None:
    server.otherwise = lambda _: fault if len(clock.slept) < 3 else obj(A_POD)

    await call(api)

    # With chance at its middle: three quarters of 0.25, 0.5 and 1 s.
    assert clock.slept == [0.1875, 0.375, 0.75]


async def test_repetitions_end(server: Scripted, api: Api, clock: HurriedClock) -> None:
    server.otherwise = status(500, "InternalError", "etcd is away")

    with pytest.raises(ApiError, match="etcd is away"):
        await api.get(POD)

    assert len(server.seen) == REPETITIONS + 1
    assert sum(clock.slept) < DEADLINE


@pytest.mark.parametrize("chance", [0.0, 1.0])
async def test_half_of_a_pause_is_chance(server: Scripted, clock: HurriedClock, tmp_path: Path, chance: float) -> None:
    api = await api_of(server.port, tmp_path, clock, lambda: chance)
    server.script = [status(500, "InternalError"), obj(A_POD)]

    await api.get(POD)

    assert clock.slept == [0.125 + 0.125 * chance]
    await api.close()


async def test_without_repeat_a_list_is_tried_once(server: Scripted, api: Api) -> None:
    server.script = [status(500, "InternalError"), listing(1)]

    with pytest.raises(ApiError):
        await api.list(PODS, repeat=False)


@pytest.mark.parametrize("code", [400, 403, 404, 409, 410, 422])
async def test_a_refusal_is_not_repeated(server: Scripted, api: Api, code: int) -> None:
    server.otherwise = status(code, "Because")

    with pytest.raises(ApiError) as caught:
        await api.get(POD)

    assert (caught.value.status, caught.value.may_be_done, len(server.seen)) == (code, False, 1)


@pytest.mark.parametrize("code", [429, 503])
async def test_retry_after_is_heeded_by_every_verb(server: Scripted, api: Api, clock: HurriedClock, code: int) -> None:
    server.script = [status(code, "TooManyRequests", Retry_After="3"), obj(A_POD, 201)]

    await api.create(PODS, {})

    assert 3 < clock.slept[0] < 4


async def test_who_is_asked_to_wait_long_is_told_so_instead(server: Scripted, api: Api, clock: HurriedClock) -> None:
    server.script = [status(429, "TooManyRequests", Retry_After=str(int(LONGEST_WAIT) + 1))]

    with pytest.raises(ApiError) as caught:
        await api.get(POD)

    assert (caught.value.retry_after, clock.slept) == (LONGEST_WAIT + 1, [])


@pytest.mark.parametrize("fault", [BROKEN, reply(200, HTML, "text/html"), status(500, "InternalError"), SILENCE])
async def test_a_post_that_may_be_done_is_not_repeated_but_reported(
    server: Scripted, api: Api, clock: HurriedClock, fault: Reply, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.backends.kubernetes.api.ATTEMPT", 0.2)
    server.otherwise = fault

    with pytest.raises((ApiError, ApiUnavailable)) as caught:
        await api.create(PODS, {})

    assert (caught.value.may_be_done, len(server.seen)) == (True, 1)
    assert clock.slept == []


async def test_a_post_that_could_not_be_sent_is_repeated(clock: HurriedClock, tmp_path: Path) -> None:
    api = await api_of(1, tmp_path, clock)  # nothing listens on port 1

    with pytest.raises(ApiUnavailable) as caught:
        await api.create(PODS, {})

    assert (caught.value.may_be_done, len(clock.slept)) == (False, REPETITIONS)
    await api.close()


# Deadlines


@reads_and_repeatable_writes
async def test_a_silent_peer_ends_a_call_at_its_deadline(
    server: Scripted,
    clock: HurriedClock,
    tmp_path: Path,
    call: Callable[[Api], Awaitable[object]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.backends.kubernetes.api.ATTEMPT", 0.02)
    api = await api_of(server.port, tmp_path, clock)

    with pytest.raises(ApiUnavailable, match="in time"):
        await call(api)

    await api.close()


async def test_a_body_that_stops_ends_a_call_at_its_deadline(server: Scripted, api: Api) -> None:
    server.otherwise = Reply(reply(200, b"x" * 50).sent[:-10], "silence")

    with pytest.raises(ApiUnavailable, match="in time"):
        await api.get(POD, deadline=0.05)


async def test_no_repetition_begins_after_the_deadline(server: Scripted, api: Api, clock: HurriedClock) -> None:
    server.otherwise = status(500, "InternalError")

    with pytest.raises(ApiError):
        await api.get(POD, deadline=1.0)

    assert clock.slept == [0.1875, 0.375]
    assert ATTEMPT < DEADLINE


async def test_cancelling_a_call_ends_it(server: Scripted, api: Api) -> None:
    call = asyncio.create_task(api.get(POD))
    await server.has_seen(1)

    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call


async def test_the_longest_wait_is_that_of_the_oldest_call_under_way(
    server: Scripted, api: Api, clock: HurriedClock
) -> None:
    assert api.longest_wait() == 0
    oldest = asyncio.create_task(api.get(POD))
    await server.has_seen(1)
    clock.elapsed += 3
    newer = asyncio.create_task(api.get(POD))
    await server.has_seen(2)
    clock.elapsed += 1
    waited = [api.longest_wait()]

    for call in (oldest, newer):
        call.cancel()
        await asyncio.wait((call,))
        waited.append(api.longest_wait())

    assert waited == [4, 1, 0]


# Watches


async def test_a_watch_yields_its_events_and_ends(server: Scripted, api: Api) -> None:
    server.script = [stream(line("ADDED", thing("a", 6)), bookmark(8), line("DELETED", thing("a", 9)))]

    events = await watched(api, labels="x=y", fields="f=g")

    assert [(event.type, event.version) for event in events] == [("ADDED", "6"), ("BOOKMARK", "8"), ("DELETED", "9")]
    assert server.seen[0].query == {
        "labelSelector": "x=y",
        "fieldSelector": "f=g",
        "watch": "true",
        "allowWatchBookmarks": "true",
        "resourceVersion": "5",
        "timeoutSeconds": "1",
    }


async def test_a_status_is_looked_at_before_a_watch_is_parsed(server: Scripted, api: Api) -> None:
    server.script = [status(410, "Expired"), reply(502, HTML, "text/html")]

    with pytest.raises(ApiError) as gone:
        await watched(api)
    with pytest.raises(ApiError) as bad:
        await watched(api)

    assert gone.value.is_gone
    assert (bad.value.status, len(server.seen)) == (502, 2)


async def test_a_watch_that_is_reset_can_go_on(server: Scripted, api: Api) -> None:
    server.script = [stream(line("ADDED", thing("a", 6)), then="reset")]

    with pytest.raises(StreamCut):
        await watched(api)


async def test_a_silent_watch_is_given_up(server: Scripted, api: Api) -> None:
    server.script = [stream(then="silence")]

    with pytest.raises(ApiUnavailable) as caught:
        await watched(api, seconds=0, grace=0.05)

    assert not isinstance(caught.value, StreamCut)


async def test_a_watch_that_is_closed_ends_its_connection(server: Scripted, api: Api) -> None:
    server.script = [stream(line("ADDED", thing("a", 6)), then="silence")]
    stream_ = api.watch(PODS, "5", seconds=300, grace=30)

    event = await anext(stream_)
    await stream_.aclose()

    assert event.version == "6"
    await server.is_idle()
