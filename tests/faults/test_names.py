"""DNS that is not there yet: workspaces are reached without it, and the API server as soon as its name is known."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from tests.faults.stage import eventually

if TYPE_CHECKING:
    import pytest

    from tests.faults.stage import Stage

NAME = "api.example.invalid"


class Names:
    """A resolver that knows no name, until it is told one."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self.asked: set[str] = set()
        self._real = socket.getaddrinfo

    def find(self, host: Any, *rest: Any, **more: Any) -> Any:
        """Be `socket.getaddrinfo`."""
        name = host.decode() if isinstance(host, bytes) else host
        if name[0].isdigit():
            return self._real(name, *rest, **more)
        self.asked.add(name)
        if name not in self.known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return self._real(self.known[name], *rest, **more)


async def test_a_name_that_is_not_there_yet_is_waited_for_and_workspaces_need_none(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names()
    monkeypatch.setattr("socket.getaddrinfo", names.find)

    proxy = await stage.serve(host=NAME)

    assert await proxy.ops("/healthz") == (200, "ok\n")
    assert not await proxy.is_ready()
    assert await proxy.metric("kubernetes_requests_total", code="none") > 0
    names.known[NAME] = "127.0.0.1"
    await eventually(proxy.is_ready)
    assert await proxy.get("/ws/demo/api/status") == 200
    assert names.asked == {NAME}
