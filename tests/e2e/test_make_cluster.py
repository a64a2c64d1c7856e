"""`make cluster`: the development environment for those who have no cluster, from its start to Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from tests.e2e import ANNOUNCED, PATIENCE_SECONDS, REPOSITORY, until

if TYPE_CHECKING:
    from collections.abc import Iterator

_KUBECONFIG = re.compile(r"^(/.+)/[^/]+\.kubeconfig$", re.MULTILINE)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`make cluster` on a free port, with what runs this test in place of what it would install. It writes to `out`."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    for stamp in (".made", ".local", ".test"):
        (tmp_path / stamp).touch()
    bin_directory = Path(sys.executable).parent
    command = ["make", "cluster", f"VENV={tmp_path}", f"BIN={bin_directory}", "ARGS=--listen=127.0.0.1:0"]
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    yield process
    with suppress(ProcessLookupError):  # what dies with the cluster's process is not in its group
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _of(cluster: Path) -> list[str]:
    """Return the command lines of the processes that have to do with a cluster, by its directory."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal():
                command, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
                if str(cluster).encode() in command + environment:
                    found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def test_make_cluster_serves_a_pod_and_leaves_nothing_behind(make: subprocess.Popen[bytes], tmp_path: Path) -> None:
    def announced() -> re.Match[str] | None:
        assert make.poll() is None, (tmp_path / "out").read_text()
        return ANNOUNCED.search((tmp_path / "out").read_text())

    address = until(announced, "it tells its address")
    cluster = _KUBECONFIG.search((tmp_path / "out").read_text())
    assert address is not None
    assert cluster is not None
    root = Path(cluster[1])

    with urlopen(f"{address[1]}/ws/demo/lab", timeout=PATIENCE_SECONDS) as answer:
        assert b"<title>JupyterLab</title>" in answer.read()
    assert any("jupyter-lab" in command for command in _of(root))
    assert any("proxy serve --backend kubernetes" in command for command in _of(root))

    os.killpg(make.pid, signal.SIGINT)  # as a terminal does
    make.wait(PATIENCE_SECONDS)
    assert _of(root) == []
    assert not root.exists()
    assert "stopped" in (tmp_path / "out").read_text()
