"""The proxy's own command line, and a census of what its process holds: `serve.py CENSUS_FILE serve --flag ...`.

SIGUSR1 writes the census, as JSON, in one step. Nothing of the proxy knows of it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from proxy import cli

_COUNTED: Final = ("proxy.", "aiohttp.", "asyncio.", "uvloop")


def census() -> dict[str, dict[str, int]]:
    """Count the tasks by what they run, and the objects of the proxy, its server and its event loop by their type."""
    gc.collect()
    tasks = Counter(getattr(task.get_coro(), "__qualname__", "?") for task in asyncio.all_tasks())
    kinds = (type(found) for found in gc.get_objects())
    names = (f"{kind.__module__}.{kind.__qualname__}" for kind in kinds if kind.__module__)
    objects = Counter(name for name in names if name.startswith(_COUNTED))
    return {"tasks": dict(tasks), "objects": dict(objects)}


def main(file: Path, arguments: list[str]) -> int:
    """Serve until SIGTERM; return the exit status."""

    def write(*_: object) -> None:
        draft = file.with_suffix(".draft")
        draft.write_text(json.dumps(census()))
        draft.rename(file)

    signal.signal(signal.SIGUSR1, write)
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
