"""`notebook-proxy volumes`: which volumes nobody has used for long. It reports, and never deletes.

Reads what the proxy keeps: the notes on PersistentVolumeClaims, or those in the directories of the local backend.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from proxy.cli.exits import Exit, Failed
from proxy.cli.flags import add_settings_command, settings_of
from proxy.cli.terminal import add_output, ending, write_json, write_table
from proxy.config import is_in_cluster
from proxy.pages.words import duration
from proxy.settings_types import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from proxy.cli.terminal import Commands
    from proxy.config import Config

_COLUMNS: Final = ("WORKSPACE", "VOLUME", "SIZE", "UNUSED FOR", "LAST USED", "OWNER")
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP: Final = 1024


@dataclass(frozen=True, slots=True)
class Volume:
    """What is known of a volume.

    Args:
        workspace: whose it is.
        name: of the claim, with its namespace, or of the directory.
        size: as a claim asks for it, or of the files.
        last_used: when the workspace was used last; where nothing tells, when the volume was made.
        is_used: the workspace runs.
        owner: who that is, where it is known.
    """

    workspace: str
    name: str
    size: str
    last_used: datetime
    is_used: bool = False
    owner: str | None = None


def add(commands: Commands) -> None:
    """Add the command to the parser of all."""
    parser = add_settings_command(
        commands, "volumes", "report the volumes that nobody has used for long; deletes nothing"
    )
    parser.add_argument(
        "--unused-for",
        metavar="DURATION",
        default="0",
        help="leave out what was used since, such as 90d (default: all)",
    )
    add_output(parser)
    parser.set_defaults(run=run)


@ending
def run(given: dict[str, Any]) -> int:
    """Report them, longest unused first."""
    form, least = given.pop("output"), _least(given.pop("unused_for"))
    config, _ = settings_of(given)
    now = datetime.now(UTC)
    found = [volume for volume in _all(config) if not least or (not volume.is_used and now - volume.last_used >= least)]
    found.sort(key=lambda volume: (volume.is_used, volume.last_used, volume.workspace))
    if form == "json":
        write_json({"volumes": [_told(volume, now) for volume in found]})
    else:
        write_table(_COLUMNS, [_row(volume, now) for volume in found])
    return Exit.DONE


def _all(config: Config) -> Sequence[Volume]:
    backend = config.backend
    if backend == "auto":
        backend = "kubernetes" if is_in_cluster() else "local"
    if backend == "local":
        return list(of_directories(config.local_root.absolute()))
    from proxy.cli.claims import of_claims  # noqa: PLC0415 - costs 40 MB, and 0.3 s

    return asyncio.run(of_claims(config))


def of_directories(root: Path) -> Iterator[Volume]:
    """Yield the workspaces that have a directory.

    A server writes its log as long as it runs, and its end is noted; the later of both is the last use.
    """
    from proxy.backends import workspace_file  # noqa: PLC0415 - of use here alone
    from proxy.backends.process import LOG_NAME  # noqa: PLC0415 - the same

    if not root.is_dir():
        raise Failed(f"local_root {root} is no directory.")
    for workspace_id, notes in workspace_file.read_all(root):
        directory = root / workspace_id
        moments = [] if notes.last_used is None else [notes.last_used]
        for path in (directory / LOG_NAME, directory):
            try:
                moments.append(datetime.fromtimestamp(path.lstat().st_mtime, UTC))
            except OSError:
                continue
            break
        yield Volume(workspace_id, str(directory), _shown(_size(directory)), max(moments), owner=notes.owner)


def _size(directory: Path) -> int:
    """Return the bytes that the files below a directory take; no link is followed."""
    total, left = 0, [str(directory)]
    while left:
        try:
            with os.scandir(left.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # not this user's, or gone since
    return total


def _shown(size: float) -> str:
    for unit in _UNITS:
        if size < _STEP or unit == _UNITS[-1]:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    raise AssertionError("unreachable")


def _row(volume: Volume, now: datetime) -> list[str]:
    unused = "in use" if volume.is_used else duration((now - volume.last_used).total_seconds())
    moment = f"{volume.last_used:%Y-%m-%dT%H:%M:%SZ}"
    return [volume.workspace, volume.name, volume.size, unused, moment, volume.owner or "-"]


def _told(volume: Volume, now: datetime) -> dict[str, Any]:
    return {
        "workspace": volume.workspace,
        "volume": volume.name,
        "size": volume.size,
        "last_used": f"{volume.last_used:%Y-%m-%dT%H:%M:%SZ}",
        "is_used": volume.is_used,
        "unused_seconds": 0 if volume.is_used else round((now - volume.last_used).total_seconds()),
        "owner": volume.owner,
    }


def _least(text: str) -> timedelta:
    try:
        least = parse_duration(text)
    except ValueError as error:
        raise Failed(f"--unused-for {text!r}: must be {error}.", Exit.USAGE) from None
    if least < timedelta():
        raise Failed(f"--unused-for {text!r}: must not be below zero.", Exit.USAGE)
    return least
