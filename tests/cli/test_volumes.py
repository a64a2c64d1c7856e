"""`volumes`: which ones nobody has used for long, on this machine and on a cluster; nothing is deleted."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from proxy import cli
from proxy.config import Config
from tests.cli import Asking, run
from tests.cluster.resources import CLAIMS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.cluster.threaded import ThreadedCluster
    from tests.e2e import Proxy


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Config.model_fields:
        monkeypatch.delenv(f"NOTEBOOK_PROXY_{name.upper()}", raising=False)


def days_ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def make(root: Path, name: str, *, log_days: float, noted_days: float | None = None) -> None:
    """Make a workspace's directory, whose server wrote last, and whose last use was noted, so long ago."""
    directory = root / name
    directory.mkdir(parents=True)
    (directory / "work.ipynb").write_text("x" * 2000)
    (directory / "loop").symlink_to(directory)
    log = directory / ".notebook.log"
    log.touch()
    if noted_days is not None:
        (directory / ".workspace.yaml").write_text(f'last-used: "{days_ago(noted_days).isoformat()}"\nowner: "ada"\n')
    os.utime(log, (days_ago(log_days).timestamp(),) * 2)


def told(*arguments: str, capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, Any]]:
    assert cli.main(["volumes", "-o", "json", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)["volumes"]
    return {each["workspace"]: each for each in found}


def test_directories_are_told_longest_unused_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tmp_path, "new", log_days=1, noted_days=100)  # its server has written since
    make(tmp_path, "old", log_days=200, noted_days=150)
    make(tmp_path, "older", log_days=300)
    (tmp_path / "No_Workspace").mkdir()
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    flags = ("--backend=local", f"--local-root={tmp_path}")

    everything = told(*flags, capsys=capsys)
    unused = told(*flags, "--unused-for", "90d", capsys=capsys)

    assert list(everything) == ["older", "old", "new"]
    assert list(unused) == ["older", "old"]
    assert unused["old"]["unused_seconds"] == pytest.approx(150 * 86_400, abs=60)
    assert (unused["old"]["owner"], unused["older"]["owner"]) == ("ada", None)
    assert unused["old"]["size"].endswith("KiB")
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_directories_are_told_to_people_in_columns(tmp_path: Path) -> None:
    make(tmp_path, "old", log_days=200)

    done = run("volumes", "--backend=local", f"--local-root={tmp_path}")

    head, row = done.stdout.splitlines()
    assert head.split()[:3] == ["WORKSPACE", "VOLUME", "SIZE"]
    assert row.split()[:2] == ["old", str(tmp_path / "old")]
    assert "200 d 0 h" in row


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--unused-for", "90x"], 2), (["--unused-for", "-1"], 2), (["--local-root", "/no/such"], 1)],
)
def test_what_makes_no_sense_ends_in_one_line(
    arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["volumes", "--backend=local", *arguments]) == status

    assert capsys.readouterr().err.count("\n") == 1


def test_claims_are_told_with_their_last_use(
    cluster: ThreadedCluster, on_cluster: Sequence[str], begin: Callable[..., Proxy], capsys: pytest.CaptureFixture[str]
) -> None:
    ask = Asking(begin(*on_cluster).url)
    for name in ("runs", "rests", "forgotten"):
        assert ask("start", name).returncode == 0
    for name in ("rests", "forgotten"):
        ask("stop", name)
    long_ago = days_ago(100).isoformat()
    changes = {"metadata": {"annotations": {"notebook-proxy/last-used": long_ago}}}
    cluster.do(lambda double: age(double, "ws-forgotten", changes))
    cluster.do(
        lambda double: double.registry.create(CLAIMS, "default", {"metadata": {"name": "theirs"}, "spec": CLAIM_SPEC})
    )
    before = cluster.do(lambda double: double.store.items(CLAIMS))

    everything = told(*on_cluster, capsys=capsys)
    unused = told(*on_cluster, "--unused-for=90d", capsys=capsys)

    assert {name: each["is_used"] for name, each in everything.items()} == {
        "forgotten": False, "rests": False, "runs": True,
    }  # fmt: skip
    assert next(iter(everything)) == "forgotten"
    assert list(unused) == ["forgotten"]
    assert unused["forgotten"]["volume"] == "default/ws-forgotten"
    assert unused["forgotten"]["size"] == "1Gi"
    assert unused["forgotten"]["unused_seconds"] == pytest.approx(100 * 86_400, abs=60)
    assert cluster.do(lambda double: double.store.items(CLAIMS)) == before


CLAIM_SPEC = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


def age(double: Any, name: str, changes: dict[str, Any]) -> None:
    """Make a claim look as if it had been made and used long ago."""
    double.registry.patch(CLAIMS, "default", name, changes)
