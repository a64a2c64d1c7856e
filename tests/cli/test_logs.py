"""`logs`: the last lines of a notebook server, on this machine and on a cluster; bounded, and without its token."""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING

import pytest

from proxy import cli
from proxy.backends import LOG_BYTES
from tests.cli import Asking
from tests.cli.test_workspaces import on_terminal
from tests.cluster.resources import SECRETS
from tests.e2e import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.cluster.threaded import ThreadedCluster
    from tests.e2e import Proxy


def test_last_lines_are_printed_without_the_token(ask: Asking) -> None:
    ask("start", "one")

    done = ask("logs", "one")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("serving /ws/one/?token=***\n")


def test_log_of_a_start_that_failed_is_there(ask: Asking) -> None:
    ask("start", "broken-1")

    assert "no such kernel\x1b[2J\n" in ask("logs", "broken-1").stdout  # as it is, where it is no terminal


def test_log_outlives_its_server(ask: Asking) -> None:
    ask("start", "two")
    ask("stop", "two")

    assert "serving /ws/two/" in ask("logs", "two").stdout


def test_lines_are_counted_from_the_end(proxy: Proxy, ask: Asking) -> None:
    ask("start", "chatty")
    until(lambda: "end" in ask("logs", "chatty").stdout, "it has written all")
    log = (proxy.root / "chatty" / ".notebook.log").read_text()

    assert len(log) > LOG_BYTES
    assert ask("logs", "chatty", "--lines", "3").stdout.splitlines() == log.splitlines()[-3:]
    most = ask("logs", "chatty", "--lines", "5000").stdout
    assert most.splitlines() == log.splitlines()[-5000:]


def test_terminal_is_shown_nothing_that_it_obeys(ask: Asking) -> None:
    ask("start", "chatty-2")
    until(lambda: "end" in ask("logs", "chatty-2").stdout, "it has written all")

    _, drawn = on_terminal(ask, "logs", "chatty-2", "-n", "50")

    assert "red \\x1b[31mend" in drawn
    assert "\x1b" not in drawn


def test_program_is_told_as_json(ask: Asking) -> None:
    ask("start", "three")

    told = json.loads(ask("logs", "three", "-o", "json").stdout)

    assert told["id"] == "three"
    assert told["log"].startswith("serving /ws/three/")


@pytest.mark.parametrize("kind", ["nothing", "link", "pipe", "directory"])
def test_what_is_no_log_is_not_read(proxy: Proxy, ask: Asking, kind: str) -> None:
    name = f"odd-{kind}"
    log = proxy.root / name / ".notebook.log"
    log.parent.mkdir()
    match kind:
        case "link":
            (proxy.root / "secret").write_text("not for notebooks")
            log.symlink_to(proxy.root / "secret")
        case "pipe":
            os.mkfifo(log)
        case "directory":
            log.mkdir()

    done = ask("logs", name)

    assert (done.returncode, done.stdout) == (5, "")
    assert f"There is no log of {name}: " in done.stderr


@pytest.mark.parametrize("lines", ["0", "-1", "5001", "x"])
def test_number_of_lines_that_is_none_is_refused(lines: str) -> None:
    try:
        status = cli.main(["logs", "demo", "--lines", lines, "--server", "http://127.0.0.1:1"])
    except SystemExit as end:
        status = int(end.code or 0)

    assert status == 2


def test_lines_of_a_pod_are_printed_without_its_token(
    cluster: ThreadedCluster, on_cluster: Sequence[str], begin: Callable[..., Proxy]
) -> None:
    ask = Asking(begin(*on_cluster).url)
    ask("start", "demo")
    [log] = cluster.root.glob("pods/*/*.log")
    token = token_of(cluster)
    with log.open("a") as file:
        file.write(f"GET /?token={token}\n" + "".join(f"{number:0100}\n" for number in range(5_000)) + "the end\n")

    last, most = (ask("logs", "demo", "--lines", count).stdout for count in ("2", "5000"))
    log.write_text(f"GET /?token={token}\n")

    assert last == f"{4_999:0100}\nthe end\n"
    assert most.endswith("the end\n")  # more than is read at once: the last come
    assert 1 < len(most.splitlines()) <= LOG_BYTES // 100
    assert ask("logs", "demo").stdout == "GET /?token=***\n"
    assert ask("logs", "nobody").returncode == 5


def token_of(cluster: ThreadedCluster) -> str:
    """Return the token of the notebook server, as its Secret holds it."""
    secret = cluster.do(lambda double: double.store.get(SECRETS, "default", "notebook-demo"))
    assert secret is not None
    return base64.b64decode(secret["data"]["token"]).decode()
