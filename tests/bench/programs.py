"""Programs that a measurement runs: on which cores, for how long, and what they use. Nothing of them outlives it."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATIENCE: Final = 20.0
REPOSITORY: Final = Path(__file__).parents[2]
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True)
class Cores:
    """Who runs where. `note` says what is not as it should be."""

    proxy: int | None
    load: int | None
    count: int
    note: str = ""


def plan_cores() -> Cores:
    """Give the proxy one core and everything else another, as far as this machine can."""
    if not hasattr(os, "sched_setaffinity"):
        return Cores(None, None, os.cpu_count() or 1, "this system pins nothing: the figures are not of one core")
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        return Cores(cores[0], cores[0], 1, "one core only: proxy, load and notebook share it; compare ratios alone")
    return Cores(cores[0], cores[1], len(cores))


class Program:
    """A child process on one core, which ends with this process, however that ends; `given` is its standard input."""

    def __init__(
        self,
        argv: Sequence[str],
        core: int | None,
        directory: Path,
        *,
        environ: Mapping[str, str] | None = None,
        given: str = "",
    ) -> None:
        libc = ctypes.CDLL(None)

        def prepare() -> None:
            if hasattr(libc, "prctl"):
                libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if core is not None:
                os.sched_setaffinity(0, {core})

        directory.mkdir(parents=True, exist_ok=True)
        self.log = directory / "log"
        (directory / "input").write_text(given)
        with self.log.open("wb") as log, (directory / "input").open("rb") as source:
            self._process = subprocess.Popen(
                argv, stdin=source, stdout=log, stderr=log, env=environ, start_new_session=True,
                cwd=REPOSITORY, preexec_fn=prepare,  # noqa: PLW1509 - this process has one thread
            )  # fmt: skip
        self.pid: Final = self._process.pid

    def until(self, port: int, target: str, pause: float = 0.001) -> float:
        """Wait until it answers 200; return the moment of that."""
        deadline = time.perf_counter() + PATIENCE
        while time.perf_counter() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"{self._process.args!r} ended:\n{self.log.read_text(errors='replace')[-2000:]}")
            if is_answering(port, target):
                return time.perf_counter()
            time.sleep(pause)
        raise RuntimeError(f"no answer at {target}:\n{self.log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended by itself."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it as a crash does."""
        self._process.kill()
        self._process.wait()

    @property
    def cpu(self) -> float:
        """Seconds that its threads have run."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    @property
    def rss(self) -> int:
        """Resident memory in bytes."""
        return self._memory("VmRSS")

    def reset_peak(self) -> int:
        """Forget the most memory so far (proc(5), clear_refs); return what is used now."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")
        return self.rss

    @property
    def peak(self) -> int:
        """The most resident memory since `reset_peak`, in bytes."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split(maxsplit=1)[0]) * 1024


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def is_answering(port: int, target: str) -> bool:
    """Tell whether a GET is answered 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as sock:
            sock.sendall(f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
            return sock.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
