"""A throwaway workspace, from its start to its end, through a proxy that runs: what a user will meet.

What was made is removed, however it ends: the file, the notebook server, and the volume as far as this machine, with
its settings, reaches it.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
import time
from typing import TYPE_CHECKING, Final

from proxy.cli.acting import duration_of, start, stop
from proxy.cli.client import Problem
from proxy.cli.doctor.finding import Finding, State
from proxy.cli.exits import Exit, Failed
from proxy.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from proxy.cli.client import Client
    from proxy.config import Config

    Here: TypeAlias = tuple[Config, str] | None
    """The settings and the backend of this machine, or that none of it is to be looked at."""

_NAME: Final = "doctor.txt"
_TICK: Final = 0.5  # seconds
_NOT_YET: Final = frozenset({"not-ready", "not-running"})
_STOP: Final = 120.0  # seconds that a stop may take


def look(client: Client, here: Here, timeout: str) -> Iterator[Finding]:
    """Start a workspace, write a file, stop it, wake it, read the file; then remove all of it."""
    patience = duration_of("--timeout", timeout)
    name = f"doctor-{secrets.token_hex(4)}"
    content = secrets.token_hex(16)
    path = f"/ws/{name}/api/contents/{_NAME}"
    model = {"type": "file", "format": "text", "content": content}

    def write() -> str:
        client.ask("PUT", path, model)
        return "A file was written through its contents API."

    def wake() -> str:
        _wake(client, path, patience)
        return "A request for the file woke it."

    def read() -> str:
        if client.get(f"{path}?content=1").get("content") != content:
            raise Failed("The file was there, but not with what was written.")
        return "The file was read back: the volume keeps files."

    steps: tuple[tuple[str, Callable[[], str]], ...] = (
        ("start", lambda: _start(client, name, patience)),
        ("write", write),
        ("stop", lambda: _stop(client, name)),
        ("wake", wake),
        ("read", read),
    )
    done: set[str] = set()
    try:
        for step, do in steps:
            finding = _timed(f"smoke: {step}", do)
            yield finding
            if finding.state is State.WRONG:
                break
            done.add(step)
    finally:
        # To ask for the file would start the workspace once more, if the start is what has failed.
        left = _remove(client, name, path if "write" in done else "", here)
    yield left


def _timed(check: str, do: Callable[[], str]) -> Finding:
    """Take a step; tell how long it took, or what is wrong."""
    began = time.monotonic()
    try:
        words = do()
    except Failed as error:
        advice = "The proxy's own log, and `notebook-proxy show` of a workspace that fails, tell more."
        return Finding(check, State.WRONG, str(error), "" if error.status is Exit.REFUSED else advice)
    return Finding(check, State.OK, f"{words} ({time.monotonic() - began:.1f} s)")


def _start(client: Client, name: str, patience: float) -> str:
    with progress() as shown:
        start(client, name, time.monotonic() + patience, shown)
    return f"Workspace {name} was started, and answers."


def _stop(client: Client, name: str) -> str:
    with progress() as shown:
        stop(client, name, time.monotonic() + _STOP, shown)
    return "It was stopped, as an idle one is."


def _wake(client: Client, path: str, patience: float) -> None:
    """Ask for the file until it is there: a request is held for a while, and the start goes on after it."""
    until = time.monotonic() + patience
    while True:
        try:
            client.get(f"{path}?content=1")
        except Problem as error:
            if error.code not in _NOT_YET or time.monotonic() >= until:
                raise
            time.sleep(_TICK)
        else:
            return


def _remove(client: Client, name: str, path: str, here: Here) -> Finding:
    """Remove what was made; say what could not be."""
    left: list[str] = []
    if path:
        try:
            client.ask("DELETE", path)
        except Failed:
            left.append(f"the file {_NAME}")
    try:
        _stop(client, name)
    except Failed as error:
        left.append(f"the notebook server ({error})")
    if here is None or (kept := _remove_volume(name, *here)):
        left.append(f"the volume of {name}" if here is None else kept)
    if left:
        return Finding("smoke: remove", State.WARNING, f"Left behind: {'; '.join(left)}.", _BY_HAND.format(name=name))
    return Finding("smoke: remove", State.OK, f"Nothing of {name} is left.")


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
