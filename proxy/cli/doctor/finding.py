"""What a look at something came to. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any


class State(enum.Enum):
    """How it is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"
    LEFT_OUT = "left out"

    @property
    def style(self) -> str:
        """How a terminal shows it."""
        return {"ok": "green", "warning": "yellow", "wrong": "bold red"}.get(self.value, "dim")


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found.

    Args:
        check: what was looked at, in a word or two.
        state: how it is.
        words: a sentence for people.
        advice: what to do; empty where there is nothing to do.
    """

    check: str
    state: State
    words: str
    advice: str = ""

    def told(self) -> dict[str, Any]:
        """Return it for programs."""
        return {"check": self.check, "state": self.state.value, "words": self.words, "advice": self.advice}


_UNSEEN, _TOO_MUCH = 3.0, 30.0
"""Seconds. An answer tells its moment to the second, and takes a while; `reap_grace` is 10 s."""


def of_date(check: str, date: str) -> Finding:
    """Judge the clock of whoever sent this `Date` just now by this machine's.

    What replicas tell each other of activity are times of the wall clock; a reap waits seconds for objections.
    """
    try:
        ahead = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return Finding(check, State.LEFT_OUT, "It does not tell the time.")
    if abs(ahead) < _UNSEEN:
        return Finding(check, State.OK, "Its clock and this machine's agree.")
    words = f"Its clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine's."
    state = State.WARNING if abs(ahead) < _TOO_MUCH else State.WRONG
    return Finding(check, state, words, "Let both be set by NTP (chrony, systemd-timesyncd).")
