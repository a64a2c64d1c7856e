"""A real kernel that computes keeps its workspace though nobody uses it, and a workspace ends once its work does."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import aiohttp

from proxy.backends.kernels import Work, ask
from proxy.backends.local import LocalBackend
from proxy.config import Config
from proxy.report import Fate, Report
from proxy.supervisor import Supervisor
from proxy.workspace import Key, Phase

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from proxy.workspace import Handle

KEY = Key("demo", "default")
IDLE_TTL = timedelta(seconds=2)
PATIENCE = 60.0
COMPUTE = """
import pathlib, time
pathlib.Path("computing").touch()
while not pathlib.Path("enough").exists():
    time.sleep(0.02)
"""


async def until(condition: Callable[[], bool], what: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)
    assert condition(), what


async def compute(handle: Handle, code: str) -> None:
    """Begin a computation in a new kernel, and go away."""
    base = f"{handle.service_url.origin()}/ws/{KEY.workspace_id}/api/"
    async with aiohttp.ClientSession(headers=dict(handle.headers)) as session:
        async with session.post(base + "kernels", json={"name": "python3"}) as response:
            kernel: dict[str, Any] = await response.json()
        async with session.ws_connect(f"{base}kernels/{kernel['id']}/channels") as channels:
            header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "session": "s", "username": "u"}
            header |= {"date": datetime.now(UTC).isoformat(), "version": "5.3"}
            content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
            message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
            await channels.send_json(message)
            async for received in channels:
                told = received.json()
                if told["msg_type"] == "status" and told["parent_header"].get("msg_id") == header["msg_id"]:
                    assert told["content"]["execution_state"] == "busy"
                    return


async def test_kernel_that_computes_keeps_its_workspace_which_is_reaped_after_it_has_ended(tmp_path: Path) -> None:
    config = Config(idle_ttl=IDLE_TTL, reap_interval=timedelta(seconds=0.2), local_root=tmp_path)
    backend = LocalBackend(tmp_path, failed_ttl=timedelta(minutes=2), stop_grace=timedelta(seconds=5))
    supervisor = Supervisor(backend, config)

    def report() -> Report:
        found = supervisor.report(KEY)
        assert found is not None
        return found

    try:
        handle = await supervisor.ensure_running(KEY)
        assert await ask(KEY, handle) == Work()
        await compute(handle, COMPUTE)
        await until((tmp_path / "demo" / "computing").exists, "it computes")
        supervisor.touch(KEY)
        reaper = asyncio.create_task(supervisor.run_reaper())
        await until(lambda: report().fate is Fate.BUSY, "it is seen to be busy")

        last_active = report().last_active
        assert last_active is not None
        await until(lambda: datetime.now(UTC) > last_active + 2 * IDLE_TTL, "it would be reaped if it were idle")
        kept = report()
        (tmp_path / "demo" / "enough").touch()
        ended = datetime.now(UTC)
        await until(lambda: report().phase is Phase.STOPPED, "it is reaped once it is idle")
        reaper.cancel()
        await asyncio.wait((reaper,))
    finally:
        await supervisor.close()
        await backend.close()

    assert kept.phase is Phase.RUNNING
    assert kept.counted is not None
    assert kept.counted.what == "kernel busy"
    stopped = report().stopped
    assert stopped is not None
    assert stopped.reason == "It has not been used for 2s."
    assert stopped.at - ended >= IDLE_TTL - timedelta(seconds=1)
