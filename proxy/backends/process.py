"""One notebook server's process on this machine: started under a guard, with what is held for it.

Owns its port (bound but not listening, so that nobody else can take it), its log and the lifeline of its guard; all
of it is given back when the process has ended. Knows nothing of other servers, or of when one is ready.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import stat
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from yarl import URL

from proxy.backends import LOG_BYTES, guard
from proxy.errors import NoLog
from proxy.target import PREFIX
from proxy.workspace import Handle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from proxy.workspace import Key

LOG_NAME: Final = ".notebook.log"  # hidden: Jupyter does not list it
_MAX_LOG_BYTES: Final = 8 * 1024 * 1024
_TAIL_BYTES, _TAIL_LINES = 8 * 1024, 20
NO_DESCRIPTORS: Final = "no-descriptors"
"""The code of an end for want of file descriptors: the proxy's want, and no fault of the workspace's."""
_FOR_A_PROCESS: Final = 8  # descriptors that an event loop takes for a moment: copies of the three, and two pipes


@dataclass(frozen=True, slots=True)
class End:
    """How a server ended: for programs, for people, and the last lines of its log."""

    code: str
    reason: str
    detail: str


def end_of(error: OSError | ValueError) -> End:
    """Return the end of a server that could not be run."""
    if isinstance(error, OSError) and error.errno in {errno.EMFILE, errno.ENFILE}:
        return End(NO_DESCRIPTORS, f"the proxy has no file descriptor left ({error.strerror})", "")
    return End("cannot-run", (isinstance(error, OSError) and error.strerror) or str(error), "")


class _Log:
    """A workspace's log: bounded at each start, and read from where this start began."""

    def __init__(self, path: Path) -> None:
        # What lies there may be a notebook's work: follow no link, and do not wait for a pipe's reader.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        self._file = open(path, "r+b", buffering=0, opener=lambda name, _: os.open(name, flags, 0o600))  # noqa: SIM115
        self.close = self._file.close
        self.fileno = self._file.fileno
        found = os.fstat(self.fileno())
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        if found.st_size > _MAX_LOG_BYTES:
            self._file.truncate(0)
        self._start = min(found.st_size, os.fstat(self.fileno()).st_size)

    def tail(self) -> str:
        """Return the last lines that were written since."""
        size = os.fstat(self.fileno()).st_size
        start = max(self._start, size - _TAIL_BYTES)
        text = os.pread(self.fileno(), max(size - start, 0), start).decode(errors="replace")
        return "\n".join(text.splitlines()[-_TAIL_LINES:])


def read_log(root: Path, lines: int) -> str:
    """Return the last lines of the log in a workspace's directory, of a bounded part of it. Blocks.

    Raises:
        NoLog: there is none, or something else lies there.
    """
    try:
        descriptor = os.open(root / LOG_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NoLog("No notebook server of this workspace has written anything here.") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise NoLog(f"{LOG_NAME} in the workspace's directory is not a plain file.")
        start = max(found.st_size - LOG_BYTES, 0)
        text = os.pread(descriptor, LOG_BYTES, start).decode(errors="replace")
    finally:
        os.close(descriptor)
    rows = text.splitlines(keepends=True)[bool(start) :]  # where it does not begin at the beginning, the first is cut
    return "".join(rows[-lines:])


class Server:
    """One start of one workspace: the guarded process, and what is held for it."""

    task: asyncio.Task[End]

    def __init__(self, key: Key, root: Path, ready_path: str) -> None:
        """Make the directory and reserve what a server needs.

        Raises:
            OSError: the directory or its log cannot be used, or there is no port or descriptor left.
        """
        self.key = key
        self.root = root
        self.base_url = f"{PREFIX}{key.workspace_id}/"
        self.target = self.base_url + ready_path
        self.token = secrets.token_hex(32)
        self.is_ready = False
        self.is_stopping = False
        self.pid: int | None = None
        with ExitStack() as held:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._log = held.enter_context(closing(_Log(root / LOG_NAME)))
            port = held.enter_context(socket.socket())
            port.bind(("127.0.0.1", 0))
            # Only now: a free port is chosen without it, and the server, which sets it too, can share this one.
            port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.port: int = port.getsockname()[1]
            read, write = os.pipe()
            self._lifeline = held.enter_context(os.fdopen(write, "wb", buffering=0))
            self._guard_input = held.enter_context(os.fdopen(read, "rb", buffering=0))
            self._held = held.pop_all()
        self.handle = Handle(URL(f"http://127.0.0.1:{self.port}"), {"Authorization": f"token {self.token}"})

    async def run(self, command: list[str], environ: Mapping[str, str], grace_seconds: float) -> End:
        """Run the guarded command until nothing of it is left, and say how it ended."""
        log = self._log.fileno()
        try:
            self._make_sure_of_room()  # and until there is a process nothing else runs
            process = await asyncio.create_subprocess_exec(
                *guard.guarded(command, grace_seconds),
                stdin=self._guard_input.fileno(),
                stdout=log,
                stderr=log,
                cwd=self.root,
                env=dict(environ),
                start_new_session=True,  # Ctrl-C in the proxy's terminal is the proxy's alone
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL or "=" where there can be none
            return end_of(error)
        self._guard_input.close()
        self.pid = process.pid
        status = await process.wait()
        return End(*guard.describe(status), self.tail())

    def _make_sure_of_room(self) -> None:
        """Raise here what would else be raised half way: uvloop keeps for ever what it has taken by then."""
        with ExitStack() as taken:
            for _ in range(_FOR_A_PROCESS):
                taken.callback(os.close, os.dup(self._log.fileno()))

    def tail(self) -> str:
        """Return the last lines of this start's log, without the token."""
        return self._log.tail().replace(self.token, "***")

    def let_go(self) -> None:
        """Make the guard end everything: this was the only other end of its standard input."""
        self._lifeline.close()

    def release(self) -> None:
        """Give back everything that is held; the guard, if it still runs, ends everything."""
        self._held.close()
