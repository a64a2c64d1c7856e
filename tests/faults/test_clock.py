"""A wall clock that somebody sets: what is used is not reaped by it, what is idle is, and it is told."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from tests.backends.kubernetes.proxies import look, uid
from tests.faults.stage import eventually

if TYPE_CHECKING:
    from tests.faults.stage import Served, Stage

INTERVAL = 300
LOOKS = 6  # of the reaper: `idle_ttl`, the quarter of it that what is stored may be behind, and then one more


async def let_the_reaper_look(stage: Stage, proxy: Served) -> None:
    stage.clock.shift(INTERVAL)

    async def has_looked() -> bool:
        return await proxy.metric("reaper_age_seconds") < INTERVAL

    await eventually(has_looked)


@pytest.mark.parametrize("days", [-400, -1, 1, 400])
async def test_a_wall_clock_that_jumps_neither_reaps_what_is_used_nor_keeps_what_is_idle(
    stage: Stage, days: int
) -> None:
    proxy = await stage.serve(idle_ttl=timedelta(seconds=4 * INTERVAL), reap_interval=timedelta(seconds=INTERVAL))
    assert await proxy.get("/ws/demo/api/status") == 200
    before = uid(stage.cluster)

    stage.clock.jump(days * 86400)
    await let_the_reaper_look(stage, proxy)
    await let_the_reaper_look(stage, proxy)

    assert uid(stage.cluster) == before
    assert await proxy.metric("log_messages_total", level="warning", logger="proxy.walltime") == 1
    assert await proxy.metric("reaps_total") == 0
    assert await proxy.get("/ws/demo/api/status") == 200
    for _ in range(LOOKS):
        await let_the_reaper_look(stage, proxy)
    await stage.cluster.until(lambda: look(stage.cluster) is None)
    assert await proxy.get("/ws/demo/api/status") == 200
