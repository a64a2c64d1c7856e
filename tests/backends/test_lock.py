"""One proxy for one directory."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from proxy.backends.local import LocalBackend
from proxy.backends.lock import NAME, DirectoryLock
from proxy.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

HOLD = """
import sys
from pathlib import Path
from proxy.backends.lock import DirectoryLock
DirectoryLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
sys.stdin.read()
"""


def backend(root: Path) -> LocalBackend:
    return LocalBackend(root, failed_ttl=timedelta(seconds=1), stop_grace=timedelta(seconds=1))


async def test_second_backend_in_a_directory_is_refused_with_the_process_that_has_it(tmp_path: Path) -> None:
    first, second = backend(tmp_path / "new"), backend(tmp_path / "new")
    await first.open()

    with pytest.raises(ConfigError, match=rf"local_root = '.*new': another proxy \(process {os.getpid()}\) uses it"):
        await second.open()
    await second.close()  # which takes nothing from the first
    with pytest.raises(ConfigError):
        await second.open()
    await first.close()

    await second.open()
    await second.close()


def test_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {process.pid}"):
            DirectoryLock(tmp_path).acquire()
        process.kill()

    lock = DirectoryLock(tmp_path)
    lock.acquire()
    assert (tmp_path / NAME).read_text() == str(os.getpid())
    lock.release()


def test_lock_is_not_inherited(tmp_path: Path) -> None:
    lock = DirectoryLock(tmp_path)
    lock.acquire()

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE):
        lock.release()
        DirectoryLock(tmp_path).acquire()


def test_where_locks_are_not_supported_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = DirectoryLock(tmp_path)
    lock.acquire()
    lock.release()

    assert "let only one proxy use it" in caplog.text
