"""`config`: which settings hold, where they come from, and that it shows no secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from proxy import cli
from proxy.config import Config
from tests.cli import run

if TYPE_CHECKING:
    from pathlib import Path

# Three values that nobody may see; they mean nothing.
SECRET, VARIABLE, OVERLAY = (
    "s3cret-of-16-chars",
    "v4lue-of-a-variable",
    "v4lue-of-an-overlay",
)  # pragma: allowlist secret


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Config.model_fields:
        monkeypatch.delenv(f"NOTEBOOK_PROXY_{name.upper()}", raising=False)


def test_each_setting_is_told_with_its_source(tmp_path: Path) -> None:
    file, secret = tmp_path / "proxy.yaml", tmp_path / "secret"
    file.write_text(
        f"{{idle_ttl: 3h, ready_timeout: 3s, reap_interval: 1m, stop_grace: '', notebook_secret_file: {secret}}}"
    )
    secret.write_text(SECRET)

    done = run(
        "config", "--config", str(file), "--idle-ttl=1h", "-o", "json",
        env={"NOTEBOOK_PROXY_IDLE_TTL": "2h", "NOTEBOOK_PROXY_READY_TIMEOUT": "2s"},
    )  # fmt: skip

    shown = json.loads(done.stdout)["settings"]
    assert (done.returncode, done.stderr, shown.keys()) == (0, "", Config.model_fields.keys())
    assert shown["idle_ttl"] == {"value": "1h", "from": "the command line"}
    assert shown["ready_timeout"] == {"value": "2s", "from": "NOTEBOOK_PROXY_READY_TIMEOUT"}
    assert shown["reap_interval"] == {"value": "1m", "from": str(file)}
    assert shown["stop_grace"] == {"value": "5s", "from": "the default"}  # what is empty is the default
    assert shown["reap_grace"] == {"value": "10s", "from": "the default"}
    assert shown["notebook_secret"] == {"value": "***", "from": "the file that notebook_secret_file names"}


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_is_shown(form: str) -> None:
    env: dict[str, Any] = {
        "NOTEBOOK_PROXY_NOTEBOOK_SECRET": SECRET,
        "NOTEBOOK_PROXY_EXTRA_ENV_VARS": json.dumps({"NAMED": VARIABLE}),
        "NOTEBOOK_PROXY_POD_OVERLAY": json.dumps({"spec": {"nodeName": OVERLAY}}),
        "NOTEBOOK_PROXY_PROFILES": json.dumps({"large": {"image": OVERLAY}}),
    }

    done = run("config", "--output", form, env=env)

    assert done.returncode == 0
    assert not [value for value in (SECRET, VARIABLE, OVERLAY) if value in done.stdout + done.stderr]
    for name in ("NAMED", "nodeName", "large"):
        assert name in done.stdout


def test_changed_leaves_out_what_is_the_default() -> None:
    done = run("config", "--changed", "--idle-ttl", "2h")

    assert done.stdout.splitlines() == ["SETTING   VALUE  FROM", "idle_ttl  2h     the command line"]


def test_a_wrong_setting_ends_in_one_line_and_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["config", "--idle-ttl", "4x"]) == 2

    shown = capsys.readouterr()
    assert shown.err.startswith("notebook-proxy: idle_ttl = '4x' (from the command line): must be a duration")
    assert (shown.out, shown.err.count("\n")) == ("", 1)


def test_a_variable_that_is_no_setting_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_IDLE_TLL", "4h")
    monkeypatch.setenv("NOTEBOOK_PROXY_TOKEN", "x")  # a client's, and no setting
    monkeypatch.setenv("NOTEBOOK_PROXY_SERVER", "http://127.0.0.1:1")

    assert cli.main(["config", "--changed"]) == 0

    assert capsys.readouterr().err == (
        "notebook-proxy: NOTEBOOK_PROXY_IDLE_TLL is set, but there is no such setting; did you mean 'idle_ttl'?\n"
    )
