"""What the end-to-end tests share: the proxy as a process of its own, and a look at every process it leads to.

All of those carry a mark in their environment, so they are found wherever they have been re-parented to, in whatever
session, and those of another run are not.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from websocket import WebSocket, create_connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from http.client import HTTPMessage

PATIENCE_SECONDS: Final = 60.0
REPOSITORY: Final = Path(__file__).parents[2]
_MARK: Final = "NOTEBOOK_E2E_RUN"
ANNOUNCED: Final = re.compile(r"^notebook-proxy \S+ is listening on (https?://127\.0\.0\.1:(\d+))$", re.MULTILINE)
_NO_NEWS: Final = ".jupyter/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"

_T = TypeVar("_T")


def until(condition: Callable[[], _T], what: str) -> _T:
    """Return what the condition returns as soon as that is true; fail after a long time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE_SECONDS:g} s: {what}"
        time.sleep(0.02)
    return found


def refuse_news(home: Path) -> None:
    """Set JupyterLab to fetch no news; else it asks the Internet, and then the user."""
    file = home / _NO_NEWS
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text('{"fetchNews": "false", "checkForUpdates": false}')


@contextmanager
def websocket_to(
    url: str, *, subprotocols: Sequence[str] = (), headers: Mapping[str, str] | None = None
) -> Iterator[WebSocket]:
    """Open a websocket, and close its socket at the end, whether it has been closed by then or not."""
    connection = create_connection(url, PATIENCE_SECONDS, subprotocols=list(subprotocols), header=dict(headers or {}))
    try:
        yield connection
    finally:
        connection.shutdown()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Answer:
    """An HTTP response, read to its end."""

    status: int
    headers: HTTPMessage
    body: bytes

    def json(self) -> Any:
        """Return the body's JSON."""
        return json.loads(self.body)


def _parent(pid: int) -> int:
    """Return the id of a process's parent, or 0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


class Proxy:
    """`notebook-proxy serve` as a process of its own, on a free port.

    Args:
        directory: gets its log, a home directory and the workspaces.
        flags: for `serve`; `--listen` is given.
    """

    def __init__(self, directory: Path, *flags: str) -> None:
        self.directory = directory
        self.root = directory / "workspaces"
        self._mark = f"{_MARK}={uuid.uuid4().hex}".encode()
        home = directory / "home"
        refuse_news(home)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "NOTEBOOK_"))}
        with (directory / "proxy.out").open("wb") as out, (directory / "proxy.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "proxy",
                    "serve",
                    "--listen=127.0.0.1:0",
                    "--ops-listen=off",
                    "--log-format=text",
                    f"--local-root={self.root}",
                    *flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=REPOSITORY,
                env={**inherited, "HOME": str(home), _MARK: self._mark.decode().partition("=")[2]},
            )
        self.pid: Final = self._process.pid
        self.url = ""
        self.port = 0

    def until_listening(self) -> Proxy:
        """Wait for the line that announces it."""
        out = self.directory / "proxy.out"

        def announced() -> re.Match[str] | None:
            assert self._process.poll() is None, f"it ended with status {self._process.returncode}:\n{self.log()}"
            return ANNOUNCED.search(out.read_text())

        found = until(announced, "the proxy announces its address")
        assert found is not None
        self.url, self.port = found[1], int(found[2])
        return self

    def websocket_url(self, workspace_id: str) -> str:
        """Return a workspace's base URL, for websockets."""
        return f"ws://127.0.0.1:{self.port}/ws/{workspace_id}/"

    # What a client does -----------------------------------------------------------------------------------------------

    def request(
        self, method: str, path: str, body: bytes | Iterable[bytes] = b"", headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own; an iterable goes chunked unless Content-Length is given."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)) as connection:
            connection.request(method, path, body or None, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def get(self, path: str) -> Answer:
        """Send a GET."""
        return self.request("GET", path)

    def send_json(self, method: str, path: str, value: object) -> Answer:
        """Send a value as JSON; fail unless it is taken."""
        answer = self.request(method, path, json.dumps(value).encode(), {"Content-Type": "application/json"})
        assert answer.status in {200, 201}, answer
        return answer

    def save(self, workspace_id: str, name: str, text: str) -> None:
        """Save a text file in a workspace."""
        model = {"type": "file", "format": "text", "content": text}
        self.send_json("PUT", f"/ws/{workspace_id}/api/contents/{name}", model)

    def start_kernel(self, workspace_id: str) -> str:
        """Start a kernel in a workspace; return its id."""
        return str(self.send_json("POST", f"/ws/{workspace_id}/api/kernels", {"name": "python3"}).json()["id"])

    # What the system shows --------------------------------------------------------------------------------------------

    def others(self) -> dict[int, str]:
        """Return the command line of every living process that this one has led to, by process id; without itself."""
        found = {}
        for process in Path("/proc").iterdir():
            if process.name.isdecimal() and int(process.name) != self.pid:
                with suppress(OSError):  # it has just ended; a zombie's environment is empty
                    if self._mark in (process / "environ").read_bytes().split(b"\0"):
                        command = (process / "cmdline").read_bytes()
                        found[int(process.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found

    def servers(self, workspace_id: str) -> list[int]:
        """Return the ids of the workspace's notebook servers.

        Their command line holds the workspace's directory, and a guard is their parent: a child that they have just
        forked has, for a moment, the same command line.
        """
        others, mine = self.others(), f"{self.root / workspace_id} "
        guards = {pid for pid, command in others.items() if "guard.py" in command}
        found = {pid for pid, command in others.items() if mine in command}
        return [pid for pid in found - guards if _parent(pid) in guards]

    def kernels(self) -> list[int]:
        """Return the ids of all kernels."""
        return [pid for pid, command in self.others().items() if "ipykernel_launcher" in command]

    def reset_peak(self) -> int:
        """Forget the most memory that it has used so far; return what it uses now, in bytes (proc(5): clear_refs)."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self._memory("VmRSS")

    def peak(self) -> int:
        """Return the most resident memory that it has used since `reset_peak`, in bytes."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split(maxsplit=1)[0]) * 1024

    def log(self) -> str:
        """Return what the proxy has logged."""
        return (self.directory / "proxy.log").read_text(errors="replace")

    def notebook_logs(self) -> dict[str, str]:
        """Return each workspace's log, by its path below the directory."""
        logs = sorted(self.root.glob("*/.notebook.log"))
        return {str(path.relative_to(self.directory)): path.read_text(errors="replace") for path in logs}

    # Its end ----------------------------------------------------------------------------------------------------------

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Wait until it has ended; return its exit status."""
        return self._process.wait(PATIENCE_SECONDS)

    def stop(self) -> int:
        """Stop it as an administrator does; return its exit status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def clear(self) -> None:
        """Kill all that is left of it."""
        self._process.kill()
        self._process.wait()
        while others := self.others():
            for pid in others:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
