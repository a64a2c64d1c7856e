"""Start workspaces: join the start in flight or begin one, wait for it, tell all who wait how it ended.

A workspace has at most one start in flight; concurrent callers share it, and one caller's cancellation never cancels it
for others. Looking, joining and beginning never await.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING

from proxy.counts import PhaseTimes
from proxy.errors import ProxyError, ShuttingDown, StartFailed, StartStalled, StartTimeout
from proxy.report import Progress, Step, Trouble
from proxy.start_limit import StartLimit
from proxy.waiting import is_in_time, unless_cut_off
from proxy.workspace import Event, Handle, Key, Phase

if TYPE_CHECKING:
    import logging

    from proxy.backends import Backend
    from proxy.backoff import BackOffs
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.counts import SupervisorCounts
    from proxy.keeping import Keeping
    from proxy.ledger import Ledger
    from proxy.quota import Quota
    from proxy.record import Record
    from proxy.roster import Roster
    from proxy.start_limit import Turn
    from proxy.tracked import Tracked


class Starts:
    """Starts. One per supervisor.

    Args:
        roster: what is tracked.
        backend: starts.
        record: touched by whoever waits for a start.
        ledger: remembers failures, and how long starts take.
        config: `ready_timeout`, `max_concurrent_starts`, `max_queued`.
        back_offs: the failures of late.
        quota: how much one user may start.
        keeping: stores whose a workspace is.
        clock: what time is measured by.
        log: where changes of state are logged.
        counts: of how starts end, and what they take.
    """

    def __init__(
        self,
        roster: Roster,
        backend: Backend,
        record: Record,
        ledger: Ledger,
        config: Config,
        *,
        back_offs: BackOffs,
        quota: Quota,
        keeping: Keeping,
        clock: Clock,
        log: logging.Logger,
        counts: SupervisorCounts,
    ) -> None:
        self._roster = roster
        self._backend = backend
        self._record = record
        self._ledger = ledger
        self._back_offs = back_offs
        self._quota = quota
        self._keeping = keeping
        self._limit = StartLimit(config.max_concurrent_starts, config.max_queued, ledger.bump)
        self._ready_timeout = config.ready_timeout.total_seconds()
        self._clock = clock
        self._monotonic = clock.monotonic
        self._log = log
        self._counts = counts

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return self._limit.waiting

    async def wake(self, key: Key, timeout: float | None = None, *, user: str = "") -> Handle:  # noqa: ASYNC109 - of the injected clock
        """Return the handle: join or begin a start; wait for a stop first. Each caller waits for at most `timeout`.

        Raises:
            ProxyError: see `Supervisor.ensure_running`.
        """
        key.safe_deployment_name()
        seconds = self._ready_timeout if timeout is None else timeout
        deadline = self._monotonic() + seconds
        while True:
            tracked = self._roster.get(key)
            if tracked is not None and tracked.phase is Phase.RUNNING:
                self._record.touch(tracked, "")
                assert tracked.handle is not None  # RUNNING has a handle
                return tracked.handle
            if self._roster.is_closing:
                raise ShuttingDown
            if tracked is None:
                tracked = self._begin(key, user)
            if tracked.phase is Phase.STARTING:
                tracked.touched = self._monotonic()
                outcome, trouble = tracked.outcome, tracked.trouble
                assert outcome is not None and trouble is not None  # noqa: PT018 - STARTING has both
                if await is_in_time(self._clock, deadline, outcome, trouble):
                    if outcome.done():
                        return outcome.result()
                    told = trouble.result()
                    raise StartStalled(told.code, str(told))  # each caller's traceback is its own
            elif tracked.task is not None and await is_in_time(self._clock, deadline, tracked.task):
                continue  # it is stopped, or could not be: look again
            raise StartTimeout(key.workspace_id, seconds)

    def begin(self, key: Key, user: str = "") -> None:
        """Start in the background what does not run; what is being stopped is started when it is gone.

        Raises:
            ProxyError: see `Supervisor.begin`.
        """
        key.safe_deployment_name()
        tracked = self._roster.get(key)
        if tracked is not None and tracked.phase is not Phase.STOPPING:
            return
        if self._roster.is_closing:
            raise ShuttingDown
        if tracked is None:
            self._begin(key, user)
        else:
            self._quota.refuse(key, user)
            tracked.is_wanted, tracked.user = True, user

    def _begin(self, key: Key, user: str) -> Tracked:
        self._back_offs.refuse(key)
        self._quota.refuse(key, user)
        loop, turn = asyncio.get_running_loop(), self._limit.enter(key)
        self._quota.began(user)
        tracked = self._roster.add(key)
        tracked.turn, tracked.user = turn, user
        tracked.times = PhaseTimes(Step.PREPARING if turn.granted.done() else Step.QUEUED, self._monotonic())
        tracked.outcome, tracked.trouble = loop.create_future(), loop.create_future()
        self._roster.move(tracked, Event.WAKE)
        tracked.task = self._roster.spawn(self._start(tracked, turn), f"start {key.workspace_id}")
        tracked.task.add_done_callback(lambda _: self._limit.leave(turn))  # also of a task that never ran
        return tracked

    async def _start(self, tracked: Tracked, turn: Turn) -> None:
        """Run the backend's start and tell all waiters how it ended. A stop that came meanwhile takes over."""
        key = tracked.key
        if not turn.granted.done():
            tracked.progress = Progress(Step.QUEUED, "Others start first.", self._clock.now())
            self._ledger.bump(key)
            self._log.info("workspace queued: id=%s namespace=%s", key.workspace_id, key.namespace)
            await turn.granted
        tracked.progress = Progress(Step.PREPARING, "What it needs is being made.", self._clock.now())
        self._ledger.bump(key)
        began = self._monotonic()
        if tracked.times is not None:
            tracked.times.enter(Step.PREPARING, began)
        self._log.info("workspace starting: id=%s namespace=%s", key.workspace_id, key.namespace)
        error: ProxyError
        try:
            handle = await unless_cut_off(self._backend.start(key, *filter(None, (tracked.user,))))
        except StartFailed as failed:
            error = failed
        except Exception as defect:  # noqa: BLE001 - the top of a task
            self._log.exception("start broke: id=%s namespace=%s", key.workspace_id, key.namespace)
            error = StartFailed("internal", f"The proxy could not start it ({type(defect).__name__}); see its log.")
        else:
            if tracked.phase is Phase.STARTING:
                self._ready(tracked, handle, self._monotonic() - began)
            return
        if tracked.phase is Phase.STARTING:
            self._failed(tracked, error)

    def _ready(self, tracked: Tracked, handle: Handle, seconds: float) -> None:
        key = tracked.key
        tracked.handle, tracked.task, tracked.progress = handle, None, None
        tracked.started = self._monotonic()
        self._ledger.took(seconds)
        self._counts.started(seconds, tracked.times.end(tracked.started) if tracked.times is not None else {})
        tracked.times = None
        self._ledger.entry(key).failure = None
        self._back_offs.clear(key)
        self._roster.move(tracked, Event.READY, f"It took {seconds:.1f} s.")
        self._record.touch(tracked, "start")  # what is stored is from when the start began
        self._log.info("workspace running: id=%s namespace=%s after=%.1fs", key.workspace_id, key.namespace, seconds)
        if tracked.outcome is not None and not tracked.outcome.done():
            tracked.outcome.set_result(handle)
        if tracked.user:
            self._keeping.own(key, tracked.user)

    def _failed(self, tracked: Tracked, error: StartFailed) -> None:
        key = tracked.key
        retry_after = self._back_offs.record(key, error)
        self._counts.starts.add(error.code)
        now = self._clock.now()
        self._ledger.entry(key).failure = Trouble(
            error.code, str(error), now, error.detail, now + timedelta(seconds=retry_after)
        )
        self._roster.move(tracked, Event.FAILED, f"{error.code}: {error}")
        self._log.warning(
            "workspace failed to start: id=%s namespace=%s code=%s retry_after=%ds: %s",
            key.workspace_id, key.namespace, error.code, retry_after, error,
        )  # fmt: skip
        tracked.fail(error)
