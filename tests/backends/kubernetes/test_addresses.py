"""Where requests go: to what our own Services say, and to nobody who came there afterwards."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.backends.kubernetes.manifests import PORT
from tests.backends.kubernetes.proxies import KEY, NAME, Proxies, Proxy, fetch, get, until
from tests.cluster.resources import DEPLOYMENTS, SERVICES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from proxy.workspace import Handle
    from tests.cluster import Cluster


class Hostile:
    """A pod that got an address which was a workspace's: says yes to everything, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    @asynccontextmanager
    async def at(self, address: str) -> AsyncIterator[None]:
        """Listen there, as soon as nobody else does."""
        while True:
            try:
                server = await asyncio.start_server(self._answer, address, PORT)
                break
            except OSError:
                await asyncio.sleep(0)
        async with server:
            yield

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                self.asked.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()


async def ask(handle: Handle, token: str) -> int:
    """Return the status of a request with this token instead of the handle's own."""
    host, port = handle.address
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"token {token}"}) as session,
        session.get(f"http://{host}:{port}{handle.service_url.path}ws/{KEY.workspace_id}/api/status") as answer,
    ):
        return answer.status


async def test_who_gets_an_old_address_sees_one_request_at_most_and_a_token_that_opens_nothing(
    cluster: Cluster, proxies: Proxies
) -> None:
    proxy = await proxies.run()
    handle = await proxy.ensure()
    token = handle.headers["Authorization"].removeprefix("token ")
    assert await ask(handle, token) == 200
    hostile = Hostile()

    cluster.registry.delete(DEPLOYMENTS, "default", NAME)
    cluster.registry.delete(SERVICES, "default", NAME)
    async with hostile.at(handle.address[0]):
        while proxy.is_running():  # as a client does that asks again and again
            await fetch(await proxy.ensure())
        after = await proxy.ensure()

        assert after.address != handle.address
        assert after.headers != handle.headers
        assert (await fetch(after))[0] == 200
        assert await ask(after, token) == 403
    assert len(hostile.asked) <= 1


async def test_while_the_watch_is_silent_an_old_address_gets_what_is_sent_meanwhile_and_nothing_after_it(
    cluster: Cluster, proxies: Proxies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.backends.kubernetes.watching.SHORTEST_WATCH", 1)
    monkeypatch.setattr("proxy.backends.kubernetes.watching.LONGEST_WATCH", 1)
    monkeypatch.setattr("proxy.backends.kubernetes.watching.GRACE", 0.5)
    proxy = await proxies.run()
    handle = await proxy.ensure()
    token = handle.headers["Authorization"].removeprefix("token ")
    hostile = Hostile()

    cluster.break_watches("mute")
    cluster.registry.delete(DEPLOYMENTS, "default", NAME)
    cluster.registry.delete(SERVICES, "default", NAME)
    async with hostile.at(handle.address[0]):
        await fetch(await proxy.ensure())
        await until(lambda: not proxy.is_running(), 20)
        after = await proxy.ensure()
        assert (await fetch(after))[0] == 200
        assert await ask(after, token) == 403

    (seen,) = hostile.asked
    assert seen.startswith("GET /ws/demo/x ")
    assert token in seen


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None", "clusterIPs": ["None"]},
        {"type": "ExternalName", "externalName": "metadata.google.internal", "clusterIP": None, "clusterIPs": None},
        {"clusterIP": "", "clusterIPs": None, "externalIPs": ["169.254.169.254"]},
    ],
)
async def test_a_service_that_leads_elsewhere_than_into_the_cluster_leads_nowhere(
    cluster: Cluster, proxy: Proxy, spec: dict[str, object]
) -> None:
    handle = await proxy.ensure()

    service = get(cluster, SERVICES)
    cluster.store.put(SERVICES, {**service, "spec": {**service["spec"], **spec}})

    await until(lambda: not proxy.is_running())
    assert [lost for _, lost in proxy.supervisor.losses] == ["its Service was deleted, or has another address"]
    assert handle.address[0].startswith("127.")
