"""The supervisor against the table of legal transitions, through histories that nobody thought of.

The model knows of each workspace its phase, its handle and when it was touched, and moves only as
`workspace.TRANSITIONS` allows. After each step, supervisor, callers and backend must be where the model says.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from proxy.config import Config
from proxy.errors import Contested, ProxyError, ShuttingDown, StartFailed, StartStalled, StartTimeout, StopFailed
from proxy.workspace import TRANSITIONS, Event, Handle, Key, Phase

from .fakes import FakeBackend, FakeClock, FakeCluster, settle
from .stage import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

READY_TIMEOUT, IDLE_TTL, REAP_INTERVAL, REAP_GRACE = (
    60,
    120,
    30,
    10,
)  # so that each can overtake the others within a few steps
QUARTER = IDLE_TTL / 4
KEYS = (Key("one", "default"), Key("one", "elsewhere"))
SETTINGS = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

Outcome: TypeAlias = "Handle | tuple[type[ProxyError], str, int | None] | None"


def failure(error: ProxyError) -> Outcome:
    """Return what is compared of an error."""
    return type(error), error.code, error.retry_after


@dataclass(eq=False)
class Caller:
    """A task that waits for `ensure_running` or `stop`."""

    task: asyncio.Task[Any]
    deadline: float = math.inf


@dataclass
class Workspace:
    """What must be true of one workspace."""

    phase: Phase = Phase.STOPPED
    handle: Handle | None = None
    touched: float = 0.0
    requests: list[Caller] = field(default_factory=list)
    stoppers: list[Caller] = field(default_factory=list)
    error: StartFailed | None = None  # of the last start that failed
    failures: int = 0
    failed_at: float = 0.0
    starts: int = 0
    stops: int = 0
    pardons: int = 0
    trouble: str = ""  # the code of what is in the way of a start
    is_condemned: bool = False
    is_reaped: bool = False  # the stop in flight is a reap

    def move(self, event: Event) -> None:
        seen.add((self.phase, event))
        self.phase = TRANSITIONS[self.phase, event]
        if self.phase is Phase.STOPPED:
            self.trouble, self.is_condemned = "", False


SILENT = logging.getLogger("tests.supervisor.silent")  # thousands of starts fail here, as they should
SILENT.disabled = True
seen: set[tuple[Phase, Event]] = set()
keys = st.sampled_from(KEYS)
some = st.integers(1, 3)
durations = st.sampled_from([0.5, 1, 3, 10, READY_TIMEOUT, IDLE_TTL, IDLE_TTL + 0.5, 600])
start_errors: st.SearchStrategy[Callable[[], Exception] | None] = st.sampled_from(
    [
        lambda: StartFailed("exited", "It ended at once."),
        lambda: StartFailed("quota", "There is no room.", retry_after=10),
        ZeroDivisionError,
        None,  # it is cut off from within
    ]
)
stop_errors: st.SearchStrategy[Callable[[], Exception] | None] = st.sampled_from(
    [lambda: StopFailed("It does not end."), ZeroDivisionError, None]
)
mark_errors: st.SearchStrategy[Callable[[], Exception] | None] = st.sampled_from(
    [None, None, None, lambda: Contested("It is gone."), lambda: StopFailed("Kubernetes does not answer."), KeyError]
)


class SupervisorMachine(RuleBasedStateMachine):
    """Does to a supervisor what clients, backends and time do, in any order."""

    @initialize(slow_clearing=st.booleans(), jumps=st.booleans(), broken_stores=st.booleans())
    def begin(self, slow_clearing: bool, jumps: bool, broken_stores: bool) -> None:
        self.loop = asyncio.new_event_loop()
        self.stage: Stage = self._run(self._set_stage())
        self.supervisor, self.backend, self.clock = self.stage.supervisor, self.stage.backend, self.stage.clock
        self.backend.slow_starts = self.backend.slow_stops = True
        self.backend.slow_clearing = slow_clearing
        self.jumps = jumps  # of the wall clock, or else news by it
        if broken_stores:
            self.backend.broken_stores = {key: StopFailed("Kubernetes does not answer.") for key in KEYS}
        self.model = {key: Workspace() for key in KEYS}
        self.old_handles: list[tuple[Key, Handle]] = []
        self.is_closed = False

    # Callers

    @rule(key=keys, count=some)
    def request(self, key: Key, count: int) -> None:
        workspace, now = self.model[key], self.clock.monotonic()
        workspace.requests += self._callers(count, lambda: self.supervisor.ensure_running(key), now + READY_TIMEOUT)

        self._answer(key)

    @rule(key=keys, count=some)
    def stop(self, key: Key, count: int) -> None:
        workspace = self.model[key]
        if self.is_closed and workspace.phase is not Phase.RUNNING:
            return  # nobody stops then what `close` cut off
        workspace.stoppers += self._callers(count, lambda: self.supervisor.stop(key))

        if workspace.phase is not Phase.STOPPING:
            self._begin_stop(key)

    @precondition(lambda self: self._running())
    @rule(choice=st.data(), count=some)
    def stop_what_runs(self, choice: st.DataObject, count: int) -> None:
        self.stop(self._pick(choice, self._running()), count)

    @precondition(lambda self: self._waiting())
    @rule(choice=st.data())
    def cancel_a_caller(self, choice: st.DataObject) -> None:
        index = choice.draw(st.integers(0, len(self._waiting()) - 1))
        callers, caller = self._waiting()[index]
        caller.task.cancel()

        self._run(settle())

        callers.remove(caller)
        assert caller.task.cancelled()

    @rule(key=keys)
    def touch(self, key: Key) -> None:
        self._in_loop(self.supervisor.touch, key)

        if self.model[key].phase is not Phase.STOPPED:
            self._touch(key)

    # The backend

    @precondition(lambda self: self._in_flight(self.backend.starting))
    @rule(choice=st.data())
    def start_succeeds(self, choice: st.DataObject) -> None:
        key = self._pick(choice, self._in_flight(self.backend.starting))
        workspace = self.model[key]
        self.backend.let_start(key)

        self._run(settle())

        workspace.move(Event.READY)
        workspace.handle = self.backend.given[key]
        workspace.trouble = ""
        self._touch(key)
        workspace.error, workspace.failures = None, 0
        self._answer(key)

    @precondition(lambda self: self._in_flight(self.backend.starting))
    @rule(choice=st.data(), error=start_errors)
    def start_fails(self, choice: st.DataObject, error: Callable[[], Exception] | None) -> None:
        key = self._pick(choice, self._in_flight(self.backend.starting))
        workspace, now = self.model[key], self.clock.monotonic()
        raised = error() if error else None
        asked = raised.retry_after if isinstance(raised, StartFailed) else None
        self.backend.fail_start(raised, key) if raised else self.backend.cut_off_start(key)

        self._run(settle())

        workspace.move(Event.FAILED)
        if now >= workspace.failed_at + 600:
            workspace.failures = 0
        workspace.failures += 1
        workspace.failed_at = now
        wait = min(max(2 ** (workspace.failures - 1), asked or 0), 300)
        code = raised.code if isinstance(raised, StartFailed) else "internal"
        workspace.error = StartFailed(code, "", retry_after=wait)
        self._tell(workspace.requests, failure(workspace.error))

    @precondition(lambda self: self._in_flight(self.backend.stopping))
    @rule(choice=st.data())
    def stop_succeeds(self, choice: st.DataObject) -> None:
        key = self._pick(choice, self._in_flight(self.backend.stopping))
        workspace = self.model[key]
        self.backend.let_stop(key)

        self._run(settle())

        workspace.move(Event.GONE)
        self._forget(key)
        self._tell(workspace.stoppers, None)
        self._answer(key)

    @precondition(lambda self: self._in_flight(self.backend.stopping))
    @rule(choice=st.data(), error=stop_errors)
    def stop_fails(self, choice: st.DataObject, error: Callable[[], Exception] | None) -> None:
        key = self._pick(choice, self._in_flight(self.backend.stopping))
        workspace = self.model[key]
        self.backend.fail_stop(error(), key) if error else self.backend.cut_off_stop(key)

        self._run(settle())

        workspace.move(Event.STUCK if workspace.handle else Event.FAILED)
        self._tell(workspace.stoppers, (StopFailed, StopFailed.code, None))
        self._answer(key)

    @precondition(lambda self: self._contestable())
    @rule(choice=st.data(), ago=st.sampled_from([None, 0, 10, 300]))
    def reap_is_contested(self, choice: st.DataObject, ago: float | None) -> None:
        key = self._pick(choice, self._contestable())
        workspace = self.model[key]
        at = None if ago is None or self.jumps else self.clock.now() - timedelta(seconds=ago)
        self.backend.fail_stop(Contested("Newer activity is stored.", at), key)

        self._run(settle())

        workspace.move(Event.STUCK if workspace.handle else Event.FAILED)
        if at is not None and ago is not None:
            workspace.touched = max(workspace.touched, self.clock.monotonic() - ago)
        if workspace.stoppers:
            self._begin_stop(key)  # they asked for it, whatever the reap came to
        self._answer(key)

    @precondition(lambda self: self.backend.clearing)
    @rule(choice=st.data())
    def cancelled_start_ends(self, choice: st.DataObject) -> None:
        key = self._pick(choice, list(self.backend.clearing))
        self.backend.let_clear(key)

        self._run(settle())

        self.model[key].stops += 1

    @precondition(lambda self: self.backend.running)
    @rule(choice=st.data())
    def server_dies(self, choice: st.DataObject) -> None:
        key = self._pick(choice, list(self.backend.running))
        handle = self.backend.running[key]

        self.backend.die(key)

        self._lose(key, handle)

    @precondition(lambda self: self._running())
    @rule(choice=st.data())
    def connection_is_refused(self, choice: st.DataObject) -> None:
        key = self._pick(choice, self._running())
        handle = self.model[key].handle
        assert handle is not None

        self.supervisor.lost(key, handle, "connection refused")

        self._lose(key, handle)

    @precondition(lambda self: not self.jumps)
    @rule(key=keys, is_another=st.booleans(), ago=st.sampled_from([None, 0, 10, 300]))
    def somebody_started_it(self, key: Key, is_another: bool, ago: float | None) -> None:
        workspace, now = self.model[key], self.clock.monotonic()
        at = None if ago is None else self.clock.now() - timedelta(seconds=ago)
        self.backend.cluster.last_active.pop(key, None)

        handle = self.backend.replace(key, at) if is_another else self.backend.find(key, at)

        if workspace.phase is Phase.STARTING or (workspace.phase is Phase.STOPPED and self.is_closed):
            return
        if workspace.handle is not None and workspace.handle is not handle:
            self._forget(key)
        workspace.handle = handle
        if workspace.phase is Phase.STOPPED:
            workspace.move(Event.FOUND)
            workspace.touched = now - (ago or 0)
            workspace.error, workspace.failures = None, 0
        elif ago is not None:
            workspace.touched = max(workspace.touched, now - ago)

    @precondition(lambda self: not self.jumps)
    @rule(key=keys, ago=st.sampled_from([0, 10, 300]))
    def somebody_stored_activity(self, key: Key, ago: float) -> None:
        self.backend.observer.active(key, self.clock.now() - timedelta(seconds=ago))

        if self.model[key].phase not in (Phase.STOPPED, Phase.STARTING):
            self.model[key].touched = max(self.model[key].touched, self.clock.monotonic() - ago)

    @rule(key=keys)
    def somebody_is_about_to_reap_it(self, key: Key) -> None:
        workspace = self.model[key]
        self._in_loop(self.backend.observer.condemned, key)

        if workspace.phase is Phase.RUNNING:
            workspace.is_condemned = True
            if workspace.touched + IDLE_TTL >= self.clock.monotonic():
                self._pardon(workspace)

    @rule(key=keys, code=st.sampled_from(["unschedulable", "image-pull", ""]))
    def something_is_in_the_way_of_a_start(self, key: Key, code: str) -> None:
        workspace = self.model[key]
        self._in_loop(self.backend.observer.stalled, key, StartStalled(code, "") if code else None)

        if workspace.phase is Phase.STARTING:
            workspace.trouble = code
            if code:
                self._tell(workspace.requests, (StartStalled, code, 5))

    @precondition(lambda self: self.old_handles)
    @rule(choice=st.data())
    def news_comes_late(self, choice: st.DataObject) -> None:
        key, handle = choice.draw(st.sampled_from(self.old_handles))
        if self.model[key].handle is handle:
            return  # it was taken up again: the news is not old

        self.backend.report(key, handle)

    # Time

    @rule(seconds=durations, jump=st.sampled_from([0, 0, 1, -1]))
    def time_passes(self, seconds: float, jump: int) -> None:
        if self.jumps:
            self.clock.jump(timedelta(days=jump))  # of the wall clock; it must change nothing

        self._run(self.clock.advance(seconds))

        for key, workspace in self.model.items():
            overdue = [each for each in workspace.requests if each.deadline <= self.clock.monotonic()]
            workspace.requests = [each for each in workspace.requests if each not in overdue]
            self._tell(overdue, failure(StartTimeout(key.workspace_id, READY_TIMEOUT)))

    @rule(touched=st.none() | keys, errors=st.tuples(mark_errors, mark_errors))
    def reaper_ticks(self, touched: Key | None, errors: tuple[Callable[[], Exception] | None, ...]) -> None:
        broken = self.backend.broken_marks = {key: error() for key, error in zip(KEYS, errors, strict=True) if error}
        reaper = self.loop.create_task(self.supervisor.run_reaper())
        self.time_passes(REAP_INTERVAL, 0)
        due = {key for key in self._running() if key not in broken and self._is_idle(key)}
        if touched is not None:
            self.touch(touched)
        self.time_passes(REAP_GRACE, 0)
        reaper.cancel()
        self._run(settle())

        assert reaper.cancelled()
        for key in due:
            if key == touched:
                self._pardon(self.model[key])
            else:
                self._begin_stop(key)
                self.model[key].is_reaped = True
                assert key in self.backend.stopping

    @precondition(lambda self: not self.is_closed and sum(self.backend.starts.values()) > 5)  # not all too soon
    @rule()
    def close(self) -> None:
        self._run(self._close())
        self.is_closed = True

        for workspace in self.model.values():
            if workspace.phase is not Phase.RUNNING:
                self._tell(workspace.requests, failure(ShuttingDown()))
                self._tell(workspace.stoppers, failure(ShuttingDown()))

    # What always holds

    @invariant()
    def supervisor_is_where_the_model_says(self) -> None:
        now = self.clock.monotonic()
        tracked = {key: each for key, each in self.model.items() if each.phase is not Phase.STOPPED}
        assert self.supervisor.phases() == {key: each.phase for key, each in tracked.items()}
        for key in KEYS:
            idle = timedelta(seconds=now - self.model[key].touched)
            assert self.supervisor.last_active(key) == (self.clock.now() - idle if key in tracked else None)

    @invariant()
    def backend_was_asked_for_what_the_model_says(self) -> None:
        assert self.backend.violations == []
        for key, workspace in self.model.items():
            assert (self.backend.starts[key], self.backend.stops[key]) == (workspace.starts, workspace.stops)
            if not self.backend.broken_stores:
                pardons = sum(is_pardon for asked, _, is_pardon in self.backend.stored if asked == key)
                assert pardons == workspace.pardons
            if not self.is_closed:
                assert (key in self.backend.starting and key not in self.backend.clearing) is (
                    workspace.phase is Phase.STARTING
                )
                assert (key in self.backend.stopping or key in self.backend.clearing) is (
                    workspace.phase is Phase.STOPPING
                )

    @invariant()
    def what_is_tracked_as_running_is_what_the_backend_gave_last(self) -> None:
        for key, workspace in self.model.items():
            if workspace.phase is Phase.RUNNING:
                assert workspace.handle is self.backend.given[key] is self.backend.running[key]

    @invariant()
    def those_and_only_those_wait_who_must(self) -> None:
        for callers, caller in self._waiting():
            assert not caller.task.done(), callers

    @invariant()
    def no_task_is_left_over(self) -> None:
        expected = len(self._waiting()) + sum(len(each.requests) for each in self.model.values())  # and their timers
        expected += len(self.backend.starting) + len(self.backend.stopping)
        expected += len(self.backend.clearing)  # stops that wait for the end of the start which they cancelled
        writes = [task for task in asyncio.all_tasks(self.loop) if task.get_name().startswith("store ")]
        assert len(asyncio.all_tasks(self.loop)) - len(writes) == expected
        assert len(writes) <= (len(self.backend.stored) if self.backend.broken_stores else 0)  # pardons, tried again
        assert self.stage.complaints == []

    def teardown(self) -> None:
        if not hasattr(self, "stage"):
            return
        try:
            waiting = self._waiting()
            self._run(self._close())
            assert asyncio.all_tasks(self.loop) == set()
            for _, caller in waiting:
                assert caller.task.exception() is not None
            gc.collect(0)
            assert self.stage.complaints == []
        finally:
            self.loop.close()

    # The model

    def _answer(self, key: Key) -> None:
        """Give those who ask for a workspace what they must get now; who is left over must wait."""
        workspace, now = self.model[key], self.clock.monotonic()
        if not workspace.requests:
            return
        if workspace.phase is Phase.RUNNING:
            self._touch(key)
            self._tell(workspace.requests, workspace.handle)
        elif self.is_closed:
            self._tell(workspace.requests, failure(ShuttingDown()))
        elif workspace.phase is Phase.STOPPED and (refusal := self._refusal(workspace)):
            self._tell(workspace.requests, refusal)
        elif workspace.phase is not Phase.STOPPING:
            workspace.touched = now
            if workspace.phase is Phase.STOPPED:
                workspace.move(Event.WAKE)
                workspace.starts += 1
            if workspace.trouble:
                self._tell(workspace.requests, (StartStalled, workspace.trouble, 5))

    def _touch(self, key: Key) -> None:
        workspace = self.model[key]
        workspace.touched = self.clock.monotonic()
        if workspace.phase is Phase.RUNNING and workspace.is_condemned:
            self._pardon(workspace)

    def _pardon(self, workspace: Workspace) -> None:
        workspace.is_condemned = False
        workspace.pardons += not self.is_closed

    def _is_idle(self, key: Key) -> bool:
        """Tell whether it must be reaped; where others' activity may spare it, ask whether it is."""
        idle: float = self.clock.monotonic() - self.model[key].touched
        if IDLE_TTL < idle <= IDLE_TTL + QUARTER and not self.jumps:
            return key in self.backend.cluster.marks
        return idle > IDLE_TTL

    def _refusal(self, workspace: Workspace) -> Outcome:
        if workspace.error is None:
            return None
        assert workspace.error.retry_after is not None
        remaining = workspace.failed_at + workspace.error.retry_after - self.clock.monotonic()
        return (StartFailed, workspace.error.code, math.ceil(remaining)) if remaining > 0 else None

    def _begin_stop(self, key: Key) -> None:
        workspace = self.model[key]
        if workspace.phase is Phase.STOPPED:
            workspace.touched = self.clock.monotonic()
        if workspace.phase is Phase.STARTING:
            self._tell(workspace.requests, (StartFailed, "stopped", 1))
        if key not in self.backend.clearing:
            workspace.stops += 1
        workspace.is_reaped = False
        workspace.move(Event.STOP)

    def _lose(self, key: Key, handle: Handle) -> None:
        workspace = self.model[key]
        if workspace.handle is handle:
            self._forget(key)
            if workspace.phase is Phase.RUNNING:
                workspace.move(Event.LOST)

    def _forget(self, key: Key) -> None:
        handle, self.model[key].handle = self.model[key].handle, None
        if handle is not None:
            self.old_handles.append((key, handle))

    def _tell(self, callers: list[Caller], outcome: Outcome) -> None:
        """See that each got this outcome, and no longer count it as waiting."""
        for caller in callers:
            assert caller.task.done()
            error = caller.task.exception()
            if isinstance(error, ProxyError):
                assert failure(error) == outcome
            else:
                assert error is None
                assert caller.task.result() is outcome
        callers.clear()

    # The machinery

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def _in_loop(self, call: Callable[..., None], *args: Any) -> None:
        async def make() -> None:
            call(*args)
            await settle()

        self._run(make())

    async def _set_stage(self) -> Stage:
        config = Config(
            ready_timeout=timedelta(seconds=READY_TIMEOUT),
            idle_ttl=timedelta(seconds=IDLE_TTL),
            reap_interval=timedelta(seconds=REAP_INTERVAL),
            reap_grace=timedelta(seconds=REAP_GRACE),
        )
        return Stage(config, FakeClock(), FakeBackend(FakeCluster()), logger=SILENT)

    async def _close(self) -> None:
        closing = asyncio.create_task(self.supervisor.close())
        await settle()
        for key in list(self.backend.clearing):
            self.backend.let_clear(key)
        await settle()
        assert closing.done()

    def _callers(
        self, count: int, call: Callable[[], Coroutine[Any, Any, Any]], deadline: float = math.inf
    ) -> list[Caller]:
        callers = [Caller(self.loop.create_task(call()), deadline) for _ in range(count)]
        self._run(settle())
        return callers

    def _waiting(self) -> list[tuple[list[Caller], Caller]]:
        both = [callers for each in self.model.values() for callers in (each.requests, each.stoppers)]
        return [(callers, caller) for callers in both for caller in callers]

    def _running(self) -> list[Key]:
        return [key for key, workspace in self.model.items() if workspace.phase is Phase.RUNNING]

    def _in_flight(self, work: dict[Key, Any]) -> list[Key]:
        return [key for key in work if key not in self.backend.clearing]

    def _contestable(self) -> list[Key]:
        """Return what is being reaped, unless it would be chance whether a request or a stop is first thereafter."""
        in_flight = [key for key in self._in_flight(self.backend.stopping) if self.model[key].is_reaped]
        return [key for key in in_flight if not (self.model[key].requests and self.model[key].stoppers)]

    def _pick(self, choice: st.DataObject, among: list[Key]) -> Key:
        return choice.draw(st.sampled_from(sorted(among, key=KEYS.index)))


def test_supervisor_does_what_the_table_says_and_nothing_else() -> None:
    seen.clear()

    run_state_machine_as_test(SupervisorMachine, settings=SETTINGS)

    assert seen == set(TRANSITIONS)  # every line of the table was reached
