"""What the tests of the backends share: bounded waiting, and a look at processes."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_SECONDS: Final = 40.0


def is_running(pid: int) -> bool:
    """Tell whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def are_gone(*pids: int) -> bool:
    """Tell whether none of these processes is running."""
    return not any(is_running(pid) for pid in pids)


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds; fail after a long time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        time.sleep(0.01)


async def eventually(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds, while the event loop goes on; fail after a long time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the condition never held"
        await asyncio.sleep(0.01)
