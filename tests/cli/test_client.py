"""What the command says when no proxy is there, when something else is, and when it does not let one in."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from proxy import cli
from proxy.cli.exits import MEANINGS, Exit
from proxy.cli.terminal import clean
from tests.cli import COMMAND, REPOSITORY, environ, run
from tests.cluster.tls import make_server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def answering(*answers: bytes, context: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """Give the address of a server that answers each connection's first request with the next of these bytes, the last
    one again and again; and what it was asked.
    """
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    with connection if context is None else context.wrap_socket(connection, server_side=True) as wire:
                        asked.append(wire.recv(65_536))
                        wire.sendall(answers[min(len(asked), len(answers)) - 1])
                except OSError:
                    continue

        thread = threading.Thread(target=serve)
        thread.start()
        scheme = "http" if context is None else "https"
        try:
            yield f"{scheme}://127.0.0.1:{server.getsockname()[1]}", asked
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(status: str, body: str = "", kind: str = "application/json", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", body]).encode()


def problem(status: str, code: str, detail: str) -> bytes:
    number, _, title = status.partition(" ")
    said = {"type": "about:blank", "title": title, "status": int(number), "detail": detail, "code": code}
    return http(status, json.dumps(said), "application/problem+json")


EMPTY = http("200 OK", '{"workspaces": [], "next": null}')


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SERVER", "TOKEN"):
        monkeypatch.delenv(f"NOTEBOOK_PROXY_{name}", raising=False)


@pytest.mark.parametrize(
    ("answer", "status", "words"),
    [
        (problem("401 Unauthorized", "unauthenticated", "Sign in."), 4, "does not let you in: NOTEBOOK_PROXY_TOKEN"),
        (problem("403 Forbidden", "forbidden", "Not yours."), 4, "does not allow this. Not yours."),
        (problem("503 Service Unavailable", "x", "Later."), 1, "Service Unavailable: Later."),
        (http("502 Bad Gateway", "<html>", "text/html"), 3, "answers 502 Bad Gateway, and not as a notebook-proxy"),
        (http("404 Not Found", "no", "text/plain"), 3, "answers 404 Not Found, and not as a notebook-proxy"),
        (http("200 OK", "<html>", "text/html"), 3, "is no notebook-proxy: its answer is no JSON object"),
        (http("302 Found", "", "text/html", "Location: https://sso.example/"), 3, "sends on to https://sso.example/"),
        (b"", 3, "cannot be reached: it hangs up"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", 3, "cannot be reached"),
    ],
)
def test_what_answers_otherwise_is_named(
    answer: bytes, status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(answer) as (url, _):
        assert cli.main(["list", "--server", url]) == status

    shown = capsys.readouterr()
    assert shown.out == ""
    assert words in shown.err
    assert shown.err.startswith("notebook-proxy: ")
    assert shown.err.count("\n") == 1


def test_nobody_there_is_named_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert cli.main(["list", "--server", url]) == 3

    shown = capsys.readouterr().err
    assert shown.startswith(f"notebook-proxy: {url} cannot be reached: Connection refused. Is the proxy running there?")
    assert "--server or NOTEBOOK_PROXY_SERVER" in shown


@pytest.mark.parametrize(
    "server",
    ["", "ftp://x", "127.0.0.1:8000", "http://", "http://x/path", "http://x?q", "http://secret@x", "http://[::1"],
)
def test_address_that_is_none_is_refused(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = [f"--server={server}"] if server else ["--server", " "]

    assert cli.main(["list", *given]) == 2

    shown = capsys.readouterr().err
    assert "is not an address such as" in shown
    assert "secret" not in shown


def test_certificate_that_is_not_trusted_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context, _ = make_server_context(tmp_path)

    with answering(EMPTY, context=context) as (url, asked):
        assert cli.main(["list", "--server", url]) == 3

    assert "its certificate is not trusted" in capsys.readouterr().err
    assert asked == []


def test_certificate_of_a_named_authority_is_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context, authority = make_server_context(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))

    with answering(EMPTY, context=context) as (url, _):
        assert cli.main(["list", "--server", url]) == 0


def test_token_is_sent_from_the_environment_or_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_TOKEN", "of-the-environment")
    file = tmp_path / "token"
    file.write_text("of-the-file\n")

    with answering(EMPTY) as (url, asked):
        assert cli.main(["list", "--server", url]) == 0
        assert cli.main(["list", "--server", url, "--token-file", str(file)]) == 0

    assert b"\r\nAuthorization: Bearer of-the-environment\r\n" in asked[0]
    assert b"\r\nAuthorization: Bearer of-the-file\r\n" in asked[1]


def test_token_is_never_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_TOKEN", "geheim")

    with answering(problem("401 Unauthorized", "unauthenticated", "It has expired.")) as (url, _):
        assert cli.main(["list", "--server", url]) == 4

    shown = capsys.readouterr().err
    assert "the token is not accepted. It has expired." in shown
    assert "geheim" not in shown


def test_token_does_not_follow_a_redirect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_TOKEN", "geheim")

    with (
        answering(EMPTY) as (other, asked),
        answering(http("307 Temporary Redirect", "", "text/html", f"Location: {other}/")) as (url, _),
    ):
        assert cli.main(["list", "--server", url]) == 3

    assert asked == []


@pytest.mark.parametrize("content", ["two\nlines", "ümlaut"])
def test_file_that_holds_no_token_is_refused(content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "token"
    file.write_text(content)

    assert cli.main(["list", "--token-file", str(file)]) == 2

    assert content not in capsys.readouterr().err


def test_file_that_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list", "--token-file", "/no/such/token"]) == 2

    assert capsys.readouterr().err == "notebook-proxy: --token-file /no/such/token: No such file or directory\n"


@pytest.mark.parametrize("command", ["list", "show", "start", "stop", "restart", "extend"])
def test_no_flag_takes_a_token(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])

    shown = capsys.readouterr().out
    assert "--token-file FILE" in shown
    assert not re.search(r"--token[ =]", shown)


def test_reader_that_goes_away_is_no_error() -> None:
    with answering(http("200 OK", json.dumps({"workspaces": [], "next": None, "pad": "x" * 1_000_000}))) as (url, _):
        process = subprocess.Popen(
            [*COMMAND, "list", "-o", "json"],
            cwd=REPOSITORY,
            env=environ(NOTEBOOK_PROXY_SERVER=url),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        shown = process.stderr.read()

        assert (process.wait(30), shown) == (0, b"")
        process.stderr.close()


def test_list_follows_pages_to_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    page = {
        "id": "a", "phase": "stopped", "failure": None, "since": None, "last_active": None, "due_at": None,
        "connections": 0, "profile": None, "owner": "\x1b]0;title\x07",
    }  # fmt: skip
    first = http("200 OK", json.dumps({"workspaces": [page], "next": "a"}))
    second = http("200 OK", json.dumps({"workspaces": [page | {"id": "b"}], "next": None}))

    with answering(first, second) as (url, asked):
        assert cli.main(["list", "--server", url]) == 0

    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines()] == ["ID", "a", "b"]
    assert "\x1b" not in shown
    assert asked[1].startswith(b"GET /api/workspaces?limit=1000&after=a HTTP/1.1\r\n")


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b31m", "\x07", "\r", "\x7f", "\u202e", "\ud800", "a\x00b"])
def test_what_a_terminal_obeys_is_written_out(text: str) -> None:
    shown = clean(text)

    assert shown.isprintable()
    assert "\\x" in shown


def test_what_it_shows_stays() -> None:
    assert clean("tab\tline\n ü 日本 🙂") == "tab\tline\n ü 日本 🙂"


def test_help_names_every_exit_status() -> None:
    shown = run("--help").stdout

    assert list(MEANINGS) == list(Exit)
    for status in Exit:
        assert f"\n  {int(status):>3}  " in shown


def test_rich_is_imported_on_a_terminal_alone() -> None:
    code = (
        "import sys\nfrom proxy.cli import main\n"
        "main(['list', '--server', 'http://127.0.0.1:1'])\n"
        "sys.exit('rich' in sys.modules or 'aiohttp' in sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
