"""`list`, `show`, `start`, `stop`, `restart` and `extend`, as processes that ask a proxy that is one."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from proxy import cli
from tests.cli import COMMAND, REPOSITORY, Asking, environ
from tests.e2e import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.e2e import Proxy


def phase(proxy: Proxy, name: str) -> str:
    return str(proxy.get(f"/api/workspaces/{name}").json()["phase"])


def on_terminal(ask: Asking, *arguments: str) -> tuple[int, str]:
    """Run the command with a terminal as its standard output and error; return status and what it drew."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=REPOSITORY,
        env=environ(TERM="xterm", **ask.env),
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
    )
    os.close(end)
    drawn = b""
    with suppress(OSError):  # EIO: nobody holds the other end any more
        while data := os.read(terminal, 65_536):
            drawn += data
    os.close(terminal)
    return process.wait(60), drawn.decode()


# Starting and stopping ------------------------------------------------------------------------------------------------


def test_start_waits_until_it_answers_and_tells_each_step_in_a_line(proxy: Proxy, ask: Asking) -> None:
    done = ask("start", "one")

    assert (done.returncode, done.stdout) == (0, f"one runs: {proxy.url}/ws/one/lab\n")
    assert proxy.get("/ws/one/api").status == 200
    lines = done.stderr.splitlines()
    assert lines
    assert all(line.startswith(("Starting its notebook server", "The notebook server starts")) for line in lines)
    assert len(set(lines)) == len(lines)


def test_start_of_what_runs_is_done_at_once(ask: Asking) -> None:
    ask("start", "again")

    done = ask("start", "again", "--output", "json")

    assert (done.returncode, done.stderr, json.loads(done.stdout)["phase"]) == (0, "", "running")


def test_start_on_a_terminal_draws_a_bar_and_leaves_only_the_result(proxy: Proxy, ask: Asking) -> None:
    status, drawn = on_terminal(ask, "start", "seen")

    assert status == 0
    assert "Starting its notebook server" in drawn
    assert "\x1b[?25l" in drawn  # the cursor is hidden,
    assert "\x1b[?25h" in drawn  # and shown again
    assert drawn.endswith(f"seen runs: {proxy.url}/ws/seen/lab\r\n")


def test_start_that_fails_says_why_with_the_log_and_a_status_of_its_own(ask: Asking) -> None:
    done = ask("start", "broken-1")

    assert (done.returncode, done.stdout) == (6, "")
    assert "  no such kernel\\x1b[2J\n" in done.stderr
    assert "token=***" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("notebook-proxy: The notebook server did not start: it exited with")


def test_start_that_may_not_be_tried_again_yet_says_so(ask: Asking) -> None:
    ask("start", "broken-2")
    ask("start", "broken-2")

    done = ask("start", "broken-2")

    assert done.returncode == 6
    assert "did not start" in done.stderr


def test_start_that_takes_longer_than_the_timeout_goes_on(proxy: Proxy, ask: Asking) -> None:
    done = ask("start", "slow-1", "--timeout", "0.1s")

    assert done.returncode == 7
    assert done.stderr.endswith("notebook-proxy: slow-1 does not run yet; it goes on starting.\n")
    assert phase(proxy, "slow-1") == "starting"


def test_start_need_not_be_waited_for(proxy: Proxy, ask: Asking) -> None:
    done = ask("start", "slow-2", "--no-wait")

    assert (done.returncode, done.stdout, done.stderr) == (0, f"slow-2 starts: {proxy.url}/ws/slow-2/lab\n", "")
    assert phase(proxy, "slow-2") == "starting"


def test_ctrl_c_ends_the_waiting_and_not_the_start(proxy: Proxy, ask: Asking) -> None:
    process = ask.begin("start", "slow-3")
    until(lambda: phase(proxy, "slow-3") == "starting", "it starts")
    assert process.stderr is not None
    process.stderr.readline()  # it waits

    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert phase(proxy, "slow-3") == "starting"


def test_start_stopped_by_somebody_else_ends(proxy: Proxy, ask: Asking) -> None:
    process = ask.begin("start", "slow-4")
    until(lambda: phase(proxy, "slow-4") == "starting", "it starts")

    ask("stop", "slow-4")
    _, err = process.communicate(timeout=30)

    assert process.returncode == 1
    assert "notebook-proxy: slow-4 was stopped while it started: Somebody asked for it." in err


def test_start_goes_on_over_a_restart_of_the_proxy(begin: Callable[..., Proxy], tmp_path: Path) -> None:
    first = begin()
    process = Asking(first.url).begin("start", "slow")
    until(lambda: phase(first, "slow") == "starting", "it starts")

    assert first.stop() == 0
    (tmp_path / "workspaces" / "go").touch()
    second = begin(f"--listen={first.url.removeprefix('http://')}")
    out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (0, f"slow runs: {first.url}/ws/slow/lab\n"), err
    assert f"{first.url} does not answer; asking again\n" in err
    assert phase(second, "slow") == "running"


def test_stop_waits_for_the_end(proxy: Proxy, ask: Asking) -> None:
    ask("start", "two")

    done = ask("stop", "two")

    assert (done.returncode, done.stdout) == (0, "two is stopped; its files stay.\n")
    assert phase(proxy, "two") == "stopped"
    assert proxy.servers("two") == []


