from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import uvloop
from multidict import CIMultiDict

import proxy
from proxy.backends import guard, local, process
from proxy.backends.kernels import ask
from proxy.backends.local import LocalBackend
from proxy.backends.probe import probe
from proxy.errors import InvalidKey, StartFailed, StopFailed
from proxy.notes import Notes
from proxy.report import Step
from proxy.workspace import Handle, Key
from proxy.workspace_settings import WorkspaceSettings
from tests.backends import PATIENCE_SECONDS, are_gone, eventually, is_running, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from proxy.errors import StartStalled
    from proxy.report import Progress

KEY, OTHER = Key("alice-workspace", "default"), Key("bob", "default")
TARGET = "/ws/alice-workspace/api"

# The report is written last: when it is there, the server listens.
SERVER = """
import json, os, signal, socket, subprocess, sys
port, base_url, report, mode = sys.argv[1:5]
print("first words", flush=True)
if mode == "fails":
    print("old" * 100, *range(100), sep="\\n")
    print("no more strength; my token was", os.environ["JUPYTER_TOKEN"], flush=True)
    sys.exit(3)
if mode == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"], start_new_session=True)
listener = socket.create_server(("127.0.0.1", int(port)))
with open(report + ".new", "w") as file:
    json.dump({"argv": sys.argv, "env": dict(os.environ), "cwd": os.getcwd(), "pids": [os.getpid(), child.pid]}, file)
os.rename(report + ".new", report)
while True:
    connection, _ = listener.accept()
    words = connection.recv(65536).split()
    found = words[1:2] == [(base_url + "api").encode()] and mode != "never"
    if found and mode == "goes deaf":
        listener.close()
    connection.sendall(b"HTTP/1.1 %d\\r\\nContent-Length: 0\\r\\n\\r\\n" % (200 if found else 404))
    connection.close()
    if found and mode == "goes deaf":
        signal.pause()
"""


