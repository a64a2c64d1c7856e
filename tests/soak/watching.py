"""The proxy as a process: started with the soak's settings, looked at from outside through /proc, and stopped.

What only the process itself can tell (tasks, objects) it writes when it gets SIGUSR1; see `serve`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.soak import notebook, serve

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PATIENCE: Final = 60.0
_REPOSITORY: Final = Path(__file__).parents[2]
_ANNOUNCED: Final = re.compile(r"listening on http://127\.0\.0\.1:(\d+)$", re.MULTILINE)
_NOTEBOOK: Final = shlex.join([sys.executable, notebook.__file__, "{port}", "{base_url}", "{workspace_id}"])
_LISTEN: Final = "0A"  # net/tcp: the state of a listening socket


async def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Return when the condition holds; fail after a long time."""
    with_patience = asyncio.timeout(patience)
    try:
        async with with_patience:
            while not condition():
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {patience:g} s: {what}") from None


@dataclass(frozen=True)
class Held:
    """What the proxy's process holds at one moment.

    Attributes:
        descriptors: open file descriptors.
        connections: TCP sockets of its own that do not listen, to clients and to notebook servers.
        children: its child processes: the guards of notebook servers.
        rss: resident memory in bytes.
        tasks: asyncio tasks by what they run.
        objects: objects of the proxy, its server and its event loop by type.
    """

    descriptors: int
    connections: int
    children: int
    rss: int
    tasks: Mapping[str, int]
    objects: Mapping[str, int]

    def as_json(self) -> dict[str, Any]:
        """Return it for a report; the objects are too many."""
        return {name: value for name, value in asdict(self).items() if name != "objects"}


class Proxy:
    """`notebook-proxy serve` with stand-ins, as a process of its own.

    Args:
        directory: gets its log, the census and the workspaces.
        flags: settings beyond those that a soak needs.
    """

    def __init__(self, directory: Path, *flags: str) -> None:
        self._directory = directory
        self._census = directory / "census.json"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "NOTEBOOK_"))}
        with (directory / "proxy.out").open("wb") as out, (directory / "proxy.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", serve.__name__, str(self._census)),
                    *(
                        "serve",
                        "--backend=local",
                        "--listen=127.0.0.1:0",
                        "--log-format=text",
                        f"--local-root={directory / 'workspaces'}",
                    ),
                    *("--notebook-command", _NOTEBOOK, *flags),
                ],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                cwd=_REPOSITORY,
                env=inherited,
            )
        self.port = 0

    async def listening(self) -> Proxy:
        """Return when it can be connected to."""

        def announced() -> re.Match[str] | None:
            assert self._process.poll() is None, f"the proxy ended:\n{self.log()}"
            return _ANNOUNCED.search((self._directory / "proxy.out").read_text())

        await until(announced, "the proxy announces its address")
        found = announced()
        assert found is not None
        self.port = int(found[1])
        return self

    def log(self) -> str:
        """Return what it has logged."""
        return (self._directory / "proxy.log").read_text(errors="replace")

    def is_alive(self) -> bool:
        """Tell whether the process has not ended."""
        return self._process.poll() is None

    # What /proc shows -------------------------------------------------------------------------------------------------

    @property
    def descriptors(self) -> list[str]:
        """What each open file descriptor leads to."""
        found = []
        for link in Path(f"/proc/{self._process.pid}/fd").iterdir():
            with suppress(OSError):  # closed in between
                found.append(str(link.readlink()))
        return found

    @property
    def connections(self) -> int:
        """How many TCP sockets of its own do not listen."""
        mine = {found[8:-1] for found in self.descriptors if found.startswith("socket:[")}
        lines = [
            line.split()
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/{self._process.pid}/net/{table}").read_text().splitlines()[1:]
        ]
        return sum(line[9] in mine and line[3] != _LISTEN for line in lines)

    @property
    def children(self) -> int:
        """How many child processes it has, zombies included."""
        return len(Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split())

    @property
    def rss(self) -> int:
        """Its resident memory, in bytes."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition("VmRSS:")[2].split(maxsplit=1)[0]) * 1024

    @property
    def cpu_seconds(self) -> float:
        """The processor time that it has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def held(self) -> Held:
        """Return what it holds."""
        self._census.unlink(missing_ok=True)
        self._process.send_signal(signal.SIGUSR1)
        await until(self._census.exists, "the proxy writes its census")
        census = json.loads(self._census.read_text())
        return Held(
            len(self.descriptors), self.connections, self.children, self.rss, census["tasks"], census["objects"]
        )

    async def at_rest(self) -> Held:
        """Return what it holds when nothing runs any more: no notebook server, no connection."""
        await until(lambda: not self.children, "every notebook server has been stopped")
        await until(lambda: not self.connections, "every connection has been closed")
        return await self.held()

    # Its end ----------------------------------------------------------------------------------------------------------

    async def stop(self) -> int:
        """Stop it as an administrator does; return its exit status. It is killed if that takes too long."""
        if self.is_alive():
            self._process.send_signal(signal.SIGTERM)
        try:
            return await asyncio.to_thread(self._process.wait, PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
