"""Start, keep and stop notebook servers: the only owner of who is running.

A workspace has at most one start or stop in flight; concurrent callers share it, and one caller's cancellation never
cancels it for others. Look-up, join, change of phase and touch never await, so no two of them interleave.
Knows nothing of HTTP or Kubernetes.
"""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING

from proxy.backoff import BackOffs
from proxy.clock import Clock, SystemClock
from proxy.errors import Contested, ProxyError, ShuttingDown, StartFailed, StartStalled, StartTimeout, StopFailed
from proxy.reaper import Reaper
from proxy.record import Record
from proxy.tracked import Tracked
from proxy.waiting import is_in_time, unless_cut_off
from proxy.workspace import Event, Handle, Key, Phase

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import datetime
    from typing import Any

    from proxy.backends import Backend, Mark
    from proxy.config import Config


class Supervisor:
    """Keeps notebook servers running while they are used.

    One per event loop; its methods are called from that loop alone.

    Args:
        backend: what starts and stops them.
        config: `ready_timeout`, `idle_ttl`, `reaper`, `reap_interval` and `reap_grace` are read; empty values are the
            defaults.
        logger: where state changes are logged; by default this module's.
        clock: what time is measured by.
    """

    def __init__(
        self, backend: Backend, config: Config, logger: logging.Logger | None = None, *, clock: Clock | None = None
    ) -> None:
        config = config.with_defaults()
        self._backend = backend
        self._log = logger or logging.getLogger(__name__)
        self._clock = clock or SystemClock()
        self._monotonic = self._clock.monotonic
        self._ready_timeout = config.ready_timeout.total_seconds()
        self._is_reaping = config.reaper
        self._tracked: dict[Key, Tracked] = {}
        self._back_offs = BackOffs(self._monotonic)
        self._tasks: set[asyncio.Task[None]] = set()  # every start and stop that has not ended
        self._closing = False
        self._record = Record(backend, config, clock=self._clock, log=self._log)
        self._reaper = Reaper(
            self.begin_stop, self._tracked, self._record, backend, config, clock=self._clock, log=self._log
        )
        backend.observe(self)

    # What a request needs -------------------------------------------------------------------------------------------

    async def ensure_running(self, key: Key) -> Handle:
        """Return the handle of a running workspace, starting it if it is not there. Touches it.

        A workspace that runs is answered without awaiting any I/O; one that is being stopped is waited for and started
        anew. Cancelling one caller does not cancel a start that others share, nor the start itself.

        Raises:
            InvalidKey: the id is not a DNS-1123 label, or too long (63 characters with its prefix).
            StartTimeout: not ready within `ready_timeout`; the start goes on, and a retry joins it.
            StartFailed: it cannot become ready, or failed so recently that it is not tried again yet; carries the
                reason for people, the code for programs, and the seconds to wait.
            StartStalled: something is in its way that may heal; the start goes on, and a retry joins it.
            ShuttingDown: `close` was called.
        """
        tracked = self._tracked.get(key)
        if tracked is not None and tracked.phase is Phase.RUNNING:
            self._record.touch(tracked, "")
            assert tracked.handle is not None  # RUNNING has a handle
            return tracked.handle
        return await self._wake(key)

    def running(self, key: Key) -> Handle | None:
        """Return the handle of a workspace that runs, else None. Starts nothing and does not touch."""
        tracked = self._tracked.get(key)
        return tracked.handle if tracked is not None and tracked.phase is Phase.RUNNING else None

    def is_starting(self, key: Key) -> bool:
        """Tell whether a start is in flight, which `ensure_running` would join."""
        tracked = self._tracked.get(key)
        return tracked is not None and tracked.phase is Phase.STARTING

    def touch(self, key: Key, what: str = "") -> None:
        """Record activity now. Never blocks, never awaits, never fails; nothing where the key is not tracked.

        `what` it was is kept for people: a request line without its query, or which websocket's frame.
        """
        tracked = self._tracked.get(key)
        if tracked is not None:
            self._record.touch(tracked, what)

    def ignored(self, key: Key, what: str) -> None:
        """Remember what was seen and does not count, for people. It never raises the last activity."""
        tracked = self._tracked.get(key)
        if tracked is not None:
            tracked.ignored, tracked.ignored_at = what, self._monotonic()

    def last_active(self, key: Key) -> datetime | None:
        """Return when the workspace was last used (UTC), here or elsewhere, or None where it is not tracked."""
        tracked = self._tracked.get(key)
        return None if tracked is None else self._record.last_active(tracked)

    def phases(self) -> dict[Key, Phase]:
        """Return a snapshot of the workspaces that are starting, running or stopping."""
        return {key: tracked.phase for key, tracked in self._tracked.items()}

    async def stop(self, key: Key) -> None:
        """Stop the workspace and return when it is gone; already gone is success. Files stay.

        Joins a stop in flight. A start in flight is cancelled, and those who wait for it get `StartFailed`. Cancelling
        the caller does not cancel the stop.

        Raises:
            InvalidKey: the id cannot name a workspace.
            StopFailed: it may still be running; a running workspace stays tracked, so that it is stopped again.
            ShuttingDown: `close` ended the stop half way.
        """
        key.safe_deployment_name()
        while True:
            tracked = self._tracked.get(key)
            in_flight = tracked.task if tracked is not None and tracked.phase is Phase.STOPPING else None
            task = in_flight or self.begin_stop(key, "asked to")
            await asyncio.wait((task,))
            if task.cancelled():
                raise ShuttingDown
            try:
                return task.result()  # of this task: by the time it ends, the workspace may have another
            except Contested:
                if in_flight is None:
                    raise
                # It was a reap, which somebody's use called off; it does not call off this.

    def refuse_starts(self) -> None:
        """Start nothing any more: who asks for what does not run gets `ShuttingDown`. What runs is still served."""
        self._closing = True

    async def close(self) -> None:
        """Start nothing any more, and end the starts and stops in flight. Notebook servers go on running.

        Those who wait for a start get `ShuttingDown`. Called again, it does nothing.
        """
        self._closing = True
        for tracked in self._tracked.values():
            if tracked.phase is Phase.STARTING:
                tracked.fail(ShuttingDown())
        for task in self._tasks:
            if not task.cancelling():  # a start that a stop has cancelled clears up in peace
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._record.close()

    # What others report ---------------------------------------------------------------------------------------------

    def lost(self, key: Key, handle: Handle, reason: str) -> None:
        """Drop a handle that is worth nothing any more: it refused a connection, or its server ended.

        Nothing happens if the workspace has another handle by now, so that news which comes late hurts nobody.
        """
        tracked = self._tracked.get(key)
        if tracked is None or tracked.handle is not handle:
            return
        tracked.handle = None  # so that a stop which fails does not bring it back
        if tracked.phase is Phase.RUNNING:
            tracked.move(Event.LOST)
            del self._tracked[key]
            self._log.warning("workspace lost: id=%s namespace=%s reason=%s", key.workspace_id, key.namespace, reason)

    def found(self, key: Key, handle: Handle, last_active: datetime | None) -> None:
        """Adopt what runs without having been started here, or take its new handle; a start gets its own.

        Where nothing is stored it counts as used now.
        """
        tracked = self._tracked.get(key)
        if tracked is None and not self._closing:
            since = self._monotonic() if last_active is None else -math.inf
            tracked = self._tracked[key] = Tracked(key, touched=since, stored=since, handle=handle)
            tracked.move(Event.FOUND)
            self._back_offs.clear(key)
            self._log.info("workspace found: id=%s namespace=%s", key.workspace_id, key.namespace)
        elif tracked is not None and tracked.phase is not Phase.STARTING:
            tracked.handle = handle  # also of what is being stopped, should that fail
        else:
            return
        if last_active is not None:
            self._record.learn(tracked, last_active)

    def active(self, key: Key, at: datetime) -> None:
        """Raise its last activity to what somebody else has stored; never lowers it."""
        tracked = self._tracked.get(key)
        if tracked is not None and tracked.phase is not Phase.STARTING:  # which counts as used when it is ready
            self._record.learn(tracked, at)

    def condemned(self, key: Key) -> None:
        """Object to a reap if it has been used, now or as soon as it is."""
        tracked = self._tracked.get(key)
        if tracked is not None and tracked.phase is Phase.RUNNING:
            self._record.condemn(tracked)

    def stalled(self, key: Key, trouble: StartStalled | None) -> None:
        """Tell those who wait for a start what is in its way; the start goes on."""
        tracked = self._tracked.get(key)
        if tracked is None or tracked.phase is not Phase.STARTING or tracked.trouble is None:
            return
        if tracked.trouble.done():
            tracked.trouble = asyncio.get_running_loop().create_future()
        if trouble is not None:
            tracked.trouble.set_result(trouble)
            self._log.warning("workspace stalled: id=%s code=%s: %s", key.workspace_id, trouble.code, trouble)

    # Starting -------------------------------------------------------------------------------------------------------

    async def _wake(self, key: Key) -> Handle:
        """Join or begin a start; wait for a stop first. Each caller waits for at most `ready_timeout`."""
        key.safe_deployment_name()
        deadline = self._monotonic() + self._ready_timeout
        while True:
            tracked = self._tracked.get(key)
            if tracked is not None and tracked.phase is Phase.RUNNING:
                return await self.ensure_running(key)
            if self._closing:
                raise ShuttingDown
            if tracked is None:
                self._back_offs.refuse(key)
                tracked = self._begin_start(key)
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
            raise StartTimeout(key.workspace_id, self._ready_timeout)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run work that outlives its caller; `close` ends it."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin_start(self, key: Key) -> Tracked:
        now, loop = self._monotonic(), asyncio.get_running_loop()
        tracked = Tracked(key, touched=now, stored=now, outcome=loop.create_future(), trouble=loop.create_future())
        tracked.move(Event.WAKE)
        self._tracked[key] = tracked
        tracked.task = self._spawn(self._start(tracked), f"start {key.workspace_id}")
        return tracked

    async def _start(self, tracked: Tracked) -> None:
        """Run the backend's start and tell all waiters how it ended. A stop that came meanwhile takes over."""
        key, began = tracked.key, self._monotonic()
        self._log.info("workspace starting: id=%s namespace=%s", key.workspace_id, key.namespace)
        error: ProxyError
        try:
            handle = await unless_cut_off(self._backend.start(key))
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
        tracked.move(Event.READY)
        tracked.handle, tracked.task = handle, None
        self._record.touch(tracked, "start")  # what is stored is from when the start began
        self._back_offs.clear(tracked.key)
        key = tracked.key
        self._log.info("workspace running: id=%s namespace=%s after=%.1fs", key.workspace_id, key.namespace, seconds)
        if tracked.outcome is not None and not tracked.outcome.done():
            tracked.outcome.set_result(handle)

    def _failed(self, tracked: Tracked, error: StartFailed) -> None:
        tracked.move(Event.FAILED)
        del self._tracked[tracked.key]
        retry_after = self._back_offs.record(tracked.key, error)
        self._log.warning(
            "workspace failed to start: id=%s namespace=%s code=%s retry_after=%ds: %s",
            tracked.key.workspace_id, tracked.key.namespace, error.code, retry_after, error,
        )  # fmt: skip
        tracked.fail(error)

    # Stopping -------------------------------------------------------------------------------------------------------

    def begin_stop(self, key: Key, reason: str, mark: Mark | None = None) -> asyncio.Task[None]:
        """Move to STOPPING now, whatever the phase; the work is the task that is returned."""
        tracked = self._tracked.get(key)
        if tracked is None:
            now = self._monotonic()
            tracked = self._tracked[key] = Tracked(key, touched=now, stored=now)
        starting = tracked.task
        tracked.move(Event.STOP)
        tracked.fail(StartFailed("stopped", "It was stopped while it was starting.", retry_after=1))
        tracked.task = self._spawn(self._stop(tracked, starting, reason, mark), f"stop {key.workspace_id}")
        # Its failure is logged where it happens; the callers may be gone.
        tracked.task.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        return tracked.task

    async def _stop(
        self, tracked: Tracked, starting: asyncio.Task[None] | None, reason: str, mark: Mark | None
    ) -> None:
        key = tracked.key
        if starting is not None:
            starting.cancel()
            await asyncio.wait((starting,))
        try:
            await unless_cut_off(self._backend.stop(key, mark))
        except Contested as contested:
            self._stuck(tracked)
            self._log.info("stop contested: id=%s: %s", key.workspace_id, contested)
            if contested.last_active is not None:
                self._record.learn(tracked, contested.last_active)
            raise
        except Exception as error:
            self._stuck(tracked)
            self._log.exception("workspace could not be stopped: id=%s namespace=%s", key.workspace_id, key.namespace)
            if isinstance(error, StopFailed):
                raise
            raise StopFailed(f"Workspace {key.workspace_id!r} could not be stopped: {error}") from error
        tracked.move(Event.GONE)
        del self._tracked[key]
        self._log.info("workspace stopped: id=%s namespace=%s reason=%s", key.workspace_id, key.namespace, reason)

    def _stuck(self, tracked: Tracked) -> None:
        """It was not stopped: keep what may still run, so that it is stopped again; forget what is not known to run."""
        tracked.task = None
        if tracked.handle is not None:
            tracked.move(Event.STUCK)
        else:
            tracked.move(Event.FAILED)
            del self._tracked[tracked.key]

    # Reaping --------------------------------------------------------------------------------------------------------

    async def run_reaper(self) -> None:
        """Stop what has been idle for `idle_ttl`, every `reap_interval`, until cancelled. Errors are logged.

        Returns at once where the `reaper` setting is off; the record of use is kept all the same.
        """
        if self._is_reaping:
            await self._reaper.run()