class Site:
    """A root directory, a server of our own in it, and what the observer was told."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = tmp_path / "workspaces"
        self.script = tmp_path / "server.py"
        self.script.write_text(SERVER)
        self.told: list[tuple[Key, Handle, str]] = []
        self.steps: list[tuple[Key, Step]] = []
        self.noted_of: dict[Key, Notes | None] = {}

    def command(self, mode: str = "serves", *more: str) -> tuple[str, ...]:
        python = (sys.executable, "-I", "-S", str(self.script))
        return (*python, "{port}", "{base_url}", "{root}/report.json", mode, *more)

    @asynccontextmanager
    async def backend(self, **settings: Any) -> AsyncIterator[LocalBackend]:
        settings = {
            "command": self.command(),
            "failed_ttl": timedelta(minutes=2),
            "stop_grace": timedelta(seconds=30),
            **settings,
        }
        backend = LocalBackend(self.root, **settings)
        backend.observe(self)
        try:
            yield backend
        finally:
            await backend.close()

    def lost(self, key: Key, handle: Handle, reason: str) -> None:
        self.told.append((key, handle, reason))

    def found(
        self, key: Key, handle: Handle, last_active: datetime | None, started: datetime | None = None
    ) -> None: ...

    def extended(self, key: Key, until: datetime) -> None: ...

    def active(self, key: Key, at: datetime) -> None: ...

    def noted(self, key: Key, notes: Notes | None) -> None:
        self.noted_of[key] = notes

    def profiled(self, key: Key, profile: str) -> None: ...

    def condemned(self, key: Key) -> None: ...

    def stalled(self, key: Key, trouble: StartStalled | None) -> None: ...

    def progress(self, key: Key, progress: Progress) -> None:
        self.steps.append((key, progress.step))

    def processes(self) -> list[int]:
        """Return every process of this machine that runs in a workspace, whoever its parent is."""
        found = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdecimal() and (entry / "cwd").readlink().is_relative_to(self.root):
                    found.append(int(entry.name))
        return found

    def has_report(self, key: Key = KEY) -> bool:
        return (self.root / key.workspace_id / "report.json").exists()

    def report(self, key: Key = KEY) -> Any:
        return json.loads((self.root / key.workspace_id / "report.json").read_text())

    def pids(self, key: Key = KEY) -> list[int]:
        found: list[int] = self.report(key)["pids"]
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def loop_factory(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    factory: Callable[[], asyncio.AbstractEventLoop] = request.param
    return factory


def test_two_workspaces_run_side_by_side_and_end_one_by_one(
    site: Site, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def live() -> None:
        async with site.backend() as backend:
            first, second = await asyncio.gather(backend.start(KEY), backend.start(OTHER))
            assert first.address != second.address
            assert await probe(first, TARGET) == 200
            assert await probe(second, TARGET) == 404

            await backend.stop(KEY)

            assert are_gone(*site.pids(KEY))
            assert all(is_running(pid) for pid in site.pids(OTHER))
        assert are_gone(*site.pids(OTHER))

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(live())

    assert site.told == []


def test_a_server_that_ends_by_itself_is_reported_exactly_once(
    site: Site, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def live() -> Handle:
        async with site.backend() as backend:
            handle = await backend.start(KEY)
            os.kill(site.pids()[0], signal.SIGKILL)
            await eventually(lambda: site.told)
            await backend.stop(KEY)
        return handle

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        handle = runner.run(live())

    reason = "it was ended by SIGKILL, which the system also does when memory runs out"
    assert site.told == [(KEY, handle, reason)]
    assert are_gone(*site.pids())


def test_a_cancelled_start_leaves_nothing_once_it_is_stopped(
    site: Site, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def live() -> None:
        async with site.backend(command=site.command("never")) as backend:
            start = asyncio.create_task(backend.start(KEY))
            await eventually(site.has_report)
            start.cancel()
            with pytest.raises(asyncio.CancelledError):
                await start

            await backend.stop(KEY)

            assert are_gone(*site.pids())

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(live())


def test_a_start_that_is_cancelled_at_any_moment_leaves_nothing_once_it_is_stopped(
    site: Site, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def live(turns: int) -> None:
        async with site.backend() as backend:
            start = asyncio.create_task(backend.start(KEY))
            for _ in range(turns):
                await asyncio.sleep(0)
            start.cancel()
            await asyncio.wait({start})

            await backend.stop(KEY)

            assert backend._servers == {}
            assert site.processes() == []

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        for turns in range(12):
            runner.run(live(turns))


async def test_notes_are_kept_in_the_workspaces_directory_and_told_at_the_next_open(site: Site) -> None:
    async with site.backend() as backend:
        await backend.start(KEY)
        await backend.note(KEY, {"idle-ttl": "2h", "stop-reason": None})
    told = site.noted_of[KEY]
    (site.root / "Not-An-Id").mkdir()
    (site.root / "bob").mkdir()
    site.noted_of.clear()

    async with site.backend() as backend:
        await backend.open()

    assert told == Notes(WorkspaceSettings(idle_ttl=timedelta(hours=2)))
    assert site.noted_of == {KEY: told, OTHER: Notes()}


async def test_notes_that_a_person_has_edited_are_read_at_the_next_start(site: Site) -> None:
    async with site.backend() as backend:
        await backend.note(KEY, {"owner": "ada"})
        (site.root / KEY.workspace_id / ".workspace.yaml").write_text("owner: grace\nidle-ttl: soon\n")

        await backend.start(KEY)

    told = site.noted_of[KEY]
    assert told is not None
    assert (told.owner, len(told.complaints)) == ("grace", 1)


async def test_steps_of_a_start_are_told_in_order_and_of_what_runs_already_none(site: Site) -> None:
    async with site.backend() as backend:
        await backend.start(KEY)
        await backend.start(KEY)

    assert site.steps == [(KEY, Step.STARTING), (KEY, Step.ANSWERING)]


async def test_close_clears_what_a_cancelled_start_has_left(site: Site) -> None:
    async with site.backend(command=site.command("never")) as backend:
        start = asyncio.create_task(backend.start(KEY))
        await eventually(site.has_report)
        start.cancel()
        await asyncio.wait({start})

    assert are_gone(*site.pids())


async def test_the_command_gets_its_placeholders_replaced_once_and_literally(site: Site) -> None:
    words = ("{workspace_id}", "{token}", "{nothing}", "{", "{0}", "{root}/{workspace_id}", "$HOME")
    async with site.backend(command=site.command("serves", *words)) as backend:
        handle = await backend.start(KEY)

    root = str(site.root / KEY.workspace_id)
    token = handle.headers["Authorization"].removeprefix("token ")
    assert site.report()["argv"] == [
        *(str(site.script), str(handle.address[1]), "/ws/alice-workspace/", f"{root}/report.json", "serves"),
        *("alice-workspace", token, "{nothing}", "{", "{0}", f"{root}/alice-workspace", "$HOME"),
    ]
    assert site.report()["cwd"] == root


async def test_the_environment_is_the_proxys_without_its_settings(site: Site) -> None:
    environ = {"HOME": "/home/me", "NOTEBOOK_PROXY_LISTEN": ":1", "notebook_proxy_x": "y", "JUPYTER_TOKEN": "stale"}
    extra = {
        "ID": "<{workspace_id}>",
        "SHORT": "{workspace_id_short}",
        "{workspace_id}": "{token}",
        "JUPYTER_TOKEN": "mine",
    }

    async with site.backend(environ=environ, extra_env_vars=extra) as backend:
        handle = await backend.start(KEY)

    env = site.report()["env"]
    env.pop("LC_CTYPE", None)  # Python's own, PEP 538
    assert env == {
        "HOME": "/home/me",
        "ID": "<alice-workspace>",
        "SHORT": "alice-wo",
        "{workspace_id}": "{token}",
        "JUPYTER_TOKEN": handle.headers["Authorization"].removeprefix("token "),
    }


async def test_the_token_is_on_no_command_line_and_in_no_log_line(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with site.backend() as backend:
        handle = await backend.start(KEY)
        lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in site.processes()]

    token = handle.headers["Authorization"].removeprefix("token ")
    assert len(lines) == 3
    assert len(token) == 64
    assert not any(token in line for line in (*lines, caplog.text))
    assert "notebook server started: workspace=alice-workspace" in caplog.text
    assert "notebook server stopped: workspace=alice-workspace" in caplog.text


async def test_a_command_that_ends_fails_the_start_with_its_last_lines(site: Site) -> None:
    (site.root / KEY.workspace_id).mkdir(parents=True)
    log = site.root / KEY.workspace_id / ".notebook.log"
    log.write_text("of an earlier start\n")

    async with site.backend(command=site.command("fails")) as backend:
        with pytest.raises(StartFailed) as failure:
            await backend.start(KEY)

    assert failure.value.code == "exited"
    assert str(failure.value) == "The notebook server did not start: it exited with status 3."
    assert failure.value.detail.splitlines()[-2:] == ["99", "no more strength; my token was ***"]
    assert len(failure.value.detail.splitlines()) == 20
    assert log.read_text().startswith("of an earlier start\nfirst words\n")
    assert site.told == []


async def test_the_last_lines_are_those_of_this_start(site: Site) -> None:
    (site.root / KEY.workspace_id).mkdir(parents=True)
    (site.root / KEY.workspace_id / ".notebook.log").write_text("of an earlier start\n")

    async with site.backend(command=("sh", "-c", "echo this one; kill -TERM $$")) as backend:
        with pytest.raises(StartFailed, match="it was ended by SIGTERM") as failure:
            await backend.start(KEY)

    assert failure.value.detail == "this one"


async def test_a_log_that_has_grown_too_long_is_begun_afresh(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_MAX_LOG_BYTES", 10)
    (site.root / KEY.workspace_id).mkdir(parents=True)
    log = site.root / KEY.workspace_id / ".notebook.log"
    log.write_text("of an earlier start\n")

    async with site.backend(command=("sh", "-c", "echo this one; exit 1")) as backend:
        with pytest.raises(StartFailed) as failure:
            await backend.start(KEY)

    assert failure.value.detail == "this one"
    assert log.read_text() == "this one\n"


@pytest.mark.parametrize(
    ("command", "code", "line"),
    [
        ("no-such-command", "command-not-found", "cannot run 'no-such-command': No such file or directory"),
        ("/", "command-not-executable", "cannot run '/': Permission denied"),
    ],
)
async def test_a_command_that_cannot_be_run_fails_the_start(site: Site, command: str, code: str, line: str) -> None:
    async with site.backend(command=(command,)) as backend:
        with pytest.raises(StartFailed) as failure:
            await backend.start(KEY)

    assert (failure.value.code, failure.value.detail) == (code, line)


async def test_a_variable_that_no_environment_can_hold_fails_the_start(site: Site) -> None:
    async with site.backend(extra_env_vars={"A": "\0"}) as backend:
        with pytest.raises(StartFailed) as failure:
            await backend.start(KEY)

    assert failure.value.code == "cannot-run"


async def test_missing_jupyter_is_told_with_what_to_install(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    async with site.backend(command=()) as backend:
        with pytest.raises(StartFailed, match=re.escape("pip install 'notebook-proxy[local]'")) as failure:
            await backend.start(KEY)

    assert failure.value.code == "jupyter-missing"


async def test_a_file_in_the_directorys_place_is_told_with_its_path(site: Site) -> None:
    site.root.mkdir()
    (site.root / KEY.workspace_id).write_text("")

    async with site.backend() as backend:
        with pytest.raises(StartFailed, match=re.escape(f"{site.root / KEY.workspace_id}: File exists")) as failure:
            await backend.start(KEY)

    assert failure.value.code == "directory-unusable"


@pytest.mark.parametrize("what", ["link", "pipe", "directory"])
async def test_a_log_that_is_no_file_is_refused(site: Site, what: str) -> None:
    log = site.root / KEY.workspace_id / ".notebook.log"
    log.parent.mkdir(parents=True)
    precious = site.root / "precious"
    precious.write_text("kept")
    if what == "link":
        log.symlink_to(precious)
    elif what == "pipe":
        os.mkfifo(log)
    else:
        log.mkdir()

    async with site.backend() as backend:
        with pytest.raises(StartFailed, match=re.escape(str(log))) as failure:
            await backend.start(KEY)

    assert failure.value.code == "directory-unusable"
    assert precious.read_text() == "kept"


async def test_an_id_that_is_no_label_makes_no_directory(site: Site) -> None:
    async with site.backend() as backend:
        with pytest.raises(InvalidKey):
            await backend.start(Key("../elsewhere", "default"))

    assert not (site.root.parent / "elsewhere").exists()


async def test_a_server_that_never_answers_is_given_up_after_failed_ttl(site: Site) -> None:
    async with site.backend(command=("sleep", "600"), failed_ttl=timedelta(seconds=0.3)) as backend:
        with pytest.raises(StartFailed) as failure:
            await backend.start(KEY)

        assert failure.value.code == "no-answer"
        said = f"The notebook server did not answer 200 at {TARGET} within 0.3 s: nothing answers there."
        assert str(failure.value) == said
        assert site.processes() == []
    assert site.told == []


async def test_another_answer_than_200_is_named(site: Site) -> None:
    async with site.backend(command=site.command("never")) as backend:
        start = asyncio.create_task(backend.start(KEY))
        await eventually(site.has_report)

        assert "the answer is 404" in await backend._describe_silence(backend._servers[KEY])

        start.cancel()
        await asyncio.wait({start})


async def test_a_start_on_a_running_server_returns_the_same_handle(site: Site) -> None:
    async with site.backend() as backend:
        first = await backend.start(KEY)
        pids = site.pids()

        second = await backend.start(KEY)

        assert second is first
        assert site.pids() == pids


async def test_a_running_server_that_no_longer_answers_is_replaced(site: Site) -> None:
    async with site.backend(command=site.command("goes deaf")) as backend:
        first = await backend.start(KEY)
        pids = site.pids()

        second = await backend.start(KEY)

        assert second != first
        assert are_gone(*pids)
        assert site.told == []


async def test_a_start_after_a_kill_starts_anew_with_the_files_that_were_there(site: Site) -> None:
    async with site.backend() as backend:
        first = await backend.start(KEY)
        (site.root / KEY.workspace_id / "work.ipynb").write_text("{}")
        os.kill(site.pids()[0], signal.SIGKILL)

        second = await backend.start(KEY)

        assert second != first
        assert await probe(second, TARGET) == 200
    assert (site.root / KEY.workspace_id / "work.ipynb").exists()
    assert site.told == []


async def test_a_killed_guard_takes_the_server_along_and_is_reported(site: Site) -> None:
    async with site.backend() as backend:
        await backend.start(KEY)
        guard_pid = backend._servers[KEY].pid
        assert guard_pid is not None

        os.kill(guard_pid, signal.SIGKILL)

        await eventually(lambda: site.told)
        server, kernel = site.pids()
        await eventually(lambda: are_gone(server))
        os.kill(kernel, signal.SIGKILL)


async def test_who_ignores_sigterm_is_killed_after_stop_grace(site: Site) -> None:
    async with site.backend(command=site.command("deaf"), stop_grace=timedelta(seconds=0.2)) as backend:
        await backend.start(KEY)

        await backend.stop(KEY)

        assert are_gone(*site.pids())
    assert site.told == []


async def test_stop_of_what_is_not_there_is_success(site: Site) -> None:
    async with site.backend() as backend:
        await backend.stop(KEY)
        await backend.start(KEY)

        await asyncio.gather(backend.stop(KEY), backend.stop(KEY))
        await backend.stop(KEY)

        assert are_gone(*site.pids())


async def test_a_guard_that_does_not_end_is_killed_with_all_it_guards(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GUARD_SECONDS", 0.1)
    async with site.backend(stop_grace=timedelta(seconds=0.1)) as backend:
        await backend.start(KEY)
        os.kill(backend._servers[KEY].pid or 0, signal.SIGSTOP)

        await backend.stop(KEY)

        assert are_gone(*site.pids())
        assert backend._servers == {}


async def test_what_survives_sigkill_stays_known_and_is_stopped_later(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with site.backend(stop_grace=timedelta(seconds=0.1)) as backend:
        await backend.start(KEY)
        pid = backend._servers[KEY].pid or 0
        os.kill(pid, signal.SIGSTOP)
        with monkeypatch.context() as patch:
            patch.setattr(local, "_GUARD_SECONDS", 0.1)
            patch.setattr(local, "_FORCE_SWEEPS", 1)
            patch.setattr(guard, "kill_family", lambda pid: None)

            with pytest.raises(StopFailed):
                await backend.stop(KEY)
            with pytest.raises(StartFailed) as failure:
                await backend.start(KEY)

        assert failure.value.code == "stop-failed"
        os.kill(pid, signal.SIGCONT)
        await backend.stop(KEY)
        assert are_gone(*site.pids())


HOLDER = """
import asyncio, signal, sys
from datetime import timedelta
from pathlib import Path
from proxy.backends.kernels import ask
from proxy.backends.local import LocalBackend
from proxy.workspace import Key

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job inherits it ignored

