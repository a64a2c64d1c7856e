"""How far a start is, told to people on stderr: a bar on a terminal, a line for each step elsewhere."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy.cli.terminal import clean
from proxy.pages.words import duration, fraction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress as RichProgress

_NO_WORDS: Final = "Starting its notebook server"


class Progress(Protocol):
    """Who is told how far it is."""

    def tell(self, status: dict[str, Any]) -> None:
        """Learn the workspace's status, as the API tells it."""

    def say(self, words: str) -> None:
        """Learn what is happening, where there is no status that tells it."""


class Lines:
    """Writes a line whenever there is something new to say."""

    def __init__(self) -> None:
        self._said = ""

    def tell(self, status: dict[str, Any]) -> None:
        """Say the step, and what is in the way."""
        self.say(_words_of(status))

    def say(self, words: str) -> None:
        """Write it, unless it was the last that was written."""
        if words != self._said:
            self._said = words
            sys.stderr.write(words + "\n")
            sys.stderr.flush()


class Bar:
    """Draws a bar that fills as starts usually do."""

    def __init__(self, progress: RichProgress) -> None:
        self._progress = progress
        self._task = progress.add_task(_NO_WORDS, total=None)

    def tell(self, status: dict[str, Any]) -> None:
        """Move it on."""
        start = status["start"] or {}
        usual, elapsed = start.get("usual_seconds"), start.get("elapsed_seconds") or 0.0
        self._progress.update(
            self._task,
            description=_words_of(status),
            total=1.0 if usual else None,
            completed=fraction(elapsed, usual) if usual else 0.0,
        )

    def say(self, words: str) -> None:
        """Show it beside the bar."""
        self._progress.update(self._task, description=words)


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """Give what fits the terminal; at the end nothing of a bar is left."""
    if not sys.stderr.isatty():
        yield Lines()
        return
    from rich.console import Console  # noqa: PLC0415 - of use on a terminal alone
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415 - the same
    from rich.progress import Progress as Drawn  # noqa: PLC0415 - the same

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),  # words of a cluster are no markup
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
    )
    with Drawn(*columns, console=Console(stderr=True), transient=True) as drawn:
        yield Bar(drawn)


def _words_of(status: dict[str, Any]) -> str:
    start = status["start"] or {}
    words, trouble = str(start.get("words") or _NO_WORDS).rstrip("."), start.get("trouble")
    usual = start.get("usual_seconds")
    if usual and not trouble:
        words += f" (usually about {duration(max(usual, 1))})"
    if trouble:
        words += f": {trouble['detail']}"
    return " ".join(clean(words).split())
