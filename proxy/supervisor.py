"""Start, keep and stop notebook servers: the only owner of who is running.

A workspace has at most one start or stop in flight; concurrent callers share it, and one caller's cancellation never
cancels it for others. Look-up, join, change of phase and touch never await, so no two of them interleave.
Knows nothing of HTTP or Kubernetes.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from proxy.backoff import BackOffs
from proxy.clock import Clock, SystemClock
from proxy.errors import ProxyError, ShuttingDown, StartFailed, StartTimeout, StopFailed
from proxy.workspace import Event, Handle, Key, Phase, transition

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

    from proxy.backends import Backend
    from proxy.config import Config

_REAP_CONCURRENCY: Final = 20
_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Tracked:
    """One workspace that is starting, running or stopping. What is stopped is not tracked."""

    key: Key
    touched: float  # on the monotonic clock
    phase: Phase = Phase.STOPPED
    handle: Handle | None = None
    task: asyncio.Task[None] | None = None  # the start or the stop in flight
    outcome: asyncio.Future[Handle] | None = None  # what waiters of a start wait for

    def move(self, event: Event) -> None:
        self.phase = transition(self.phase, event)


class Supervisor:
    """Keeps notebook servers running while they are used.

    One per event loop; its methods are called from that loop alone.

    Args:
        backend: what starts and stops them.
        config: `ready_timeout`, `idle_ttl`, `reap_interval` and `reaper` are read; empty values are the defaults.
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
        self._idle_ttl = config.idle_ttl.total_seconds()
        self._reap_interval = config.reap_interval.total_seconds()
        self._reaper = config.reaper
        self._tracked: dict[Key, _Tracked] = {}
        self._back_offs = BackOffs(self._monotonic)
        self._tasks: set[asyncio.Task[None]] = set()  # every start and stop that has not ended
        self._closing = False
        backend.listen(self.lost)

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
            ShuttingDown: `close` was called.
        """
        tracked = self._tracked.get(key)
        if tracked is not None and tracked.phase is Phase.RUNNING:
            tracked.touched = self._monotonic()
            assert tracked.handle is not None  # RUNNING has a handle
            return tracked.handle
        return await self._wake(key)

    def touch(self, key: Key) -> None:
        """Record activity now. Never blocks, never awaits, never fails; nothing where the key is not tracked."""
        tracked = self._tracked.get(key)
        if tracked is not None:
            tracked.touched = self._monotonic()

    def last_active(self, key: Key) -> datetime | None:
        """Return when the workspace was last touched (UTC), or None where it is not tracked."""
        tracked = self._tracked.get(key)
        if tracked is None:
            return None
        return self._clock.now() - timedelta(seconds=self._monotonic() - tracked.touched)

    def phase(self, key: Key) -> Phase:
        """Return where its notebook server is in its life, as far as this process knows."""
        tracked = self._tracked.get(key)
        return Phase.STOPPED if tracked is None else tracked.phase

    def keys(self) -> list[Key]:
        """Return a snapshot of the workspaces that are starting, running or stopping."""
        return list(self._tracked)

    def phases(self) -> dict[Key, Phase]:
        """Return a snapshot of the workspaces that are starting, running or stopping."""
        return {key: tracked.phase for key, tracked in self._tracked.items()}

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
        tracked = self._tracked.get(key)
        if tracked is None or tracked.phase is not Phase.STOPPING:
            tracked = self._begin_stop(key, "asked to")
        task = tracked.task  # ours; by the time it ends, the workspace may have another
        assert task is not None  # STOPPING has a task
        await asyncio.wait((task,))
        if task.cancelled():
            raise ShuttingDown
        task.result()

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
                _fail(tracked.outcome, ShuttingDown())
        for task in self._tasks:
            if not task.cancelling():  # a start that a stop has cancelled clears up in peace
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

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
                assert tracked.outcome is not None  # STARTING has an outcome
                if await self._wait(tracked.outcome, deadline):
                    return tracked.outcome.result()
            elif await self._wait(tracked.task, deadline):
                continue  # it is stopped, or could not be: look again
            raise StartTimeout(key.workspace_id, self._ready_timeout)

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _begin_start(self, key: Key) -> _Tracked:
        tracked = _Tracked(key, touched=self._monotonic())
        tracked.move(Event.WAKE)
        tracked.outcome = asyncio.get_running_loop().create_future()
        self._tracked[key] = tracked
        tracked.task = self._spawn(self._start(tracked), f"start {key.workspace_id}")
        return tracked

    async def _start(self, tracked: _Tracked) -> None:
        """Run the backend's start and tell all waiters how it ended. A stop that came meanwhile takes over."""
        key, began = tracked.key, self._monotonic()
        self._log.info("workspace starting: id=%s namespace=%s", key.workspace_id, key.namespace)
        error: ProxyError
        try:
            handle = await _unless_cut_off(self._backend.start(key))
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

    def _ready(self, tracked: _Tracked, handle: Handle, seconds: float) -> None:
        tracked.move(Event.READY)
        tracked.handle, tracked.task = handle, None
        tracked.touched = self._monotonic()
        self._back_offs.clear(tracked.key)
        key = tracked.key
        self._log.info("workspace running: id=%s namespace=%s after=%.1fs", key.workspace_id, key.namespace, seconds)
        if tracked.outcome is not None and not tracked.outcome.done():
            tracked.outcome.set_result(handle)

    def _failed(self, tracked: _Tracked, error: StartFailed) -> None:
        tracked.move(Event.FAILED)
        del self._tracked[tracked.key]
        retry_after = self._back_offs.record(tracked.key, error)
        self._log.warning(
            "workspace failed to start: id=%s namespace=%s code=%s retry_after=%ds: %s",
            tracked.key.workspace_id, tracked.key.namespace, error.code, retry_after, error,
        )  # fmt: skip
        _fail(tracked.outcome, error)

    async def _wait(self, what: asyncio.Future[Handle] | asyncio.Task[None] | None, deadline: float) -> bool:
        """Wait until it is done or the deadline passes; tell which. It is never cancelled by this."""
        assert what is not None  # STARTING has an outcome, STOPPING has a task
        timer = asyncio.create_task(self._clock.sleep(max(deadline - self._monotonic(), 0)))
        try:
            await asyncio.wait((what, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return what.done()

    # Stopping -------------------------------------------------------------------------------------------------------

    def _begin_stop(self, key: Key, reason: str) -> _Tracked:
        """Move to STOPPING now, whatever the phase; the work is a task of its own."""
        tracked = self._tracked.get(key)
        if tracked is None:
            tracked = self._tracked[key] = _Tracked(key, touched=self._monotonic())
        starting = tracked.task
        tracked.move(Event.STOP)
        _fail(tracked.outcome, StartFailed("stopped", "It was stopped while it was starting.", retry_after=1))
        tracked.task = self._spawn(self._stop(tracked, starting, reason), f"stop {key.workspace_id}")
        # Its failure is logged where it happens; the callers may be gone.
        tracked.task.add_done_callback(lambda task: None if task.cancelled() else task.exception())
        return tracked

    async def _stop(self, tracked: _Tracked, starting: asyncio.Task[None] | None, reason: str) -> None:
        key = tracked.key
        if starting is not None:
            starting.cancel()
            await asyncio.wait((starting,))
        try:
            await _unless_cut_off(self._backend.stop(key))
        except Exception as error:
            self._stuck(tracked)
            self._log.exception("workspace could not be stopped: id=%s namespace=%s", key.workspace_id, key.namespace)
            if isinstance(error, StopFailed):
                raise
            raise StopFailed(f"Workspace {key.workspace_id!r} could not be stopped: {error}") from error
        tracked.move(Event.GONE)
        del self._tracked[key]
        self._log.info("workspace stopped: id=%s namespace=%s reason=%s", key.workspace_id, key.namespace, reason)

    def _stuck(self, tracked: _Tracked) -> None:
        """A stop failed: keep what may still run, so that it is stopped again; forget what never ran."""
        tracked.task = None
        if tracked.handle is not None:
            tracked.move(Event.STUCK)
        else:
            tracked.move(Event.FAILED)
            del self._tracked[tracked.key]

    # Reaping --------------------------------------------------------------------------------------------------------

    async def run_reaper(self) -> None:
        """Stop what has been idle for `idle_ttl`, every `reap_interval`, until cancelled.

        Errors are logged and never end it. Returns at once where the `reaper` setting is off.
        """
        while self._reaper:
            await self._clock.sleep(self._reap_interval)
            try:
                await self._reap_idle()
            except Exception:  # noqa: BLE001 - the top of a task
                self._log.exception("reaper tick broke")

    async def _reap_idle(self) -> None:
        """Stop each workspace of a snapshot that is due, a bounded number at once."""
        limit = asyncio.Semaphore(_REAP_CONCURRENCY)
        due = [tracked for tracked in self._tracked.values() if self._is_due(tracked)]
        if due:
            async with asyncio.TaskGroup() as group:
                for tracked in due:
                    group.create_task(self._reap(tracked, limit))

    def _is_due(self, tracked: _Tracked) -> bool:
        return tracked.phase is Phase.RUNNING and tracked.touched + self._idle_ttl < self._monotonic()

    async def _reap(self, tracked: _Tracked, limit: asyncio.Semaphore) -> None:
        async with limit:
            # Between the snapshot and now it may have been used, stopped or lost; from here to STOPPING nothing awaits.
            if self._tracked.get(tracked.key) is not tracked or not self._is_due(tracked):
                return
            idle = self._monotonic() - tracked.touched
            task = self._begin_stop(tracked.key, f"idle for {idle:.0f}s").task
            assert task is not None  # STOPPING has a task
            await asyncio.wait((task,))  # its failure is logged where it happens


def _fail(outcome: asyncio.Future[Handle] | None, error: ProxyError) -> None:
    """Tell those who wait for a start that it will not be; nobody need be waiting."""
    if outcome is not None and not outcome.done():
        outcome.set_exception(error)
        outcome.exception()  # retrieved: asyncio does not report it as forgotten


async def _unless_cut_off(work: Coroutine[Any, Any, _T]) -> _T:
    """Make an error of a cancellation that nobody here asked for, which would leave a start or stop without an end."""
    try:
        return await work
    except asyncio.CancelledError as cut_off:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("cancelled from within") from cut_off