async def main():
    backend = LocalBackend(
        Path(sys.argv[1]),
        command=tuple(sys.argv[2:]),
        failed_ttl=timedelta(minutes=2),
        stop_grace=timedelta(seconds=30),
    )
    await backend.start(Key("alice-workspace", "default"))
    print("started", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_stays_when_the_proxy_is_ended_without_a_close(site: Site, number: signal.Signals) -> None:
    environ = {**os.environ, "PYTHONPATH": str(Path(proxy.__file__).parent.parent)}
    holder = [sys.executable, "-c", HOLDER, str(site.root), *site.command()]
    with subprocess.Popen(holder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "started\n"
        pids = guard.descendants(running.pid)
        assert {*site.pids()} < {*pids}

        running.send_signal(number)

        wait_until(lambda: are_gone(*pids))
        assert site.processes() == []


async def test_jupyterlab_starts_runs_a_kernel_and_leaves_no_process(site: Site, tmp_path: Path) -> None:
    (site.root / KEY.workspace_id).mkdir(parents=True)
    (site.root / KEY.workspace_id / "random.py").write_text("raise SystemExit('not the module you want')")
    own = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "HOME")}
    async with site.backend(command=(), environ={**os.environ, **own}) as backend, aiohttp.ClientSession() as session:
        handle = await backend.start(KEY)
        base = handle.service_url / "ws" / KEY.workspace_id
        async with session.get(base / "api", headers=handle.headers) as answer:
            assert answer.status == 200
            assert (await answer.json())["version"]
        async with session.get(base / "api" / "contents", headers={"Authorization": "token wrong"}) as answer:
            assert answer.status == 403
        async with session.get(base / "lab", headers={**handle.headers, "Host": "notebooks.example"}) as answer:
            assert answer.status == 200
        server_pids = site.processes()
        async with session.post(base / "api" / "kernels", headers=handle.headers, json={}) as answer:
            assert answer.status == 201
        pids = site.processes()
        assert set(pids) - set(server_pids)  # the kernel; a short-lived child of the server may have gone meanwhile
        token = handle.headers["Authorization"].removeprefix("token ")
        assert not any(token in Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)

        await asyncio.wait_for(backend.stop(KEY), PATIENCE_SECONDS)

        assert are_gone(*pids)
        assert site.processes() == []
    assert token not in (site.root / KEY.workspace_id / ".notebook.log").read_text()


