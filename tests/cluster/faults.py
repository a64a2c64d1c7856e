"""Scripted misfortune: which requests meet it, what happens to them, how often.

What must hold: a fault never changes the cluster's state. The one that lets a write happen says so in its name:
`LoseAnswer`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tests.cluster import answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.requests import Target

HTML = "<html><head><title>{status}</title></head><body><h1>{status}</h1><hr>nginx</body></html>\n"


@dataclass(frozen=True)
class Answer:
    """Answer with these bytes; the request goes no further."""

    status: int
    body: str = ""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Hang:
    """Never answer: the peer is there and silent."""


@dataclass(frozen=True)
class Reset:
    """Break the connection; the request goes no further."""


@dataclass(frozen=True)
class Delay:
    """Wait for `until`, or for some seconds, then go on as if nothing had been."""

    seconds: float = 0
    until: asyncio.Event | None = None


@dataclass(frozen=True)
class LoseAnswer:
    """Do what the request asks, then break the connection instead of answering."""


WatchBreak = Literal["end", "cut", "expire", "mute", "reset", "garbage"]


@dataclass(frozen=True)
class BreakWatch:
    """Let a watch begin, and after so many events end it, cut it in a line, expire it (410), mute it, ..."""

    how: WatchBreak
    after_events: int = 0


Action = Answer | Hang | Reset | Delay | LoseAnswer | BreakWatch


def too_many_requests(retry_after: int = 1) -> Answer:
    """429, as the server's priority and fairness answers it: plain text and `Retry-After`."""
    text = "Too many requests, please try again later.\n"
    return Answer(429, text, "text/plain", {"Retry-After": str(retry_after)})


def unavailable(retry_after: int | None = None) -> Answer:
    """503."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Answer(503, "service unavailable\n", "text/plain", headers)


def server_error() -> Answer:
    """500, as when etcd does not answer."""
    return _refusal(answers.failure(500, "InternalError", "Internal error occurred: etcdserver: request timed out"))


def gone() -> Answer:
    """410 as an HTTP status, as to a list from a compacted version."""
    return _refusal(answers.expired_list())


def unauthorized() -> Answer:
    """401, as to an expired token."""
    return _refusal(answers.unauthorized())


def html(status: int = 200) -> Answer:
    """A page of a proxy on the way, with any status."""
    return Answer(status, HTML.format(status=status), "text/html")


def empty() -> Answer:
    """200 and not one byte."""
    return Answer(200)


def _refusal(error: answers.ApiError) -> Answer:
    import json

    return Answer(error.code, json.dumps(error.status))


@dataclass
class Fault:
    """A scripted fault; `hits` counts how often it struck."""

    action: Action
    matches: Callable[[Target, str], bool]
    times: int | None
    skip: int
    hits: int = 0
    struck: asyncio.Event = field(default_factory=asyncio.Event)

    def strikes(self, target: Target, user_agent: str) -> bool:
        """Tell whether this request meets the fault, and count it."""
        if (self.times is not None and self.hits >= self.times) or not self.matches(target, user_agent):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.hits += 1
        self.struck.set()
        return True


class Faults:
    """The faults that are in force; the first that fits a request strikes it."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(
        self,
        action: Action,
        *,
        verb: str = "*",
        resource: str = "*",
        namespace: str = "*",
        name: str = "*",
        user_agent: str = "",
        times: int | None = 1,
        skip: int = 0,
    ) -> Fault:
        """Put a fault in force for the next `times` fitting requests (None: until it is removed) after `skip` more.

        `resource` is as in RBAC, `pods/log` included; several verbs are written `list|watch`.
        """

        def matches(target: Target, agent: str) -> bool:
            if isinstance(action, BreakWatch) and target.verb != "watch":
                return False
            wanted = (
                (verb, target.verb),
                (resource, target.plural),
                (namespace, target.namespace),
                (name, target.name),
            )
            return all(want == "*" or is_ in want.split("|") for want, is_ in wanted) and agent.startswith(user_agent)

        fault = Fault(action, matches, times, skip)
        self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Put a fault out of force."""
        self._faults.remove(fault)

    def clear(self) -> None:
        """Put all faults out of force."""
        self._faults.clear()

    def striking(self, target: Target, user_agent: str) -> Fault | None:
        """Return the fault that this request meets, if any."""
        return next((fault for fault in self._faults if fault.strikes(target, user_agent)), None)
