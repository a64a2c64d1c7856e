"""The secret that the proxy makes where no key is set: here in a file; for clusters see `backends/kubernetes`."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import ClientSession

from proxy import cli
from proxy.app import App
from proxy.config import Config, load
from proxy.errors import ConfigError, KeysUnavailable, StartFailed
from proxy.own_secret import FILE_NAME, OwnSecret, is_own, read_own_secret
from proxy.rotation import RotatingSecret
from proxy.vitals import Vitals
from tests.gateway.conftest import HandClock, MovingBackend
from tests.relay.origin import Answers, Origin, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SECRET = "of-thirty-two-characters-at-least-!"


def config_in(root: Path, **settings: Any) -> Config:
    return Config(auth="jwt", local_root=root / "ws", listen="127.0.0.1:0", ops_listen="off", **settings)


@asynccontextmanager
async def serving(config: Config) -> AsyncIterator[App]:
    async with Origin(Answers()) as origin, App(config, MovingBackend(origin.port)) as app:
        yield app


async def enter(app: App, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with ClientSession() as client, client.get(f"{app.url}/ws/demo/api", headers=headers) as response:
        return response.status


def mint(capsys: pytest.CaptureFixture[str], *flags: str) -> str:
    assert cli.main(["token", "--user", "alice", "--workspace", "demo", *flags]) == 0
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"auth": "jwt"}, True),
        ({"auth": "none"}, False),
        ({"auth": "jwt", "jwt_secret": SECRET}, False),
        ({"auth": "jwt", "jwt_jwks_url": "https://issuer.example.org/keys"}, False),
        ({"auth": "jwt", "jwt_public_key": "PEM"}, False),
    ],
)
def test_it_is_made_only_where_tokens_are_asked_for_and_no_key_is_set(settings: Any, expected: bool) -> None:
    assert is_own(Config(**settings)) is expected


async def test_it_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    config = config_in(tmp_path)

    values = {await read_own_secret(config) for _ in range(3)}

    file = tmp_path / "ws" / FILE_NAME
    assert values == {file.read_text()}
    assert len(values.pop()) >= 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in (tmp_path / "ws").iterdir()] == [FILE_NAME]


async def test_no_two_are_the_same(tmp_path: Path) -> None:
    assert await read_own_secret(config_in(tmp_path / "a")) != await read_own_secret(config_in(tmp_path / "b"))


@pytest.mark.parametrize(("text", "mode", "reason"), [("short", 0o600, "fewer than 32"), (SECRET, 0o644, "chmod 600")])
async def test_one_that_is_worth_nothing_is_refused(tmp_path: Path, text: str, mode: int, reason: str) -> None:
    (tmp_path / "ws").mkdir()
    file = tmp_path / "ws" / FILE_NAME
    file.write_text(text)
    file.chmod(mode)

    with pytest.raises(ConfigError, match=reason) as raised:
        await read_own_secret(config_in(tmp_path))

    assert text not in str(raised.value)


async def test_a_token_of_the_command_line_opens_a_proxy_that_made_its_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_LOCAL_ROOT", str(tmp_path / "ws"))
    monkeypatch.setenv("NOTEBOOK_PROXY_AUTH", "jwt")
    async with serving(config_in(tmp_path)) as app:
        token = await asyncio.to_thread(mint, capsys)

        assert await enter(app, token) == 200
        assert await enter(app, token[:-4] + "AAAA") == 401


async def test_a_replaced_secret_lets_new_and_old_tokens_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    given = {"auth": "jwt", "listen": "127.0.0.1:0", "ops_listen": "off", "jwt_secret_file": str(file)}
    flag = f"--jwt-secret-file={file}"
    async with serving(load({**given, "secret_overlap": "1h"})) as app:
        old = await asyncio.to_thread(mint, capsys, flag)
        assert await enter(app, old) == 200

        file.write_text(SECRET[::-1])
        new = await asyncio.to_thread(mint, capsys, flag)
        assert await enter(app, new) == 401
        app.fresh.look()

        assert [await enter(app, token) for token in (old, new)] == [200, 200]
    async with serving(load(given)) as app:
        assert [await enter(app, token) for token in (old, new)] == [401, 200]


async def test_a_token_of_a_secret_that_is_over_opens_nothing_though_it_was_seen_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET)
    given = {"auth": "jwt", "listen": "127.0.0.1:0", "ops_listen": "off", "jwt_secret_file": str(file)}
    async with serving(load({**given, "secret_overlap": "0.05s"})) as app:
        old = await asyncio.to_thread(mint, capsys, f"--jwt-secret-file={file}")
        assert await enter(app, old) == 200

        file.write_text(SECRET[::-1])
        app.fresh.look()
        await asyncio.sleep(0.1)
        app.fresh.look()

        assert await enter(app, old) == 401


class Source:
    """Reads the secret, or cannot."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)

    async def read(self, config: Config) -> str:
        if self.faults:
            raise self.faults.pop(0)
        return SECRET


async def test_while_it_cannot_be_read_the_proxy_is_not_ready_and_nobody_enters(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.own_secret.PATIENCE", 0.01)
    clock, vitals = HandClock(), Vitals()
    secret = RotatingSecret(timedelta(hours=1), clock)
    source = Source(*[StartFailed("api-unavailable", "it is away")] * 2)

    async with OwnSecret(Config(), secret, vitals, clock, source.read) as own:
        assert vitals.unready() == ["waits for the secret that tokens are signed with"]
        with pytest.raises(KeysUnavailable):
            await own.renew()
        for _ in range(2):
            await until(lambda: any(not over.done() for _, over in clock._sleepers))
            clock.advance(2)
            await asyncio.sleep(0)
        await until(secret)

        assert secret() == (SECRET,)
        assert vitals.unready() == []
        await own.renew()
        await asyncio.sleep(0)
        assert vitals.dead() == []
    assert caplog.text.count("cannot be read or made yet") == 1


async def test_where_there_is_no_place_for_it_the_start_ends() -> None:
    clock = HandClock()
    own = OwnSecret(
        Config(), RotatingSecret(timedelta(hours=1), clock), Vitals(), clock, Source(ConfigError("no")).read
    )

    with pytest.raises(ConfigError):
        await own.__aenter__()