@pytest.mark.parametrize("token", ["", "of-my-own"])
async def test_the_token_is_ours_whatever_the_user_has_configured(site: Site, tmp_path: Path, token: str) -> None:
    own = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "HOME")}
    Path(own["JUPYTER_CONFIG_DIR"]).mkdir()
    Path(own["JUPYTER_CONFIG_DIR"], "jupyter_server_config.py").write_text(f"c.IdentityProvider.token = {token!r}")
    async with site.backend(command=(), environ={**os.environ, **own}) as backend, aiohttp.ClientSession() as session:
        handle = await backend.start(KEY)

        status = handle.service_url / "ws" / KEY.workspace_id / "api" / "status"
        async with session.get(status, headers=handle.headers) as ours, session.get(status) as strangers:
            assert (ours.status, strangers.status) == (200, 403)


async def test_with_identity_the_user_is_whom_the_proxy_names_and_nobody_else_is_let_in(
    site: Site, tmp_path: Path
) -> None:
    own = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "IPYTHONDIR", "HOME")}
    Path(own["JUPYTER_CONFIG_DIR"]).mkdir()
    disabled = "c.ServerApp.identity_provider_class = 'jupyter_server.auth.IdentityProvider'"
    Path(own["JUPYTER_CONFIG_DIR"], "jupyter_server_config.py").write_text(disabled)
    settings: dict[str, Any] = {"command": (), "environ": {**os.environ, **own}, "identity": True}
    # A cookie of one answer must not let the next request in, so none is kept.
    async with (
        site.backend(**settings) as backend,
        aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session,
    ):
        handle = await backend.start(KEY)
        base = handle.service_url / "ws" / KEY.workspace_id
        token = dict(handle.headers)

        async def status(
            path: str, *names: str, headers: dict[str, str] = token, method: str = "GET", **sent: Any
        ) -> int:
            told = CIMultiDict([*headers.items(), *(("X-Forwarded-User", name) for name in names)])
            async with session.request(method, base / path, headers=told, allow_redirects=False, **sent) as answer:
                cookies.update({name: morsel.value for name, morsel in answer.cookies.items()})
                bodies.append(await answer.read())
                return answer.status

        cookies: dict[str, str] = {}
        bodies: list[bytes] = []
        assert await status("api/me", "al%C3%AFce@example.org") == 200
        assert json.loads(bodies[-1])["identity"]["username"] == "alïce@example.org"
        assert await status("api/me") == 403
        assert await status("api/me", "") == 403
        assert await status("api/me", "alice", "root") == 403
        assert await status("api/me", "alice", headers={}) == 403
        assert await status("api/me", "alice", headers={"Authorization": "token wrong"}) == 403
        assert await status("lab") == 302  # to where one could log in, if one could
        assert await status("login") in (403, 404)
        assert await status("login", "alice", method="POST", data={"password": token["Authorization"][6:]}) in (
            403,
            404,
        )
        assert await status("lab", "alice") == 200
        assert (
            await status("api/me", headers={"Cookie": "; ".join(f"{name}={text}" for name, text in cookies.items())})
            == 403
        )
        assert (
            await status(
                "api/contents/x.txt", "alice", method="PUT", json={"type": "file", "content": "", "format": "text"}
            )
            == 201
        )
        assert await status("api/kernels", "alice", method="POST", json={}) == 201
        channels = base / "api" / "kernels" / json.loads(bodies[-1])["id"] / "channels"
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(channels, headers=token)
        async with session.ws_connect(channels, headers={**token, "X-Forwarded-User": "alice"}) as websocket:
            assert not websocket.closed
        assert await ask(KEY, handle) is not None
