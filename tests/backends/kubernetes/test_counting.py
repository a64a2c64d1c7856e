"""What the Kubernetes backend counts: each request to the API server, and what it follows."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

import pytest

from proxy.backends.kubernetes.api import Api, ApiFailure, path_to
from proxy.backends.kubernetes.connection import Connection
from proxy.counts import ClusterCounts
from tests.backends.kubernetes.proxies import KEY, Proxy, until
from tests.backends.kubernetes.scripted import (
    BROKEN,
    HurriedClock,
    Scripted,
    line,
    listing,
    obj,
    status,
    stream,
    thing,
    write_kubeconfig,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

PODS = path_to("v1", "pods", "team")
POD = f"{PODS}/a"
A_POD = {"kind": "Pod"} | thing("a", 7)


@pytest.fixture
def counts() -> ClusterCounts:
    return ClusterCounts()


@pytest.fixture
async def api(server: Scripted, clock: HurriedClock, tmp_path: Path, counts: ClusterCounts) -> AsyncIterator[Api]:
    config = write_kubeconfig(tmp_path / "kubeconfig", f"http://127.0.0.1:{server.port}")
    api = Api(await Connection.open(config, None, clock, counts=counts), clock, lambda: 0.5)
    yield api
    await api.close()


@pytest.mark.parametrize(
    ("verb", "call"),
    [
        ("get", lambda api: api.get(POD)),
        ("list", lambda api: api.list(PODS)),
        ("create", lambda api: api.create(PODS, A_POD)),
        ("patch", lambda api: api.patch(POD, A_POD)),
        ("delete", lambda api: api.delete(POD)),
        ("log", lambda api: api.log_tail(POD, container="notebook")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_request_is_counted_by_verb_and_status(
    server: Scripted, api: Api, counts: ClusterCounts, verb: str, call: Callable[[Api], Awaitable[object]]
) -> None:
    server.script = [listing(5, thing("a", 3)) if verb == "list" else obj(A_POD)]

    await call(api)

    assert counts.calls.counts == {(verb, "200"): 1}
    assert sum(counts.call_seconds[verb].counts) == 1


async def test_watch_is_counted_when_it_begins(server: Scripted, api: Api, counts: ClusterCounts) -> None:
    server.script = [stream(line("ADDED", thing("b", 6)))]

    with suppress(ApiFailure):
        async with aclosing(api.watch(PODS, "5", seconds=240, grace=30)) as events:
            async for _ in events:
                pass

    assert counts.calls.counts == {("watch", "200"): 1}


async def test_every_repetition_is_counted_with_what_came_of_it(
    server: Scripted, api: Api, counts: ClusterCounts
) -> None:
    # The HTTP client itself repeats once, unseen, what breaks without an answer.
    server.script = [BROKEN, BROKEN, status(503, "ServiceUnavailable"), obj(A_POD)]

    await api.get(POD)

    assert counts.calls.counts == {("get", "503"): 1, ("get", "none"): 1, ("get", "200"): 1}


async def test_call_that_is_given_up_by_who_asked_is_no_failure_of_the_server(
    server: Scripted, api: Api, counts: ClusterCounts
) -> None:
    task = asyncio.create_task(api.get(POD))  # with an empty script the server is silent
    await until(lambda: bool(server.seen))

    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert counts.calls.counts == {}


async def test_whole_start_is_counted_and_divided_into_its_phases(proxy: Proxy) -> None:
    await proxy.ensure()

    counts, calls = proxy.supervisor.counts, proxy.backend.counts.calls.counts
    phases = {name for name, histogram in counts.phase_seconds.items() if sum(histogram.counts)}
    assert counts.starts.counts["ready",] == 1
    assert {"scheduled", "answering"} <= phases
    assert abs(sum(each.total for each in counts.phase_seconds.values()) - counts.start_seconds.total) < 0.05
    assert calls["create", "201"] >= 2  # a Deployment and a Service
    assert calls["watch", "200"] >= 3
    assert proxy.supervisor.report(KEY) is not None


async def test_everything_that_is_followed_tells_how_old_it_is(proxy: Proxy) -> None:
    followed = proxy.backend.counts.followed
    await until(lambda: all(each.age_of_last_sync() is not None for each in followed.values()))

    assert set(followed) == {"deployments", "services", "pods", "persistentvolumeclaims"}
    assert {name: each.restarts for name, each in followed.items()} == dict.fromkeys(followed, 0)
