"""What is wrong, and what is not: pure judgements of answers, and of what a process holds before and after.

A wrong answer is the worst that a relay can do: another's body, half a body that looks whole, an error that nobody
caused. A 503 with Retry-After is right while a notebook server starts, and so is an error or a cut where one crashes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.soak.watching import Held

RIGHT: Final = "right"
STARTING: Final = "503, starting"
EXCUSED: Final = "error of a crash"
WRONG: Final = "wrong"
_MOST_WORDS: Final = 20
_ERRORS_OF_A_CRASH: Final = frozenset({502, 503, 504})
# What outlives its workspace by intent is left to the supervisor: what became of it, for those who ask later.
_FOLLOWED: Final = ("proxy.relay.", "proxy.gateway.", "proxy.tracked.", "aiohttp.web", "uvloop.loop.TCPTransport")


@dataclass
class Answer:
    """What a client got.

    Attributes:
        status: of the response's head; 0 where none came.
        body: what came of the body.
        is_whole: the client saw the end of the body, by its length or its last chunk.
        workspace: which workspace's notebook server says that it answered.
        retry_after: the header.
        trouble: what the client's library said where the answer was not whole.
    """

    status: int = 0
    body: bytes = b""
    is_whole: bool = False
    workspace: str = ""
    retry_after: str = ""
    trouble: str = ""


def judge(answer: Answer, workspace: str, wanted: bytes, *, may_crash: bool = False) -> tuple[str, str]:
    """Return what an answer is, and for a wrong one the words for a person.

    Args:
        answer: what came.
        workspace: whose answer is wanted.
        wanted: the body that is wanted.
        may_crash: the notebook server may have crashed meanwhile.
    """
    if answer.status == 200 and answer.is_whole:
        if answer.workspace != workspace:
            return WRONG, f"workspace {answer.workspace!r} answered for {workspace!r}"
        if answer.body != wanted:
            return WRONG, f"another body: {len(answer.body)} bytes that look whole, for {len(wanted)} that were wanted"
        return RIGHT, ""
    if answer.is_whole and answer.status == 503 and answer.retry_after:
        return STARTING, ""
    if may_crash and (not answer.is_whole or answer.status in _ERRORS_OF_A_CRASH):
        return EXCUSED, ""
    return WRONG, f"status {answer.status}, {answer.trouble or answer.body[:300]!r}"


@dataclass
class Tally:
    """Everything that was tried, and how it ended.

    Attributes:
        counts: by what was tried and how it ended.
        wrong: the words for the first wrong ones.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str, outcome: str, words: str = "") -> None:
        """Count one."""
        self.counts[what, outcome] += 1
        if outcome == WRONG and len(self.wrong) < _MOST_WORDS:
            self.wrong.append(f"{what}: {words}")

    def total(self, outcome: str | None = None) -> int:
        """Return how many ended so, or all."""
        return sum(count for (_, ended), count in self.counts.items() if outcome in (None, ended))

    def rows(self) -> list[tuple[str, dict[str, int]]]:
        """Return, by what was tried, how often it ended how."""
        names = sorted({what for what, _ in self.counts})
        return [(name, {ended: n for (what, ended), n in self.counts.items() if what == name}) for name in names]


def leaks(before: Held, after: Held, allowed_growth: int) -> Iterator[str]:
    """Yield what a process holds after work that it did not hold before it.

    Args:
        before: at rest, after the warm-up.
        after: at rest again.
        allowed_growth: bytes by which resident memory may be more.
    """
    for name in ("descriptors", "connections", "children"):
        if getattr(after, name) > getattr(before, name):
            yield f"{name}: {getattr(after, name)}, {getattr(before, name)} before"
    yield from _more("task", before.tasks, after.tasks)
    yield from _more("object", before.objects, after.objects)
    if after.rss > before.rss + allowed_growth:
        yield f"resident memory: {after.rss / 1e6:.1f} MB, {before.rss / 1e6:.1f} MB before"


def _more(what: str, before: Mapping[str, int], after: Mapping[str, int]) -> Iterator[str]:
    for name, count in after.items():
        is_followed = what == "task" or name.startswith(_FOLLOWED)
        if is_followed and count > before.get(name, 0):
            yield f"{what}s of {name}: {count}, {before.get(name, 0)} before"
