"""Workspaces that die or stand still beside others: theirs alone is the harm, and it is over by itself."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from aiohttp import WSMsgType

from proxy.workspace import Key
from tests.backends.kubernetes.proxies import KEY
from tests.faults.stage import ECHO, eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster import Cluster
    from tests.cluster.resources import Obj
    from tests.faults.stage import Served, Stage

HEALTHY = Key("healthy", "default")
WAITING = 50
TINY, FULL = ({"metadata": {}, "spec": {"containers": [{"image": name}]}} for name in ("tiny", "full"))


def pod_of(cluster: Cluster, key: Key = KEY) -> Obj:
    (pod,) = cluster.pods(app=key.deployment_name)
    return pod


async def pair(stage: Stage) -> Served:
    """Return a proxy with two workspaces, each on a node of its own."""
    proxy = await stage.serve(command=ECHO)
    for node, key in (("node-2", KEY), ("node-1", HEALTHY)):
        stage.cluster.cordon(node)
        assert await proxy.get(f"/ws/{key.workspace_id}/api/status") == 200
        stage.cluster.cordon(node, on=False)
    return proxy


HARMS: dict[str, Callable[[Cluster], object]] = {
    "its pod is out of memory": lambda cluster: cluster.kill(pod_of(cluster), out_of_memory=True),
    "its node is drained": lambda cluster: cluster.drain(pod_of(cluster)["spec"]["nodeName"]),
}


@pytest.mark.parametrize("what", HARMS)
async def test_a_websocket_ends_with_its_server_and_no_other_and_the_next_one_finds_the_new_server(
    stage: Stage, what: str
) -> None:
    proxy = await pair(stage)
    before = await proxy.body("/ws/demo/pid"), await proxy.body("/ws/healthy/pid")
    async with proxy.websocket("demo") as ends, proxy.websocket("healthy") as stays:
        for websocket in (ends, stays):
            await websocket.send_str("one")
            assert await websocket.receive_str() == "one"

        HARMS[what](stage.cluster)

        assert (await ends.receive()).type in {WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR}
        async with proxy.websocket("demo") as again:
            await again.send_str("two")
            assert await again.receive_str() == "two"
        await stays.send_str("two")
        assert await stays.receive_str() == "two"
        assert await proxy.body("/ws/healthy/pid") == before[1]
        assert await proxy.body("/ws/demo/pid") != before[0]

        async def is_counted() -> bool:
            return await proxy.metric("websockets") == 1

        await eventually(is_counted)
    assert await proxy.metric("workspace_changes_total", event="lost") >= 1
    assert await proxy.metric("workspaces", phase="running") == 2


async def test_a_workspace_that_stands_still_holds_up_nobody_else_and_answers_when_it_goes_on(stage: Stage) -> None:
    proxy = await pair(stage)
    container = stage.cluster.worker(pod_of(stage.cluster)).container
    assert container is not None
    async with AsyncExitStack() as stack:
        open_one = await stack.enter_async_context(proxy.websocket("demo"))
        os.killpg(container.pid, signal.SIGSTOP)
        try:
            await open_one.send_str("late")
            late = [asyncio.create_task(proxy.get("/ws/demo/x")) for _ in range(WAITING)]

            async def are_waiting() -> bool:
                return await proxy.metric("requests_in_flight") >= WAITING

            await eventually(are_waiting)
            for _ in range(20):
                assert await proxy.get("/ws/healthy/x") == 200
            async with proxy.websocket("healthy") as websocket:
                await websocket.send_str("now")
                assert await websocket.receive_str() == "now"
            assert await proxy.get("/ws/third/x") == 200
            assert not any(task.done() for task in late)
            assert await proxy.ops("/healthz") == (200, "ok\n")
        finally:
            os.killpg(container.pid, signal.SIGCONT)

        assert set(await asyncio.gather(*late)) == {200}
        assert await open_one.receive_str() == "late"
    assert await proxy.metric("workspace_changes_total", event="lost") == 0


async def test_a_volume_that_is_full_fails_its_own_start_alone_and_not_for_longer_than_it_is_full(stage: Stage) -> None:
    full, tiny = stage.cluster.images.find(FULL), stage.cluster.images.find(TINY)
    proxy = await stage.serve()
    assert await proxy.get("/ws/healthy/api/status") == 200

    stage.cluster.images.set("tiny", full)
    refused = await proxy.problem("/ws/demo/api/status")
    stage.cluster.images.set("tiny", tiny)

    assert refused == (503, "disk-full", True)
    assert await proxy.metric("starts_total", result="disk-full") == 1
    assert await proxy.get("/ws/healthy/api/status") == 200
    assert await proxy.get("/ws/third/api/status") == 200

    async def starts() -> bool:
        stage.clock.shift(1)
        return await proxy.get("/ws/demo/api/status") == 200

    await eventually(starts)
    assert await proxy.metric("workspaces", phase="running") == 3
    assert await proxy.metric("workspace_changes_total", event="lost") == 0
