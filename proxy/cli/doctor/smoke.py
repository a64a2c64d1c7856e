"""A throwaway workspace, from its start to its end, through a proxy that runs: what a user will meet.

What was made is removed, however it ends: the file, the notebook server, and the volume as far as this machine, with
its settings, reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, Final

from proxy.cli.acting import duration_of, start, stop
from proxy.cli.client import Problem, path_to
from proxy.cli.doctor.finding import Finding, State
from proxy.cli.doctor.reap import Unreapable, Unreaped, reap
from proxy.cli.exits import Exit, Failed
from proxy.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from proxy.cli.client import Client
    from proxy.config import Config

    Here: TypeAlias = tuple[Config, str] | None
    """The settings and the backend of this machine, or that none of it is to be looked at."""
    Words: TypeAlias = str | tuple[State, str]
    """What was done; with a state, where that is not plainly well."""

_NAME: Final = "doctor.txt"
_TICK: Final = 0.5  # seconds
_NOT_YET: Final = frozenset({"not-ready", "not-running"})
_STOP: Final = 120.0  # seconds that a stop may take


def look(client: Client, here: Here, timeout: str, *, does_reap: bool) -> Iterator[Finding]:
    """Start a workspace, write a file, have it reaped, wake it, read the file; then remove all of it.

    Args:
        client: asks the proxy.
        here: within whose reach the volume may be.
        timeout: how long each step may take, as it was given.
        does_reap: wait for the reaper; otherwise the workspace is stopped through the API.
    """
    life = _Life(client, duration_of("--timeout", timeout))
    stop = ("reap", life.reap) if does_reap else ("stop", life.stop)
    steps = (("start", life.start), ("write", life.write), stop, ("wake", life.wake), ("read", life.read))
    try:
        with _ended_by_signals():
            for step, do in steps:
                finding = _timed(f"smoke: {step}", do)
                yield finding
                if finding.state is State.WRONG:
                    break
            left = life.remove(here)
    except BaseException:  # Ctrl-C, or nobody reads on
        sys.stderr.write(f"Removing workspace {life.name}\n")
        left = life.remove(here)
        if left.state is not State.OK:
            sys.stderr.write(f"{left.words} {left.advice}\n")
        raise
    yield left


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end it as Ctrl-C does: by default they would leave the workspace behind."""
    former = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class _Life:
    """One throwaway workspace, and what is done to it; each step returns in words what was done.

    Args:
        client: asks the proxy.
        patience: the seconds that each step may take.
    """

    def __init__(self, client: Client, patience: float) -> None:
        self.name = f"doctor-{secrets.token_hex(4)}"
        self._client = client
        self._patience = patience
        self._content = secrets.token_hex(16)
        self._path = f"/ws/{self.name}/api/contents/{_NAME}"
        self._found: Any = None
        self._is_written = False

    def start(self) -> str:
        with progress() as shown:
            start(self._client, self.name, time.monotonic() + self._patience, shown)
        return f"Workspace {self.name} was started, and answers."

    def write(self) -> str:
        self._is_written = True  # also where the answer is lost
        self._client.ask("PUT", self._path, {"type": "file", "format": "text", "content": self._content})
        return "A file was written through its contents API."

    def reap(self) -> Words:
        """Wait until it is reaped; where that cannot be, stop it, and say so."""
        try:
            with progress() as shown:
                return f"The proxy stopped it: {reap(self._client, self.name, self._patience, shown)}"
        except Unreapable as error:
            return State.WARNING, f"No reap can be seen here: {error} {self.stop()}"

    def stop(self) -> str:
        with progress() as shown:
            stop(self._client, self.name, time.monotonic() + _STOP, shown)
        return "It was stopped through the API."

    def wake(self) -> str:
        """Ask for the file until it is there: a request is held for a while, and the start goes on after it."""
        until = time.monotonic() + self._patience
        while True:
            try:
                self._found = self._client.get(f"{self._path}?content=1").get("content")
            except Problem as error:
                if error.code not in _NOT_YET or time.monotonic() >= until:
                    raise
                time.sleep(_TICK)
            else:
                return "A request for the file woke it."

    def read(self) -> str:
        if self._found != self._content:
            raise Failed("The file was there, but not with what was written.")
        return "The file was read back: the volume keeps files."

    def remove(self, here: Here) -> Finding:
        """Remove what was made; say what could not be."""
        left: list[str] = []
        try:
            # To ask for the file of what does not run would start it once more.
            if self._is_written and self._client.get(path_to(self.name))["phase"] == "running":
                self._client.ask("DELETE", self._path)
                self._is_written = False
        except Failed:
            pass  # of which is told below, unless it goes with its volume
        try:
            self.stop()
        except Failed as error:
            left.append(f"the notebook server ({error})")
        if kept := f"the volume of {self.name}" if here is None else _remove_volume(self.name, *here):
            left += [f"the file {_NAME}"] * self._is_written + [kept]
        if left:
            by_hand = _BY_HAND.format(name=self.name)
            return Finding("smoke: remove", State.WARNING, f"Left behind: {'; '.join(left)}.", by_hand)
        return Finding("smoke: remove", State.OK, f"Nothing of {self.name} is left.")


def _timed(check: str, do: Callable[[], Words]) -> Finding:
    """Take a step; tell how long it took, or what is wrong."""
    began = time.monotonic()
    try:
        found = do()
    except Unreaped as error:
        return Finding(check, State.WRONG, str(error), error.advice)
    except Failed as error:
        advice = "The proxy's own log, and `notebook-proxy show` of a workspace that fails, tell more."
        return Finding(check, State.WRONG, str(error), "" if error.status is Exit.REFUSED else advice)
    state, words = (State.OK, found) if isinstance(found, str) else found
    return Finding(check, state, f"{words} ({time.monotonic() - began:.1f} s)")


_BY_HAND: Final = (
    "Its volume is the directory {name} in local_root, or its PersistentVolumeClaim: "
    "kubectl delete persistentvolumeclaim -l workspace-id={name}"
)


def _remove_volume(name: str, config: Config, backend: str) -> str:
    """Remove the throwaway workspace's files, if they are within reach; return what is left of them."""
    if backend == "local":
        root = config.local_root.absolute() / name
        if not root.is_dir():
            return f"the volume of {name}, which is not in {config.local_root.absolute()}"
        shutil.rmtree(root, ignore_errors=True)
        return f"the directory {root}" if root.exists() else ""
    from proxy.cli.doctor import cluster  # noqa: PLC0415 - costs 40 MB, and 0.3 s

    return asyncio.run(cluster.remove_claim(config, name))
