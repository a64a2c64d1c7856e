"""`.workspace.yaml` in a workspace's directory: what is kept of it, for people to read and edit.

A workspace's own programs can write there, so it is read as hostile: a plain file or nothing, a bounded part of it, and
what is wrong with it is told and not fatal. What people wrote around the values stays.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import NotKept
from proxy.notes import Notes, read_notes
from proxy.settings_yaml import read_yaml
from proxy.workspace import is_label

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

NAME: Final = ".workspace.yaml"
MAX_BYTES: Final = 64 * 1024


def read(root: Path) -> Notes:
    """Return what the file in a workspace's directory says; nothing, with a complaint, where it is broken."""
    try:
        return read_notes(_mapping(_text(root)))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return replace(Notes(), complaints=(f"{NAME} cannot be used: {reason}; what the operator has set holds.",))


def read_all(root: Path) -> list[tuple[str, Notes]]:
    """Return what is kept of each workspace that has a directory below this one, by its id."""
    try:
        names = sorted(entry.name for entry in os.scandir(root) if is_label(entry.name) and entry.is_dir())
    except OSError:
        return []  # there is none yet
    return [(name, read(root / name)) for name in names]


def write(root: Path, changes: Mapping[str, str | None]) -> Notes:
    """Change values in the file, make it where it is missing, and return what it says then; None removes a value.

    Raises:
        NotKept: it is broken, which is not mended over somebody's head, or cannot be written.
    """
    try:
        text = _text(root)
        wanted = {**_mapping(text), **changes}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        changed = _edited(text, changes)
        if not _says(changed, wanted):  # a value of more than one line, say
            changed = "".join(f"{json.dumps(name)}: {json.dumps(value)}\n" for name, value in wanted.items())
        _replace(root, changed)
    except ValueError as error:
        raise NotKept(f"{NAME} in the workspace's directory is broken ({error}); mend it, or delete it.") from error
    except OSError as error:
        raise NotKept(f"{NAME} in the workspace's directory cannot be written: {error.strerror}.") from error
    return read_notes(wanted)


def _text(root: Path) -> str:
    """Return the file's text, nothing where there is none. No link is followed, and no pipe waited for."""
    try:
        descriptor = os.open(root / NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # before `open`, which refuses a directory and leaves it open
        os.close(descriptor)
        raise ValueError("not a plain file")
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ValueError(f"longer than {MAX_BYTES} bytes")
    return data.decode()


def _mapping(text: str) -> dict[str, Any]:
    found = read_yaml(text) if text.strip() else {}
    if found is None or found == "":
        return {}
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise ValueError("not a mapping of names to values")
    return found


def _says(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        return _mapping(text) == wanted
    except ValueError:
        return False


def _edited(text: str, changes: Mapping[str, str | None]) -> str:
    """Return the text with each value in its own line replaced, removed, or added at the end."""
    for name, value in changes.items():
        line = "" if value is None else f"{name}: {json.dumps(value)}\n"
        pattern = rf"(?m)^{re.escape(name)}[ \t]*:.*(?:\n|\Z)"
        text, found = re.subn(pattern, line.replace("\\", "\\\\"), text, count=1)
        if not found and line:
            text += ("\n" if text and not text.endswith("\n") else "") + line
    return text


def _replace(root: Path, text: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    new = root / f"{NAME}.{secrets.token_hex(8)}"
    try:
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - a descriptor
            file.write(text)
        new.replace(root / NAME)
    except BaseException:
        new.unlink(missing_ok=True)
        raise
