"""A task in the background that raises: `/healthz` names it, a metric counts it, and requests are served as before."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import proxy as package
from proxy.reaper import Reaper
from tests.backends.kubernetes.proxies import look
from tests.faults.stage import eventually

if TYPE_CHECKING:
    from tests.faults.stage import Stage

HOUR = 3600
PACKAGE = Path(package.__file__).parent
TASKS = {
    "reaper": "proxy.supervisor.Supervisor.run_reaper",
    "sweeper": "proxy.backends.kubernetes.sweeper.Sweeper.run",
    "look at changed files": "proxy.fresh.Fresh.run",
    "look at open websockets": "proxy.auth.vigil.Vigil.run",
}
OF_THE_REAPER = {"Reaper.run", "Warnings.run"}  # whose end is its own


def is_ours(task: asyncio.Task[Any]) -> bool:
    """Tell whether a task runs a function of the package."""
    coroutine = task.get_coro()
    return inspect.iscoroutine(coroutine) and Path(coroutine.cr_code.co_filename).is_relative_to(PACKAGE)


async def test_no_task_lives_as_long_as_the_proxy_and_is_not_missed_when_it_is_over(stage: Stage) -> None:
    proxy = await stage.serve()
    await eventually(proxy.is_ready)
    assert await proxy.get("/ws/demo/api/status") == 200
    followed = proxy.app.vitals._tasks

    async def are_all_followed() -> bool:
        others = {task for task in asyncio.all_tasks() if is_ours(task)} - set(followed)
        return {task.get_coro().__qualname__ for task in others} <= OF_THE_REAPER  # type: ignore[union-attr]

    await eventually(are_all_followed)  # what serves a request is over soon
    assert {*TASKS, "adoption", "reflector of deployments"} <= {task.get_name() for task in followed}


@pytest.mark.parametrize("name", TASKS)
async def test_a_task_that_raises_is_named_and_counted_and_requests_go_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    gate = asyncio.Event()

    async def breaks(*_: object) -> None:
        await gate.wait()
        raise SystemError("a defect")

    monkeypatch.setattr(TASKS[name], breaks)
    proxy = await stage.serve(raises=True)
    await eventually(proxy.is_ready)
    assert await proxy.ops("/healthz") == (200, "ok\n")

    gate.set()

    async def is_named() -> bool:
        return await proxy.ops("/healthz") == (503, f"{name} is dead\n")

    await eventually(is_named)
    assert await proxy.metric("log_messages_total", level="error", logger="proxy.vitals") == 1
    assert await proxy.is_ready()
    assert await proxy.get("/ws/demo/api/status") == 200


async def test_a_look_of_the_reaper_that_meets_a_defect_is_counted_and_the_next_is_as_good_as_ever(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await stage.serve(idle_ttl=timedelta(minutes=10), reap_interval=timedelta(minutes=5))
    assert await proxy.get("/ws/demo/api/status") == 200

    def breaks(*_: object) -> None:
        raise SystemError("a defect")

    async def is_counted() -> bool:
        return await proxy.metric("reaper_errors_total") == 1

    with monkeypatch.context() as patched:
        patched.setattr(Reaper, "_is_candidate", breaks)
        stage.clock.shift(HOUR)
        await eventually(is_counted)
    assert await proxy.ops("/healthz") == (200, "ok\n")
    assert look(stage.cluster) is not None

    stage.clock.shift(HOUR)

    await stage.cluster.until(lambda: look(stage.cluster) is None)
    assert await proxy.get("/ws/demo/api/status") == 200
