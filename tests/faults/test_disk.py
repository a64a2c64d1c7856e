"""A full disk under the local backend: what runs is served; what cannot start says why, and starts when it can."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.e2e import Proxy, until
from tests.e2e.test_crowd import COMMAND
from tests.faults.test_replicas import OPS, metric

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JSON: Final = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def _linux() -> None:
    if sys.platform != "linux":
        pytest.skip("limits another process, or mounts a small disk")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for some files."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=64", "none", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a small disk cannot be mounted here; that takes root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a proxy keeps its log."""
    directory = tmp_path / "proxy"
    directory.mkdir()
    return directory


def fill(disk: Path) -> list[Path]:
    """Leave no room for one more file, or byte; returns what takes it."""
    made: list[Path] = []
    while True:
        file = disk / f"filling-{len(made)}"
        try:
            file.write_bytes(bytes(65536))
        except OSError:
            if not file.exists():
                return made
        made.append(file)


def test_on_a_full_disk_what_runs_is_served_and_what_starts_says_why_until_there_is_room(
    disk: Path, directory: Path
) -> None:
    proxy = Proxy(directory, OPS, COMMAND, f"--local-root={disk}", "--failed-ttl=30s").until_listening()
    try:
        assert proxy.get("/ws/demo/api").status == 200
        filling = fill(disk)

        assert proxy.get("/ws/demo/api").status == 200
        refused = proxy.get("/ws/other/api")

        assert (refused.status, refused.json()["code"]) == (503, "directory-unusable")
        assert "No space left on device" in refused.json()["detail"]
        assert int(refused.headers["Retry-After"]) > 0
        assert metric(proxy, 'starts_total{result="directory-unusable"}') == 1
        noted = proxy.request("PATCH", "/api/workspaces/demo/settings", b'{"idle_ttl": "1h"}', JSON)
        assert noted.status >= 500
        assert "No space left on device" in noted.json()["detail"]

        for file in filling:
            file.unlink()
        assert proxy.send_json("PATCH", "/api/workspaces/demo/settings", {"idle_ttl": "1h"}).status == 200
        assert proxy.get("/ws/demo/api").status == 200
        assert until(lambda: proxy.get("/ws/other/api").status == 200, "it starts")
        assert proxy.stop() == 0
    finally:
        proxy.clear()


def test_settings_that_cannot_be_written_whole_are_those_from_before(directory: Path) -> None:
    proxy = Proxy(directory, COMMAND).until_listening()
    try:
        path = "/api/workspaces/demo/settings"
        assert proxy.get("/ws/demo/api").status == 200
        proxy.send_json("PATCH", path, {"idle_ttl": "1h"})
        before = (proxy.root / "demo" / ".workspace.yaml").read_bytes()
        limits = resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE)

        resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
        refused = proxy.request("PATCH", path, json.dumps({"idle_ttl": "2h"}).encode(), JSON)

        assert refused.status >= 500
        assert proxy.get("/ws/demo/api").status == 200
        assert (proxy.root / "demo" / ".workspace.yaml").read_bytes() == before
        assert [file.name for file in (proxy.root / "demo").glob(".workspace.yaml?*")] == []
        resource.prlimit(proxy.pid, resource.RLIMIT_FSIZE, limits)
        proxy.send_json("PATCH", path, {"idle_ttl": "2h"})
        assert (proxy.root / "demo" / ".workspace.yaml").read_bytes() != before
        assert proxy.stop() == 0
    finally:
        proxy.clear()