def test_stop_of_what_does_not_run_is_done(ask: Asking) -> None:
    assert ask("stop", "never").returncode == 0


def test_restart_puts_another_server_in_its_place(proxy: Proxy, ask: Asking) -> None:
    ask("start", "three")
    before = proxy.servers("three")

    done = ask("restart", "three")

    assert (done.returncode, done.stdout) == (0, f"three runs: {proxy.url}/ws/three/lab\n")
    assert "Stopping three" in done.stderr
    [after] = proxy.servers("three")
    assert [after] != before


# More time ------------------------------------------------------------------------------------------------------------


def test_extend_tells_until_when_it_is_kept(proxy: Proxy, ask: Asking) -> None:
    ask("start", "four")
    due = proxy.get("/api/workspaces/four").json()["due_at"]

    done = ask("extend", "four", "--by", "2h")

    told = re.fullmatch(r"four is kept until (\S+Z) at least\.\n", done.stdout)
    assert done.returncode == 0
    assert told is not None, done.stdout
    later = datetime.fromisoformat(told[1]) - datetime.fromisoformat(due)
    assert abs(later - timedelta(hours=2)) < timedelta(seconds=2)  # it is told to the second


def test_extend_of_what_does_not_run_is_refused(ask: Asking) -> None:
    done = ask("extend", "never")

    assert done.returncode == 1
    assert done.stderr == (
        "notebook-proxy: It cannot be kept longer: It does not run; start it, and it runs until nobody uses it.\n"
    )


@pytest.mark.parametrize("arguments", [["extend", "x", "--by", "4x"], ["start", "x", "--timeout", "0"]])
def test_duration_that_is_none_is_refused_before_anything_is_asked(arguments: list[str], ask: Asking) -> None:
    done = ask(*arguments)

    assert done.returncode == 2
    assert f"{arguments[2]} {arguments[3]!r}: must be " in done.stderr


# Looking --------------------------------------------------------------------------------------------------------------


def test_list_tells_all_in_columns(ask: Asking) -> None:
    ask("start", "shown-a")
    ask("start", "broken-shown")

    done = ask("list")

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["ID", "STATE", "SINCE"]
    states = {line.split()[0]: line.split()[1] for line in lines[1:]}
    assert states["shown-a"] == "running"
    assert states["broken-shown"] == "failed"
    assert list(states) == sorted(states)


def test_list_for_programs_is_what_the_api_tells(proxy: Proxy, ask: Asking) -> None:
    ask("start", "told")

    found = json.loads(ask("list", "-o", "json").stdout)["workspaces"]

    api = proxy.get("/api/workspaces").json()["workspaces"]
    assert [each["id"] for each in found] == [each["id"] for each in api]
    assert found[0].keys() == api[0].keys()


def test_list_on_a_terminal_has_colours(ask: Asking) -> None:
    ask("start", "bright")

    status, drawn = on_terminal(ask, "list")

    assert status == 0
    assert "\x1b[32mrunning" in drawn


def test_show_tells_what_is_known(proxy: Proxy, ask: Asking) -> None:
    ask("start", "known")

    shown = ask("show", "known").stdout
    told: dict[str, Any] = json.loads(ask("show", "known", "-o", "json").stdout)

    lines = dict(line.split(maxsplit=1) for line in shown.splitlines() if line[:1].strip())
    assert lines["Workspace"] == "known"
    assert lines["State"].startswith("running, since ")
    assert lines["Address"] == f"{proxy.url}/ws/known/lab"
    assert told["phase"] == "running"


def test_show_of_a_failed_start_has_its_log_without_what_a_terminal_obeys(ask: Asking) -> None:
    ask("start", "broken-3")

    shown = ask("show", "broken-3").stdout

    assert "State           failed" in shown
    assert "no such kernel\\x1b[2J" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize("form", ["text", "json"])
def test_show_of_what_nothing_is_known_of_says_so(ask: Asking, form: str) -> None:
    done = ask("show", "nobody", "--output", form)

    assert done.returncode == 5
    assert "nothing is known of workspace 'nobody'" in done.stderr
    assert (json.loads(done.stdout)["phase"] if form == "json" else done.stdout) == (
        "stopped" if form == "json" else ""
    )


def test_looking_starts_nothing_and_is_no_use(proxy: Proxy, ask: Asking) -> None:
    ask("start", "quiet")

    def last_active() -> datetime:
        return datetime.fromisoformat(proxy.get("/api/workspaces/quiet").json()["last_active"])

    before = last_active()

    for arguments in (["list"], ["show", "quiet"], ["show", "asleep"]):
        ask(*arguments)

    assert last_active() - before < timedelta(milliseconds=10)  # it is read from two clocks
    assert phase(proxy, "asleep") == "stopped"


@pytest.mark.parametrize("command", ["show", "start", "stop", "restart", "extend"])
@pytest.mark.parametrize("name", ["Bad", "a/b", "..", "a" * 55, "\x1b[31m"])
def test_id_that_can_name_no_workspace_is_refused(command: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, name, "--server", "http://127.0.0.1:1"]) == 2  # where nobody is asked

    shown = capsys.readouterr().err
    assert "is not a workspace id" in shown
    assert "\x1b" not in shown
