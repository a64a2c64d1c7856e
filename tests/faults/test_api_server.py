"""An API server that is away, comes and goes, or says nothing: what runs is served, and all is well after it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.workspace import Key
from tests.backends.kubernetes.proxies import KEY, NAME, ago, annotate, get, is_ready, look, put, uid
from tests.cluster.resources import DEPLOYMENTS
from tests.faults.stage import eventually

if TYPE_CHECKING:
    from tests.faults.stage import Stage

IDLE = Key("idle", "default")
HOUR = 3600


@pytest.mark.parametrize("how", ["down", "mute"])
async def test_away_at_the_start_it_is_not_ready_until_it_has_seen_what_runs(stage: Stage, how: str) -> None:
    put(stage.cluster, stage.config())
    await stage.cluster.until(lambda: is_ready(stage.cluster))
    before = uid(stage.cluster)
    if how == "down":
        await stage.link.down()
    else:
        stage.link.mute()

    proxy = await stage.serve()

    assert await proxy.ops("/healthz") == (200, "ok\n")
    assert await proxy.ops("/readyz") == (503, "waits for the first sight of the cluster\n")
    if how == "down":
        assert await proxy.problem("/ws/demo/api/status") == (503, "api-unavailable", True)
        assert await proxy.metric("kubernetes_requests_total", code="none") > 0
    await stage.link.up()
    await eventually(proxy.is_ready)

    async def is_served() -> bool:  # at once, unless somebody asked meanwhile: then when that start looks again
        return await proxy.get("/ws/demo/api/status") == 200

    await eventually(is_served)
    assert uid(stage.cluster) == before


@pytest.mark.parametrize("how", ["down", "mute"])
async def test_away_for_an_hour_what_runs_is_served_and_what_is_idle_is_reaped_only_after_it(
    stage: Stage, how: str
) -> None:
    proxy = await stage.serve(idle_ttl=timedelta(minutes=10), reap_interval=timedelta(minutes=5))
    for workspace_id in ("demo", "idle"):
        assert await proxy.get(f"/ws/{workspace_id}/api/status") == 200
    before = uid(stage.cluster)

    if how == "down":
        await stage.link.down()
    else:
        stage.link.mute()
    for _ in range(12):
        assert await proxy.get("/ws/demo/api/status") == 200
        stage.clock.shift(HOUR / 12)
        await asyncio.sleep(0.02)
    assert await proxy.get("/ws/demo/api/status") == 200

    assert await proxy.ops("/healthz") == (200, "ok\n")
    assert await proxy.is_ready()
    assert await proxy.metric("workspaces", phase="running") == 2
    ages = {labels["resource"]: value for labels, value in await proxy.series("kubernetes_sync_age_seconds")}
    assert min(ages.values()) >= HOUR
    await stage.link.up()

    async def is_in_sight() -> bool:
        stage.clock.shift(10)
        return max(value for _, value in await proxy.series("kubernetes_sync_age_seconds")) < 60

    await eventually(is_in_sight)
    stage.clock.shift(300)  # the reaper looks
    await stage.cluster.until(lambda: look(stage.cluster, DEPLOYMENTS, IDLE) is None)
    assert await proxy.get("/ws/demo/api/status") == 200
    assert uid(stage.cluster) == before

    async def is_counted() -> bool:
        return await proxy.metric("reaps_total", reason="idle") == 1

    await eventually(is_counted)
    assert await proxy.metric("workspace_changes_total", event="lost") == 0


async def test_coming_and_going_it_hurts_nobody_who_runs_and_starts_come_through(stage: Stage) -> None:
    proxy = await stage.serve()
    assert await proxy.get("/ws/demo/api/status") == 200
    before = uid(stage.cluster)
    changes = stage.cluster.record_changes()

    async def starts() -> bool:
        return await proxy.get("/ws/other/api/status") == 200

    starting = asyncio.create_task(eventually(starts, 60))
    for _ in range(8):
        await stage.link.down()
        assert await proxy.get("/ws/demo/api/status") == 200
        stage.clock.shift(2)
        await asyncio.sleep(0.05)
        await stage.link.up()
        assert await proxy.get("/ws/demo/api/status") == 200
        stage.clock.shift(2)
        await asyncio.sleep(0.05)
    await starting

    made = [change.key[1] for change in changes if change.resource == DEPLOYMENTS and change.type == "ADDED"]
    assert made == ["notebook-other"]
    assert uid(stage.cluster) == before
    assert await proxy.metric("kubernetes_watch_restarts_total", resource="deployments") > 1
    assert await proxy.metric("workspace_changes_total", event="lost") == 0


async def test_silent_watches_are_given_up_and_what_went_unseen_is_seen(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("SHORTEST_WATCH", 1), ("LONGEST_WATCH", 1), ("GRACE", 0.5)):
        monkeypatch.setattr(f"proxy.backends.kubernetes.watching.{name}", seconds)
    proxy = await stage.serve()
    assert await proxy.get("/ws/demo/api/status") == 200
    before = await proxy.metric("kubernetes_watch_restarts_total", resource="deployments")

    stage.link.mute()
    stage.cluster.registry.delete(DEPLOYMENTS, "default", NAME)
    await stage.cluster.until(lambda: look(stage.cluster) is None)

    async def is_given_up() -> bool:
        return await proxy.metric("kubernetes_watch_restarts_total", resource="deployments") > before

    await eventually(is_given_up)
    await stage.link.up()

    async def is_seen() -> bool:
        return await proxy.metric("workspaces", phase="running") == 0

    await eventually(is_seen)
    assert await proxy.get("/ws/demo/api/status") == 200
    assert KEY in proxy.app.supervisor.phases()


async def test_five_hundred_that_run_are_adopted_at_a_restart_and_none_is_reaped(stage: Stage) -> None:
    config, keys = stage.config(), [Key(f"demo-{number}", "default") for number in range(500)]
    stage.cluster.manager.hold()  # nobody looks behind what is said to be ready
    for key in keys:
        put(stage.cluster, config, key)
        annotate(stage.cluster, key, last_active=ago(4.9 * HOUR))  # due, but for what a crash may not have stored
        deployment = get(stage.cluster, DEPLOYMENTS, key)
        ready = {"observedGeneration": deployment["metadata"]["generation"], "replicas": 1, "readyReplicas": 1}
        stage.cluster.registry.set_status(DEPLOYMENTS, deployment, ready | {"updatedReplicas": 1})
        await asyncio.sleep(0)

    proxy = await stage.serve()
    await eventually(proxy.is_ready)
    await proxy.app.supervisor._reaper.tick()

    assert await proxy.metric("workspaces", phase="running") == len(keys)
    assert stage.cluster.requests.count(verb="delete") == stage.cluster.requests.count(verb="patch") == 0
    assert stage.cluster.requests.count(verb="list") < 20
