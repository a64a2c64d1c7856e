from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from proxy.backends import guard
from tests.backends import PATIENCE_SECONDS, are_gone, is_running, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PYTHON = (sys.executable, "-I", "-S", "-c")
FAMILY = """
import os, signal, subprocess, sys
ignored = sys.argv[2:]
def deaf():
    if "child" in ignored:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], start_new_session=True, preexec_fn=deaf)
if "self" in ignored:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
while "leaves" not in ignored:
    signal.pause()
"""
# The one in the middle ends at once, so the last is an orphan.
ORPHAN = '''
import os, subprocess, sys, signal
code = """import subprocess, sys
orphan = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, start_new_session=True)
print(orphan.pid)"""
pid = subprocess.check_output([sys.executable, "-I", "-S", "-c", code, *sys.argv[2:]], text=True)
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {pid}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
signal.pause()
'''


@contextmanager
def guarded(*command: str, grace_seconds: float = 30) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        guard.guarded([*command], grace_seconds),
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        try:
            yield running
        finally:
            for pid in (*guard.descendants(running.pid), running.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def close_stdin(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.close()


def pids_in(file: Path) -> list[int]:
    wait_until(file.exists)
    return [int(word) for word in file.read_text().split()]


def test_closing_stdin_ends_the_command_and_a_grandchild_in_a_session_of_its_own(tmp_path: Path) -> None:
    with guarded(*PYTHON, FAMILY, str(tmp_path / "pids")) as running:
        pids = pids_in(tmp_path / "pids")
        assert all(is_running(pid) for pid in pids)

        close_stdin(running)

        assert running.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
        assert are_gone(*pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_everything_too(tmp_path: Path, number: signal.Signals) -> None:
    with guarded(*PYTHON, FAMILY, str(tmp_path / "pids")) as running:
        pids = pids_in(tmp_path / "pids")

        running.send_signal(number)

        assert running.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM
        assert are_gone(*pids)


def test_the_grandchild_ends_when_the_command_is_killed(tmp_path: Path) -> None:
    with guarded(*PYTHON, FAMILY, str(tmp_path / "pids")) as running:
        pids = pids_in(tmp_path / "pids")

        os.kill(pids[0], signal.SIGKILL)

        assert running.wait(PATIENCE_SECONDS) == 128 + signal.SIGKILL
        assert are_gone(*pids)


def test_the_grandchild_ends_when_the_command_leaves_by_itself(tmp_path: Path) -> None:
    with guarded(*PYTHON, FAMILY, str(tmp_path / "pids"), "leaves") as running:
        assert running.wait(PATIENCE_SECONDS) == 0

        assert are_gone(*pids_in(tmp_path / "pids"))


def test_a_killed_guard_takes_the_command_along(tmp_path: Path) -> None:
    with guarded(*PYTHON, FAMILY, str(tmp_path / "pids")) as running:
        command, grandchild = pids_in(tmp_path / "pids")

        running.kill()

        wait_until(lambda: are_gone(command))
        os.kill(grandchild, signal.SIGKILL)


def test_who_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    with guarded(*PYTHON, FAMILY, str(tmp_path / "pids"), "self", "child", grace_seconds=0.2) as running:
        pids = pids_in(tmp_path / "pids")

        close_stdin(running)

        assert running.wait(PATIENCE_SECONDS) == 128 + signal.SIGKILL
        assert are_gone(*pids)


def test_the_command_has_its_grace(tmp_path: Path) -> None:
    script = """
import os, signal, sys, time
def leave(*_):
    time.sleep(0.3)
    sys.exit(7)
signal.signal(signal.SIGTERM, leave)
open(sys.argv[1], "w").close()
signal.pause()
"""
    with guarded(*PYTHON, script, str(tmp_path / "ready")) as running:
        wait_until((tmp_path / "ready").exists)

        close_stdin(running)

        assert running.wait(PATIENCE_SECONDS) == 7


def test_an_orphan_is_ended_with_the_rest(tmp_path: Path) -> None:
    with guarded(*PYTHON, ORPHAN, str(tmp_path / "pids"), "sleep", "600") as running:
        pids = pids_in(tmp_path / "pids")
        assert sorted(guard.descendants(running.pid)) == sorted(pids)

        close_stdin(running)
        running.wait(PATIENCE_SECONDS)

        assert are_gone(*pids)


def test_an_orphan_that_ends_is_reaped_at_once(tmp_path: Path) -> None:
    with guarded(*PYTHON, ORPHAN, str(tmp_path / "pids"), "true") as running:
        command, orphan = pids_in(tmp_path / "pids")

        wait_until(lambda: orphan not in guard.descendants(running.pid, zombies=True))

        assert is_running(command)


def test_the_command_ends_while_stdin_is_already_closed(tmp_path: Path) -> None:
    with guarded("sleep", "600") as running:
        close_stdin(running)

        assert running.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(0)", 0),
        ("raise SystemExit(3)", 3),
        ("import os; os.kill(os.getpid(), 9)", 128 + 9),
    ],
)
def test_the_guard_exits_as_the_command_did(code: str, status: int) -> None:
    with guarded(*PYTHON, code) as running:
        assert running.wait(PATIENCE_SECONDS) == status


def test_a_command_that_is_not_there_is_127_with_its_name(tmp_path: Path) -> None:
    with guarded("no-such-command") as running:
        _, said = running.communicate(timeout=PATIENCE_SECONDS)

    assert running.returncode == guard.NOT_FOUND
    assert said == "cannot run 'no-such-command': No such file or directory\n"


def test_a_command_that_is_no_program_is_126(tmp_path: Path) -> None:
    with guarded(str(tmp_path)) as running:
        _, said = running.communicate(timeout=PATIENCE_SECONDS)

    assert running.returncode == guard.CANNOT_RUN
    assert "Permission denied" in said


def test_a_name_with_brackets_and_spaces_does_not_hide_a_process(tmp_path: Path) -> None:
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/bin/sleep")
    with guarded(str(odd), "600") as running:
        wait_until(lambda: guard.descendants(running.pid))

        close_stdin(running)

        assert running.wait(PATIENCE_SECONDS) == 128 + signal.SIGTERM


def test_wrong_arguments_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert guard.main(["sleep", "600"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (3, ("exited", "it exited with status 3")),
        (-15, ("exited", "it was ended by SIGTERM")),
        (128 + 9, ("exited", "it was ended by SIGKILL, which the system also does when memory runs out")),
        (128 + 40, ("exited", "it was ended by signal 40")),
        (255, ("exited", "it exited with status 255")),
        (127, ("command-not-found", "its command was not found")),
        (126, ("command-not-executable", "its command cannot be executed")),
    ],
)
def test_an_exit_status_is_said_in_words(status: int, words: tuple[str, str]) -> None:
    assert guard.describe(status) == words
