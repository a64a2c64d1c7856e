"""Secrets that somebody has committed: keys, tokens, passwords, as detect-secrets knows them.

Tests are full of invented secrets, so there only what has the form of somebody's real key is looked for. A line that is
meant ends in `pragma: allowlist secret`. A file that was clean is not read again until its content changes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from detect_secrets import __version__ as scanner_version
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings, transient_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What is allowed to look like a secret, and why.
ALLOWED: Final = {
    "tests/backends/kubernetes/tls/api-server.key": "the key of a certificate for 127.0.0.1, which only tests trust",
}
_GUESSING: Final = frozenset({"KeywordDetector", "Base64HighEntropyString", "HexHighEntropyString"})


def committed(root: Path) -> list[str]:
    """Return the files of the repository, new ones too unless they are ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({name for name in listed.stdout.split("\0") if name and (root / name).is_file()})


def find(root: Path, names: Iterable[str], cache: Path | None = None) -> list[str]:
    """Return one line for each secret in these files; empty where there is none.

    Args:
        root: what the names are below.
        names: of the files.
        cache: a file that remembers what was clean.
    """
    clean = _remembered(cache)
    found, still_clean = [], set()
    for name in names:
        digest = hashlib.sha256(f"{name}\0".encode() + (root / name).read_bytes()).hexdigest()
        if digest not in clean:
            here = [] if name in ALLOWED else list(_scan(root, name))
            found += here
            if here:
                continue
        still_clean.add(digest)
    if cache is not None:
        cache.write_text(json.dumps({"rules": _rules(), "clean": sorted(still_clean)}), encoding="utf-8")
    return found


def _scan(root: Path, name: str) -> Iterator[str]:
    with default_settings() as settings:
        plugins = [{"name": plugin} for plugin in settings.plugins]
    if name.startswith("tests/"):
        plugins = [plugin for plugin in plugins if plugin["name"] not in _GUESSING]
    with transient_settings({"plugins_used": plugins}):
        for secret in scan_file(str(root / name)):
            yield f"{name}:{secret.line_number}: {secret.type}"


def _rules() -> str:
    """Return what a clean file was clean by: other rules are asked again."""
    return hashlib.sha256(Path(__file__).read_bytes() + str(scanner_version).encode()).hexdigest()


def _remembered(cache: Path | None) -> frozenset[str]:
    try:
        known: dict[str, Any] = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
    except (OSError, ValueError):
        return frozenset()
    return frozenset(known["clean"]) if known.get("rules") == _rules() else frozenset()
