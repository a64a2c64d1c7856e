"""What the exit status of a command says. Pure."""

from __future__ import annotations

import enum
from typing import Final


class Exit(enum.IntEnum):
    """An exit status; `MEANINGS` says what each means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    AWAY = 3
    REFUSED = 4
    UNKNOWN = 5
    NOT_STARTED = 6
    GOES_ON = 7
    INTERRUPTED = 130


MEANINGS: Final = {
    Exit.DONE: "done; of `doctor`: nothing is wrong",
    Exit.FAILED: "it failed; of `serve`: this machine lacks something; of `doctor`: something is wrong",
    Exit.USAGE: "an argument, an id, a flag or a setting makes no sense; nothing was done",
    Exit.AWAY: "the proxy is not there, or something else answers in its place",
    Exit.REFUSED: "it lets nobody in without a credential, or not with this one, or not to this workspace",
    Exit.UNKNOWN: "nothing is known of this workspace, or there is no log of it",
    Exit.NOT_STARTED: "the notebook server could not be started",
    Exit.GOES_ON: "not done within `--timeout`; it goes on",
    Exit.INTERRUPTED: "Ctrl-C; what the proxy has begun goes on",
}


class Failed(Exception):
    """A command that ends with a sentence for people, in one line.

    Args:
        message: what is wrong, and what to do.
        status: for programs.
    """

    def __init__(self, message: str, status: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.status = status


def table() -> str:
    """Return the statuses as a Markdown table."""
    rows = [f"| `{int(status)}` | {meaning} |" for status, meaning in MEANINGS.items()]
    return "\n".join(["| status | meaning |", "| --- | --- |", *rows]) + "\n"


def listing() -> str:
    """Return the statuses as lines for `--help`."""
    rows = (f"  {int(status):>3}  {meaning.replace('`', '')}" for status, meaning in MEANINGS.items())
    return "\n".join(["exit statuses:", *rows])
