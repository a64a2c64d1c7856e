"""What `insecure_no_auth` lifts, and what it leaves: any address, any well-formed `Host`, and a warning."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import make_mocked_request

from proxy.app import App
from proxy.auth import origins
from proxy.config import Config, load
from proxy.errors import BadRequest, ConfigError
from proxy.gateway import Gateway
from proxy.relay.upstream import Pool

if TYPE_CHECKING:
    from pathlib import Path


def gateway(**options: Any) -> Gateway:
    """Return a gateway that has nobody to ask."""
    none, second = cast("Any", None), timedelta(seconds=1)
    return Gateway(none, Pool(None), none, namespace="default", page_after=second, hold_timeout=second, **options)


async def status_of(found: Gateway, host: str) -> int:
    return (await found._answer(make_mocked_request("GET", "/api/openapi.json", headers={"Host": host}))).status


def test_any_address_is_refused_unless_everyone_may_enter() -> None:
    with pytest.raises(ConfigError, match="unless insecure_no_auth is on"):
        load({"listen": "0.0.0.0:8000"})

    assert load({"listen": "0.0.0.0:8000", "insecure_no_auth": "on"}).address == ("0.0.0.0", 8000)


def test_it_is_off_by_default() -> None:
    assert Config().insecure_no_auth is False


async def test_any_host_is_refused_unless_everyone_may_enter() -> None:
    with pytest.raises(BadRequest, match="names of this machine only"):
        await status_of(gateway(), "notebooks.example.org")

    assert await status_of(gateway(check_host=False), "notebooks.example.org") == 200
    assert await status_of(gateway(check_host=False), "localhost:8000") == 200


@pytest.mark.parametrize("host", ["", "a b", "a/b", "user@host", "a:b:c", "[::1"])
async def test_a_malformed_host_is_refused_even_then(host: str) -> None:
    with pytest.raises(BadRequest):
        await status_of(gateway(check_host=False), host)


def test_authorities_with_and_without_port_are_well_formed() -> None:
    for host in ("example.org", "example.org:8443", "[2001:db8::1]:80", "10.0.0.1"):
        origins.check_authority(host)


@pytest.mark.parametrize(("switch", "times"), [("on", 1), ("off", 0)])
async def test_a_start_that_lets_everyone_in_is_said_in_the_log(
    switch: str, times: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = Config(listen="127.0.0.1:0", backend="local", local_root=tmp_path, insecure_no_auth=switch)

    async with App(config) as app, ClientSession(headers={"Host": "notebooks.example.org"}) as client:
        answer = await client.get(app.url)
        status, page = answer.status, await answer.text()

    warnings = [record.getMessage() for record in caplog.records if "authentication is off" in record.getMessage()]
    assert len(warnings) == times
    assert status == (200 if times else 400)
    notice = re.search(r"<p class=.note warn.(.*?)>Authentication is off", page)
    assert (notice is not None and "hidden" not in notice[1]) is bool(times)


async def test_where_only_this_machine_may_ask_nothing_is_said(tmp_path: Path) -> None:
    async with (
        App(Config(listen="127.0.0.1:0", backend="local", local_root=tmp_path)) as app,
        ClientSession() as client,
    ):
        page = await (await client.get(app.url)).text()

    assert re.search(r"<p class=.note warn. hidden>Authentication is off", page)
