"""`notebook-proxy token`: what it prints opens the door, and what makes no sense is said in one line."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import jwt
import pytest

from proxy import cli
from proxy.auth.keys import KeySet, secret_keys
from proxy.auth.tokens import Verifier
from proxy.clock import SystemClock
from tests.auth.tokens import SECRET

if TYPE_CHECKING:
    from pathlib import Path

    from proxy.auth.user import User


@pytest.fixture
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_JWT_SECRET", SECRET)


def verified(token: str, issuer: str = "", audience: str = "") -> User:
    keys = KeySet(secret_keys([SECRET]))
    return Verifier(keys, ("HS256",), issuer, audience, SystemClock()).verify(token)


@pytest.mark.usefixtures("_secret")
def test_it_prints_a_token_that_opens_the_door(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["token", "--user", "alice", "--workspace", "demo", "--workspace", "team-*", "--ttl", "1h30m"]

    assert cli.main(arguments) == 0

    said = capsys.readouterr()
    found = verified(said.out.strip())
    assert (said.err, said.out.count("\n")) == ("", 1)
    assert (found.name, found.workspaces) == ("alice", ("demo", "team-*"))
    assert abs(found.expires - time.time() - 5400) < 60


@pytest.mark.usefixtures("_secret")
def test_it_holds_for_ten_minutes_and_names_no_workspace_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["token", "--user", "alice"]) == 0

    found = verified(capsys.readouterr().out.strip())
    assert found.workspaces == ()
    assert abs(found.expires - time.time() - 600) < 60


def test_it_takes_secret_issuer_and_audience_from_the_settings(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tmp_path / "proxy.yaml").write_text("jwt_issuer: us\njwt_audience: notebooks\n")
    files = ["--config", str(tmp_path / "proxy.yaml"), "--jwt-secret-file", str(tmp_path / "secret")]

    assert cli.main(["token", "--user", "alice", *files]) == 0

    token = capsys.readouterr().out.strip()
    assert verified(token, "us", "notebooks").name == "alice"
    claims = jwt.decode(token, options={"verify_signature": False})
    assert (claims["iss"], claims["aud"]) == ("us", "notebooks")


@pytest.mark.usefixtures("_secret")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--user", ""], "user's name"),
        (["--user", "a\nb"], "user's name"),
        (["--user", "alice", "--ttl", "soon"], "a duration"),
        (["--user", "alice", "--ttl", "0"], "above zero"),
        (["--user", "alice", "--ttl", "999999999d"], "too long"),
        (["--user", "alice", "--workspace", ""], "workspaces"),
        (["--user", "alice", "--config", "/nowhere/proxy.yaml"], "/nowhere/proxy.yaml"),
    ],
)
def test_what_makes_no_sense_is_said_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["token", *arguments]) == 2

    said = capsys.readouterr()
    assert words in said.err
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert SECRET not in said.err


def test_without_a_secret_there_is_none(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTEBOOK_PROXY_JWT_SECRET", raising=False)

    assert cli.main(["token", "--user", "alice"]) == 2

    assert "jwt_secret" in capsys.readouterr().err
