"""What the local backend needs of this machine."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from typing import TYPE_CHECKING, Final

from proxy.cli.doctor.finding import Finding, State
from proxy.errors import ConfigError
from proxy.file_limit import fit_connections

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from proxy.config import Config

_LITTLE: Final = 1 << 30  # bytes of disk
_FEW: Final = 100  # connections


def look(config: Config) -> Iterator[Finding]:
    """Look at the platform, the notebook server's program, the directory and the limit of open files."""
    if sys.platform == "linux":
        yield Finding("platform", State.OK, "Linux.")
    else:
        words = f"{sys.platform}: what a notebook has detached from itself may outlive a proxy that was killed."
        yield Finding("platform", State.WARNING, words)
    yield _program(config)
    yield from _directory(config.local_root.absolute())
    yield _files(config)


def _program(config: Config) -> Finding:
    if config.notebook_command:
        word = config.notebook_command[0]
        if "{" in word or shutil.which(word):
            return Finding("notebook server", State.OK, f"{word!r} can be run.")
        return Finding(
            "notebook server",
            State.WRONG,
            f"{word!r} is not there, or cannot be run.",
            "Name a program of PATH, or an absolute path, in notebook_command.",
        )
    if importlib.util.find_spec("jupyterlab") is None:
        advice = "pip install 'notebook-proxy[local]', or name another program in notebook_command."
        return Finding("notebook server", State.WRONG, "JupyterLab is not installed here.", advice)
    from importlib.metadata import version  # noqa: PLC0415 - of use here alone

    return Finding("notebook server", State.OK, f"JupyterLab {version('jupyterlab')} is installed.")


def _directory(root: Path) -> Iterator[Finding]:
    """Look at `local_root`, or where it would be made."""
    place = next(path for path in (root, *root.parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        yield Finding(
            "directory",
            State.WRONG,
            f"{root} cannot be used: {place} is no directory that this user may write to.",
            "Choose another with local_root, or give it to the user that the proxy runs as.",
        )
        return
    yield Finding("directory", State.OK, f"{root} " + ("can be written to." if place == root else "can be made."))
    free = shutil.disk_usage(place).free
    state = State.OK if free >= _LITTLE else State.WARNING
    advice = "" if state is State.OK else "Notebooks that cannot save lose work: make room."
    yield Finding("disk", state, f"{free / (1 << 30):.1f} GiB are free at {place}.", advice)


def _files(config: Config) -> Finding:
    try:
        room = fit_connections(config.max_connections)
    except ConfigError as error:
        return Finding("open files", State.WRONG, str(error))
    if room < _FEW:
        advice = "Raise the limit of open files: ulimit -n, or LimitNOFILE= of a systemd service."
        return Finding("open files", State.WARNING, f"There is room for {room} connections only.", advice)
    return Finding("open files", State.OK, f"There is room for {room} connections.")
