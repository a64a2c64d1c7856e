"""One container as a local process: its command, environment, files and address, and its end.

What must hold: nothing that the process started survives it, nor the cluster (a mark in the environment finds processes
in sessions of their own; the kernel kills the process itself if its parent dies).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster.programs.watchdog import kill_marked

if TYPE_CHECKING:
    from tests.cluster.resources import Obj

_REFERENCE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
OOM_EXIT_CODE = 137


@dataclass(frozen=True)
class Sandbox:
    """Where a pod lives on this machine: its address, its directory, and the mark of its processes."""

    address: str
    directory: Path
    mark: str
    # Paths in the container, and what they are here; the first that fits counts.
    mounts: dict[str, Path]
    executables: Path


@dataclass(frozen=True)
class Command:
    """What to execute."""

    argv: list[str]
    env: dict[str, str]
    cwd: Path


def expand(text: str, env: dict[str, str]) -> str:
    """Expand `$(NAME)` as Kubernetes does; what is unknown stays."""
    return _REFERENCE.sub(lambda found: env.get(found[1], found[0]), text)


def localise(text: str, mounts: dict[str, Path]) -> str:
    """Replace paths of the container with those on this machine, wherever they begin in `text`."""
    if not mounts:
        return text
    inside = "|".join(re.escape(path.rstrip("/")) for path in sorted(mounts, key=len, reverse=True))
    by_path = {path.rstrip("/"): str(local) for path, local in mounts.items()}
    return re.sub(rf"(?<![\w./-])({inside})(?![\w.-])", lambda found: by_path[found[1]], text)


def translate(container: Obj, env: dict[str, str], sandbox: Sandbox) -> Command:
    """Return how a container of a pod is run on this machine: its own command, with local paths and executables.

    Raises:
        FileNotFoundError: there is no such executable.
    """
    words = [*container.get("command", ["start-notebook.py"]), *container.get("args", [])]
    argv = [localise(expand(word, env), sandbox.mounts) for word in words]
    home = sandbox.directory / "home"
    path = f"{sandbox.executables}:{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    local_env = {"HOME": str(home), "LANG": "C.UTF-8", "TMPDIR": str(sandbox.directory / "tmp")}
    local_env |= {name: localise(value, sandbox.mounts) for name, value in env.items()}
    local_env |= {"PATH": path, "POD_ADDRESS": sandbox.address}
    own = sandbox.executables / Path(argv[0]).name
    executable = str(own) if own.exists() else shutil.which(argv[0], path=path)
    if executable is None:
        raise FileNotFoundError(argv[0])
    working = container.get("workingDir")
    cwd = Path(localise(working, sandbox.mounts)) if working else home
    return Command([executable, *argv[1:]], local_env, cwd if cwd.is_dir() else home)


class Container:
    """A running process; `wait` gives its exit code as Kubernetes counts it (128 + signal)."""

    def __init__(self, process: asyncio.subprocess.Process, mark: str) -> None:
        self._process = process
        self._mark = mark
        self.pid = process.pid
        self.was_out_of_memory = False

    @classmethod
    async def start(cls, command: Command, mark: str, log: Path) -> Container:
        """Execute the command, its output going to `log`."""
        # The parent's death must be the child's; setpriv rather than preexec_fn, which cannot be had without a fork.
        setpriv = shutil.which("setpriv")
        prefix = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        name, _, value = mark.partition("=")
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *prefix,
                *command.argv,
                env={**command.env, name: value},
                cwd=command.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        return cls(process, mark)

    @property
    def is_running(self) -> bool:
        """Tell whether the process has not ended."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Wait for the end, and for nothing to be left."""
        code = await self._process.wait()
        self._sweep()
        return code if code >= 0 else 128 - code

    def kill(self, *, out_of_memory: bool = False) -> None:
        """Kill the process and all it started, as an operator, or the kernel out of memory, would."""
        self.was_out_of_memory = self.was_out_of_memory or out_of_memory
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._sweep()

    def terminate(self) -> None:
        """Ask the process to end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    async def stop(self, grace_seconds: float, forced: asyncio.Event) -> int:
        """Ask it to end; when the grace is over, or `forced` is set, kill it. Returns the exit code."""
        if grace_seconds <= 0 or forced.is_set():
            self.kill()
            return await self.wait()
        ended = asyncio.create_task(self._process.wait())
        hurry = asyncio.create_task(forced.wait())
        try:
            self.terminate()
            await asyncio.wait({ended, hurry}, timeout=grace_seconds, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                self.kill()
            return await self.wait()
        finally:
            for task in (ended, hurry):
                task.cancel()
            await asyncio.gather(ended, hurry, return_exceptions=True)

    def _sweep(self) -> None:
        # Again until a look finds none: one that is killed may have started another just before.
        while kill_marked(self._mark.encode()):
            pass
