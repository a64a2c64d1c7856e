"""The port for probes: what it says of a proxy that is well, starts, ends, or has lost a task; and who reaches it."""

from __future__ import annotations

import asyncio
import errno
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from proxy.app import App, make_backend
from proxy.config import Config, load
from proxy.errors import ConfigError
from tests.auth.tokens import jwk
from tests.gateway.conftest import MovingBackend
from tests.relay.origin import Answers, Origin, ask, connect, until

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator
    from pathlib import Path

    from proxy.backends import Backend


@asynccontextmanager
async def serving(backend: Backend | None = None, **settings: Any) -> AsyncIterator[App]:
    config = Config(**{"listen": "127.0.0.1:0", "ops_listen": "127.0.0.1:0", **settings})
    async with Origin(Answers()) as origin, App(config, backend or MovingBackend(origin.port)) as app:
        yield app


async def get(app: App, path: str, method: str = "GET") -> tuple[int, str]:
    async with ClientSession(app.ops.url) as client, client.request(method, path) as response:
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Connection"] == "close"  # probes of many nodes must find room
        return response.status, await response.text()


def task(name: str) -> asyncio.Task[Any]:
    [found] = [task for task in asyncio.all_tasks() if task.get_name() == name]
    return found


async def test_a_proxy_that_is_well_says_so() -> None:
    async with serving() as app:
        assert await get(app, "/healthz") == (200, "ok\n")
        assert await get(app, "/readyz?verbose") == (200, "ok\n")
        assert await get(app, "/healthz", "HEAD") == (200, "")
        status, text = await get(app, "/metrics")
        assert status == 200
        assert "# TYPE" in text


