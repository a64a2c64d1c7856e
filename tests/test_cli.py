"""The command line: flags, exit statuses, and the one line that says what is wrong."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import types
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp.http_parser
import pytest

from proxy import __version__, cli
from proxy.config import Config, load, settings_table
from proxy.errors import ConfigError, ProxyError
from proxy.settings_sources import file_settings, is_secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


ROOT = Path(__file__).parent.parent
KUBECONFIG = """\
{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a, user: a}}],
 clusters: [{name: a, cluster: {server: "http://127.0.0.1:1"}}], users: [{name: a, user: {}}]}
"""  # of an API server that nobody is


@pytest.fixture(autouse=True)
def _logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("proxy.logs.log_what_python_says", lambda: None)  # pytest listens to Python itself
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


class Served:
    """What stands for `proxy.app`: remembers the settings, announces, and then ends as it is told."""

    def __init__(self) -> None:
        self.config: Config | None = None
        self.loop = ""
        self.error: BaseException | None = None

    async def serve(self, config: Config, announce: Callable[[str], None]) -> None:
        self.config = config
        self.loop = type(asyncio.get_running_loop()).__module__
        if self.error is not None:
            raise self.error
        announce("http://127.0.0.1:8000")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Served:
    app, served = types.ModuleType("proxy.app"), Served()
    app.serve = served.serve  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "proxy.app", app)
    for variable in [variable for variable in os.environ if variable.startswith("NOTEBOOK_PROXY_")]:
        monkeypatch.delenv(variable)
    return served


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "proxy", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60, **options)


# Help ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["serve", "--help"], ["settings"]])
def test_what_only_tells_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom proxy.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as end: assert end.code == 0\n"
        "heavy = {'aiohttp', 'kubernetes_asyncio', 'httptools', 'uvloop', 'jupyter_server'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.stderr == ""
    assert done.returncode == 0


def test_serve_imports_nothing_of_other_commands() -> None:
    code = (
        "import sys\nfrom proxy.cli import main\n"
        "try: main(['serve', '--help'])\nexcept SystemExit: pass\n"
        "sys.exit(str({name for name in sys.modules if name.startswith('proxy.cli.')}))"
    )

    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)

    modules = {"serve", "flags", "terminal", "exits"}
    assert set(re.findall(r"proxy\.cli\.(\w+)", done.stderr)) == modules


def test_each_command_is_found_in_the_file_that_has_it() -> None:
    [commands] = [action for action in cli._parser()._actions if isinstance(action.choices, dict)]

    assert list(commands.choices or ()) == [name for names in cli._THEMES.values() for name in names]
    for theme, names in cli._THEMES.items():
        for name in names:
            [alone] = [action for action in cli._parser(name)._actions if isinstance(action.choices, dict)]
            assert list(alone.choices or ()) == list(names), theme


def test_version_is_printed() -> None:
    done = run("--version")

    assert (done.stdout, done.returncode) == (f"notebook-proxy {__version__}\n", 0)


def test_no_command_prints_help_and_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2

    shown = capsys.readouterr()
    assert "serve" in shown.err
    assert "settings" in shown.err
    assert shown.out == ""


def test_help_of_serve_has_a_flag_for_each_setting_with_default_and_group(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["serve", "--help"])

    shown = capsys.readouterr().out
    assert ended.value.code == 0
    named = {name.replace("_", "-") for name in Config.model_fields}
    secrets = {name.replace("_", "-") for name, info in Config.model_fields.items() if is_secret(info)}
    files = {name.replace("_", "-") for name in file_settings(Config.model_fields)}
    assert "notebook-secret" in secrets  # a secret itself is never on a command line, which others can see
    assert {"notebook-secret-file", "pod-overlay-file", "profiles-file"} <= files
    assert set(re.findall(r"^  --([\w-]+)", shown, re.MULTILINE)) == {"config", *files, *(named - secrets)}
    assert "(default: 4h)" in " ".join(shown.split())
    assert "\nlocal backend:\n" in shown
    assert "auto|local|kubernetes" in shown
    assert "NOTEBOOK_PROXY_IDLE_TTL" in shown


def test_settings_prints_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["settings"]) == 0

    assert capsys.readouterr().out == settings_table()


@pytest.mark.parametrize(
    "arguments",
    [["serv"], ["serve", "--idle-tll", "4h"], ["serve", "--idle", "4h"], ["serve", "x"], ["serve", "--listen"]],
)
def test_arguments_that_make_no_sense_end_in_one_line_and_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str], served: Served
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)

    shown = capsys.readouterr()
    assert ended.value.code == 2
    assert re.fullmatch(r"notebook-proxy: .*--help` lists what there is\n", shown.err)
    assert served.config is None


# Settings -----------------------------------------------------------------------------------------------------------


def test_flags_beat_the_environment_and_that_beats_the_file(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("{idle_ttl: 3h, ready_timeout: 3s, stop_grace: 3s}")
    monkeypatch.setenv("NOTEBOOK_PROXY_IDLE_TTL", "2h")
    monkeypatch.setenv("NOTEBOOK_PROXY_READY_TIMEOUT", "2s")

    assert cli.main(["serve", "--config", str(file), "--idle-ttl", "1h", "--trusted-proxies=10.0.0.0/8"]) == 0

    assert served.config is not None
    assert served.config.idle_ttl == timedelta(hours=1)
    assert served.config.ready_timeout == timedelta(seconds=2)
    assert served.config.stop_grace == timedelta(seconds=3)
    assert [str(network) for network in served.config.trusted_proxies] == ["10.0.0.0/8"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--idle-ttl", "4x"], "idle_ttl = '4x' (from the command line): must be a duration"),
        (["--idle-ttl", "-5"], "idle_ttl = '-5s' (from the command line): must be a duration above zero"),
        (["--listen", "0.0.0.0:80"], "listen = '0.0.0.0:80' (from the command line): must be a loopback address"),
        (["--config", "/no/such/file"], "--config /no/such/file: No such file or directory"),
    ],
)
def test_a_wrong_setting_ends_in_one_line_and_2(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str], served: Served
) -> None:
    assert cli.main(["serve", *arguments]) == 2

    shown = capsys.readouterr()
    assert shown.err.startswith(f"notebook-proxy: {line}")
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""
    assert served.config is None


def test_a_variable_that_is_no_setting_is_logged(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTEBOOK_PROXY_IDLE_TLL", "4h")

    assert cli.main(["serve"]) == 0

    assert "NOTEBOOK_PROXY_IDLE_TLL is set, but there is no such setting; did you mean 'idle_ttl'?" in caplog.messages


# Serving ------------------------------------------------------------------------------------------------------------


def test_it_announces_where_it_listens_and_what_to_open(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["serve"]) == 0

    assert capsys.readouterr().out == (
        f"notebook-proxy {__version__} is listening on http://127.0.0.1:8000\n"
        "Open http://127.0.0.1:8000/ws/demo/lab (any name in place of demo is a workspace of its own; "
        "Ctrl-C stops the proxy).\n"
    )


def test_it_says_what_else_it_takes_where_everybody_needs_a_token(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["serve", "--auth", "jwt"]) == 0

    assert "lab?token=<one that `notebook-proxy token --user NAME --workspace demo` prints> " in capsys.readouterr().out


def test_it_runs_on_uvloop(served: Served) -> None:
    pytest.importorskip("uvloop")

    cli.main(["serve"])

    assert served.loop.startswith("uvloop")


def test_without_uvloop_it_runs_on_asyncio(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)

    assert cli.main(["serve"]) == 0

    assert served.loop.startswith("asyncio")


def test_a_reader_that_has_gone_away_stops_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)

    with os.fdopen(writer, "wb", buffering=0) as raw:
        monkeypatch.setattr(
            sys, "stdout", types.SimpleNamespace(write=lambda text: raw.write(text.encode()), flush=int)
        )
        assert cli.main(["serve"]) == 0


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (
            OSError(errno.EADDRINUSE, "error while attempting to bind on address ('127.0.0.1', 8000): address in use"),
            1,
            "cannot listen on 127.0.0.1:8000: address in use; choose another address with --listen",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied"),
            1,
            "cannot listen on 127.0.0.1:8000: Permission denied; choose another address with --listen",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/srv/ws"),
            1,
            "cannot use /srv/ws: Permission denied",
        ),
        (ProxyError("it went\nwrong"), 1, "it went wrong"),
        (ConfigError("backend = 'kubernetes' is not there yet"), 2, "backend = 'kubernetes' is not there yet"),
    ],
)
def test_what_this_machine_lacks_ends_in_one_line(
    error: Exception, status: int, line: str, served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    served.error = error

    assert cli.main(["serve"]) == status

    assert capsys.readouterr().err == f"notebook-proxy: {line}\n"


def test_a_defect_keeps_its_traceback(served: Served) -> None:
    served.error = OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        cli.main(["serve"])


def test_ctrl_c_before_it_serves_is_no_error(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.error = KeyboardInterrupt()

    assert cli.main(["serve"]) == 0

    assert capsys.readouterr() == ("", "")


def test_without_the_c_parser_it_does_not_serve(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = aiohttp.http_parser.HttpRequestParserPy
    monkeypatch.setattr(aiohttp.http_parser, "HttpRequestParser", parser)

    assert cli.main(["serve"]) == 1

    line = capsys.readouterr().err
    assert line.startswith("notebook-proxy: aiohttp's C extension is not loaded")
    assert "pip install" in line
    assert served.config is None


def test_pure_python_aiohttp_is_recognised_for_real() -> None:
    done = run("serve", "--listen", "127.0.0.1:0", env={**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"})

    assert done.returncode == 1
    assert done.stderr.startswith("notebook-proxy: aiohttp's C extension is not loaded")


def test_an_address_in_use_is_named_for_real(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run("serve", "--listen", address, "--local-root", str(tmp_path / "ws"))

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].startswith(f"notebook-proxy: cannot listen on {address}: ")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_0(number: signal.Signals, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "proxy", "serve", "--listen", "127.0.0.1:0", "--local-root", str(tmp_path / "ws")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            first, second = process.stdout.readline(), process.stdout.readline()
            process.send_signal(number)
            log, status = process.stderr.read(), process.wait(30)
        finally:
            process.kill()

    base = re.fullmatch(rf"notebook-proxy {re.escape(__version__)} is listening on (http://127\.0\.0\.1:\d+)\n", first)
    assert base is not None, log
    assert second.startswith(f"Open {base[1]}/ws/demo/lab (any name")
    assert status == 0, log
    assert "Traceback" not in log


@pytest.mark.parametrize("auth", ["none", "jwt"])
def test_a_signal_ends_it_with_0_while_it_still_waits_for_a_cluster(auth: str, tmp_path: Path) -> None:
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    flags = ("--backend=kubernetes", "--kubeconfig=kubeconfig", "--workspace-pvc-size=1Gi", f"--auth={auth}")
    command = [sys.executable, "-m", "proxy", "serve", "--listen=127.0.0.1:0", "--ops-listen=127.0.0.1:0", *flags]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            log = ""
            while "Kubernetes cannot be followed" not in log:
                assert process.poll() is None, log
                log += process.stderr.readline()
            process.send_signal(signal.SIGTERM)
            listening, log = process.communicate(timeout=30)
        finally:
            process.kill()

    assert process.returncode == 0, log
    assert listening == ""  # it did not begin to serve first
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], False),
        (["--dry-run-reaper"], True),
        (["--dry-run-reaper", "--idle-ttl=1h"], True),
        (["--dry-run-reaper", "off"], False),
    ],
)
def test_switch_without_a_value_is_on(flags: list[str], expected: bool) -> None:
    given = vars(cli._parser().parse_args(["serve", *flags]))
    del given["run"]

    assert load(given).dry_run_reaper is expected
