"""The command line where one must sign in: with a token of `token`, through the environment."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.cli import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e import Proxy


def test_token_lets_in_where_it_says_and_nowhere_else(begin: Callable[..., Proxy], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(secrets.token_hex(32))
    proxy = begin("--auth=jwt", f"--jwt-secret-file={secret}")
    token = run("token", "--user", "ada", "--workspace", "mine", "--jwt-secret-file", str(secret)).stdout.strip()
    env = {"NOTEBOOK_PROXY_SERVER": proxy.url}
    signed = {**env, "NOTEBOOK_PROXY_TOKEN": token}

    nobody, mine, theirs = run("list", env=env), run("start", "mine", env=signed), run("show", "theirs", env=signed)
    forged, looked = run("list", env={**env, "NOTEBOOK_PROXY_TOKEN": f"{token}x"}), run("list", env=signed)

    assert (nobody.returncode, mine.returncode, theirs.returncode, forged.returncode) == (4, 0, 4, 4)
    assert "NOTEBOOK_PROXY_TOKEN holds no token" in nobody.stderr
    assert "does not allow this" in theirs.stderr
    assert "the token is not accepted" in forged.stderr
    assert token not in forged.stderr
    assert looked.returncode == 0
    assert looked.stdout.splitlines()[1].startswith("mine  running")


def test_doctor_tells_that_nobody_is_signed_in(begin: Callable[..., Proxy], tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(secrets.token_hex(32))
    proxy = begin("--auth=jwt", f"--jwt-secret-file={secret}")

    done = run("doctor", "--remote", "--server", proxy.url)

    assert done.returncode == 1
    assert "wrong    access: " in done.stdout
    assert "Put a token in NOTEBOOK_PROXY_TOKEN" in done.stdout


@pytest.mark.parametrize("command", ["serve", "doctor"])
def test_help_has_the_flags_of_all_settings(command: str) -> None:
    assert "--idle-ttl" in run(command, "--help").stdout