@pytest.mark.parametrize("name", ["reaper", "look at changed files"])
async def test_a_dead_task_is_visible(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as app:
        task(name).cancel()
        await asyncio.wait((task(name),))

        assert await get(app, "/healthz") == (503, f"{name} is dead\n")
        assert await get(app, "/readyz") == (200, "ok\n")  # it still serves
    assert f"a task is over that must live: name={name}" in caplog.text


async def test_a_reaper_that_breaks_is_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(_: object) -> None:
        raise SystemError("a defect")

    monkeypatch.setattr("proxy.reaper.Reaper.run", breaks)
    app = App(Config(listen="127.0.0.1:0", ops_listen="127.0.0.1:0"), MovingBackend(1))
    await app.__aenter__()
    await until(app.vitals.dead)

    assert await get(app, "/healthz") == (503, "reaper is dead\n")
    with pytest.raises(ExceptionGroup):  # its failure is told again at the end
        await app.__aexit__()


@asynccontextmanager
async def issuing() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Publish keys; none at first. Yields the address, and the keys."""
    keys: list[dict[str, Any]] = []

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"keys": keys})

    site = web.Application()
    site.router.add_get("/keys", answer)
    async with TestServer(site) as server:
        yield str(server.make_url("/keys")), keys


async def test_who_fetches_the_keys_of_tokens_is_missed_and_the_first_ones_are_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("proxy.auth.jwks._FIRST_GAP", 0.01)
    async with issuing() as (url, keys), serving(auth="jwt", jwt_jwks_url=url) as app:
        assert await get(app, "/readyz") == (503, "waits for the keys of its tokens' issuer\n")
        assert await get(app, "/healthz") == (200, "ok\n")
        keys.append(jwk("ES256", kid="one"))
        await until(lambda: not app.vitals.unready())
        keys.clear()
        assert await get(app, "/readyz") == (200, "ok\n")

        task("jwks").cancel()
        await until(app.vitals.dead)

        assert await get(app, "/healthz") == (503, "jwks is dead\n")


async def test_without_a_reaper_none_is_missed() -> None:
    async with serving(reaper=False) as app:
        assert await get(app, "/healthz") == (200, "ok\n")


class SlowBackend(MovingBackend):
    """Opens when it is told to."""

    async def open(self) -> None:
        await self.gate.wait()


async def test_a_start_is_alive_before_it_is_ready() -> None:
    backend = SlowBackend(1)
    backend.gate.clear()
    app = App(Config(listen="127.0.0.1:0", ops_listen="127.0.0.1:0"), backend)
    start = asyncio.create_task(app.__aenter__())
    await until(lambda: app.ops.url)

    assert await get(app, "/healthz") == (200, "ok\n")
    assert await get(app, "/readyz") == (503, "waits for its listening socket\n")
    assert (await get(app, "/metrics"))[0] == 503
    backend.gate.set()
    await start
    assert await get(app, "/readyz") == (200, "ok\n")
    await app.__aexit__()


async def test_an_end_is_not_ready_and_alive_to_the_last() -> None:
    async with Origin() as origin:
        config = Config(listen="127.0.0.1:0", ops_listen="127.0.0.1:0", shutdown_grace=timedelta(seconds=60))
        app = App(config, MovingBackend(origin.port))
        await app.__aenter__()
        client = await connect(int(app.url.rpartition(":")[2]))
        client.send(ask())
        await origin.asked()

        end = asyncio.create_task(app.__aexit__())
        await until(lambda: app.is_draining)

        assert await get(app, "/readyz") == (503, "is ending\n")
        assert await get(app, "/healthz") == (200, "ok\n")
        app.hurry.set()
        await end
        await client.closed()


async def test_a_proxy_without_an_api_server_is_alive_and_not_ready(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("proxy.backends.kubernetes.backend.FIRST_SYNC", 0.05)
    (tmp_path / "kubeconfig").write_text(
        '{"apiVersion": "v1", "kind": "Config", "current-context": "a", "contexts": [{"name": "a", "context": '
        '{"cluster": "a", "user": "a"}}], "clusters": [{"name": "a", "cluster": {"server": "http://127.0.0.1:1"}}], '
        '"users": [{"name": "a", "user": {}}]}'
    )
    config = Config(backend="kubernetes", kubeconfig=str(tmp_path / "kubeconfig"))

    async with serving(make_backend(config)) as app:
        assert await get(app, "/readyz") == (503, "waits for the first sight of the cluster\n")
        assert await get(app, "/healthz") == (200, "ok\n")
        task("reflector of deployments").cancel()
        await until(app.vitals.dead)
        assert await get(app, "/healthz") == (503, "reflector of deployments is dead\n")


# Who reaches what -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_none_of_it_is_on_the_public_port(path: str) -> None:
    async with serving() as app, ClientSession(app.url) as client, client.get(path) as response:
        assert response.status == 404


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/healthz", 405), ("GET", "/ws/demo/lab", 404)])
async def test_nothing_else_is_on_this_port(method: str, path: str, status: int) -> None:
    async with serving() as app:
        assert (await get(app, path, method))[0] == status
        assert app.supervisor.known() == []


async def test_off_opens_no_port() -> None:
    async with serving(ops_listen="off") as app:
        assert app.ops.url is None


def _taken(*_: object) -> socket.socket:
    raise OSError(errno.EADDRINUSE, "Address already in use")


def test_a_second_proxy_goes_without_where_the_default_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    app = App(Config(), MovingBackend(1))

    app.ops.open("127.0.0.1:8081", _taken)

    assert app.ops.url is None
    assert "ops_listen = 127.0.0.1:8081: Address already in use; " in caplog.text
    assert "--ops-listen" in caplog.text


def test_an_address_that_was_asked_for_and_is_taken_ends_the_start() -> None:
    app = App(Config(), MovingBackend(1))

    with pytest.raises(
        ConfigError,
        match=r"ops_listen = '127\.0\.0\.1:9': cannot listen there: Address already in use; choose another",
    ):
        app.ops.open("127.0.0.1:9", _taken)


@pytest.mark.parametrize("value", ["nowhere", "example.org:80", "off:1"])
def test_an_address_that_is_none_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"^ops_listen .*or off$"):
        load({"ops_listen": value})
