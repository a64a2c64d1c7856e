"""What is known of one workspace that is starting, running or stopping. What is stopped is not tracked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.workspace import Event, Handle, Key, Phase, transition

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime

    from proxy.counts import PhaseTimes
    from proxy.errors import ProxyError, StartStalled
    from proxy.report import Progress
    from proxy.start_limit import Turn


@dataclass(slots=True, eq=False)
class Tracked:
    """One workspace. Changed by the supervisor alone, but for what its record keeps. Times are monotonic seconds."""

    key: Key
    touched: float  # the newest activity that is known
    stored: float  # the newest activity that is stored, or about to be
    since: float = 0.0  # when the phase began
    idle_ttl: float = math.inf  # this and the next two hold for it, by its own settings or the operator's; seconds
    protect_busy: bool = True
    max_age: float = math.inf
    profile: str | None = None  # with which its server was started, where that is known
    spared: float = -math.inf  # others may have used it until then, and not have stored it yet
    recorded: datetime | None = None  # what exactly is stored, as far as is known
    is_recorded_elsewhere: bool = False  # it was another replica that stored it
    phase: Phase = Phase.STOPPED
    handle: Handle | None = None
    task: asyncio.Task[None] | None = None  # the start or the stop in flight
    outcome: asyncio.Future[Handle] | None = None  # what waiters of a start wait for
    trouble: asyncio.Future[StartStalled] | None = None  # what is in the way of it, as soon as something is
    trouble_since: float = -math.inf
    progress: Progress | None = None  # how far the start in flight has come
    times: PhaseTimes | None = None  # how long it has been in each of its phases
    turn: Turn | None = None  # of the start in flight
    is_wanted: bool = False  # somebody asked for it while it was being stopped
    user: str = ""  # for whom it starts, runs, or is wanted; empty where nobody said so here
    is_known: bool = True  # that it runs, or should; else it is only stopped, in case it does
    started: float = math.inf  # when its server was made, as far as is known
    asked: float = -math.inf  # when its server was asked last what it does
    unknown_since: float = -math.inf  # it has not answered since; -inf where it has
    worked: float = -math.inf  # the newest activity of its kernels and terminals, as it said
    work: str = ""  # what that was
    work_seen: datetime | None = None  # the same by its own clock
    is_warned: bool = False  # people have been told that it is due soon
    told_dry: float = -math.inf  # when it was said that it would be stopped
    extended: float = -math.inf  # before then it is not stopped for being idle
    is_condemned: bool = False  # somebody is about to reap it: the next touch must object
    counted: str = ""  # the newest activity that this replica has seen, in words; "" where nobody said
    counted_at: float = -math.inf
    ignored: str = ""  # what this replica has seen last that is no activity
    ignored_at: float = -math.inf

    def move(self, event: Event) -> None:
        """Go on to the phase that follows.

        Raises:
            IllegalTransition: the table has none.
        """
        self.phase = transition(self.phase, event)

    def fail(self, error: ProxyError) -> None:
        """Tell those who wait for a start that it will not be; nobody need be waiting."""
        if self.outcome is not None and not self.outcome.done():
            self.outcome.set_exception(error)
            self.outcome.exception()  # retrieved: asyncio does not report it as forgotten
