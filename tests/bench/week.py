"""A simulated week: what scale to zero saves, and that it costs nobody's work.

    python -m tests.bench.week [--workspaces 200] [--days 7] [--seed 4] [--every 60]

The supervisor, the reaper and the table of activity are the real ones; the clock, the notebook servers and the people
are not. What each page and kernel connection sends was recorded from JupyterLab (`tests/jupyterlab`).
"""

from __future__ import annotations

import argparse
import asyncio
import heapq
import itertools
import json
import logging
import math
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final, Literal

from proxy.activity import Activity, Sender, Wake, sender_of
from proxy.backends.kernels import Work
from proxy.config import Config
from proxy.supervisor import Supervisor
from proxy.use import Use
from proxy.workspace import Key
from tests.jupyterlab import Line, recording
from tests.supervisor.fakes import FakeBackend, FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable

    from proxy.relay.tunnel import Frames
    from proxy.workspace import Handle

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
IDLE_TTL: Final = 2 * HOUR  # as deploy/ sets it
REAP_INTERVAL: Final = 300.0
AUTOSAVE: Final = 120.0  # JupyterLab's default
BREAKS_A_DAY: Final = 8  # how often a tab's connections break and come back
SLACK: Final = 1e-6  # of a clock that adds up seconds as floating-point numbers


# What was recorded ----------------------------------------------------------------------------------------------------


def _cut(phase: str, begin: float = 0, end: float = 1e9) -> tuple[Line, ...]:
    return tuple(line for line in recording() if line.phase == phase and begin <= line.at < end)


CYCLE: Final = _cut("idle-visible", 47, 57)  # ten seconds of an untouched tab, a ping among them
OPENING: Final = _cut("open")
NOTEBOOK: Final = _cut("new-notebook")  # a notebook and a kernel, and what the page asks of it by itself
CELL: Final = _cut("run-cell")
SAVE: Final = tuple(line for line in _cut("idle-hidden", 130, 130.2) if "Untitled" in line.path)
KERNEL: Final = next(line for line in NOTEBOOK if line.kind == "ws-open")
EVENTS: Final = next(line for line in OPENING if line.kind == "ws-open")
FIRST_WORDS: Final = tuple(line for line in NOTEBOOK if line.kind == "ws-frame" and line.path == KERNEL.path)


# Notebook servers -----------------------------------------------------------------------------------------------------


class Servers(FakeBackend):
    """Notebook servers that note for how long they ran, and judge each stop."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.since: dict[Key, float] = {}
        self.first: dict[Key, float] = {}
        self.seconds = 0.0
        self.stopped: Callable[[Key], None] = lambda _: None

    async def start(self, key: Key, user: str = "") -> Handle:
        handle = await super().start(key, user)
        self.since[key] = self.clock.monotonic()
        self.first.setdefault(key, self.since[key])
        return handle

    async def stop(self, key: Key, mark: object = None) -> None:
        await super().stop(key, mark)
        self.seconds += self.clock.monotonic() - self.since.pop(key)
        self.stopped(key)


# People ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """One sitting: what somebody does, and how it ends. Decided beforehand, so that it is the same in every run."""

    begin: float
    acts: tuple[tuple[float, bool], ...]  # when; whether a cell is run, or the document saved
    end: float
    saves_first: bool  # where the server was stopped under an open tab, before the page is loaded anew
    leaves: str  # what becomes of the tab: close, sleep (the laptop does), stay
    job: float  # seconds that a cell computes which is run at the end; 0: there is none
    sleeps: float  # seconds after which the laptop is opened for something else; 0: not before the next sitting


@dataclass
class Person:
    """Somebody with a workspace, a laptop, and habits."""

    key: Key
    is_open: bool = False  # the tab is
    is_awake: bool = True  # the laptop is
    events: Frames | None = None
    kernel: Frames | None = None  # the tab's connection to it
    acted: float = 0.0  # when the last act of a person began
    done: float = 0.0  # and when the last of what it caused had come: an answer, an autosave
    job_ends: float = 0.0
    kernel_active: float | None = None  # None: no kernel runs


def sessions(random: Random, days: int) -> list[Session]:
    """Decide when somebody works, in seconds since midnight of the first day, a Monday."""
    found = []
    for day in range(days):
        if random.random() >= (0.75 if day % 7 < 5 else 0.1):
            continue
        begin = day * DAY + random.uniform(8, 11) * HOUR
        for _ in range(random.randint(1, 3)):
            end = begin + random.uniform(0.3, 2.5) * HOUR
            acts, moment = [], begin
            while (moment := moment + random.uniform(1, 12) * 60) < end:
                acts.append((moment, random.random() < 0.7))
            found.append(
                Session(
                    begin,
                    tuple(acts),
                    end,
                    saves_first=random.random() < 0.5,
                    leaves=random.choices(("close", "sleep", "stay"), (3, 3, 4))[0],
                    job=random.uniform(1, 14) * HOUR if random.random() < 0.25 else 0,
                    sleeps=random.uniform(1, 6) * HOUR if random.random() < 0.4 else 0,
                )
            )
            begin = end + random.uniform(0.5, 3) * HOUR
    return found


@dataclass
class Week:
    """What came of it."""

    name: str
    hours: float = 0.0  # in which a notebook server ran, over all workspaces
    hours_without_reaper: float = 0.0
    starts: int = 0
    stops: int = 0
    jobs: int = 0
    acts: int = 0
    passed: int = 0  # requests and frames
    refused: int = 0  # of those, requests of a page that woke nothing
    killed: list[str] = field(default_factory=list)  # jobs
    too_early: list[str] = field(default_factory=list)  # stopped within `idle_ttl` of the last real use
    too_late: list[str] = field(default_factory=list)  # alive for more than `idle_ttl` and a tick after it


class Simulation:
    """Lets people work for some days.

    Args:
        config: `activity`, `wake`, `protect_busy`; times are this module's.
        people: how many.
        days: how long.
        seed: of everything that is left to chance; the people do the same whatever the settings.
        every: seconds from one cycle of a tab to the next. JupyterLab sends one each ten seconds; since each is judged
            alike, most may be left out.
    """

    def __init__(self, config: Config, *, people: int, days: float, seed: int, every: float) -> None:
        self.clock = FakeClock()
        self.began = self.clock.monotonic()
        self.end = self.began + days * DAY
        self.days = days
        self.every = every
        self.servers = Servers(self.clock)
        self.servers.now = self.clock.now
        self.servers.stopped = self.judge_stop
        self.people = {(key := Key(f"person-{number}", "default")): Person(key) for number in range(people)}
        self.seed = seed
        log = logging.getLogger("tests.bench.week")
        self.supervisor = Supervisor(self.servers, config, log, clock=self.clock, ask=self.answer)
        self.activity = Activity(config.activity, config.activity_rules)
        self.wake = Wake(config.wake, self.activity)
        self.week = Week(f"activity: {config.activity}, wake: {config.wake}")
        self._agenda: list[tuple[float, int, Callable[[], Coroutine[Any, Any, None]]]] = []
        self._order = itertools.count()

    async def run(self) -> Week:
        """Live through it; return what came of it."""
        reaper = asyncio.create_task(self.supervisor.run_reaper())
        for person in self.people.values():
            self._plan(person)
        self.at(self.began, self._all_tabs)
        while self._agenda:
            moment, _, work = heapq.heappop(self._agenda)
            if moment > self.end:
                break
            await self._go_on_to(moment)
            await work()
        await self._go_on_to(self.end)
        for key in self.servers.running:
            self.judge_late(key)
            self.servers.seconds += self.end - self.servers.since[key]
        reaper.cancel()
        await asyncio.gather(reaper, return_exceptions=True)
        await self.supervisor.close()
        assert not self.servers.violations, self.servers.violations
        self.week.starts = sum(self.servers.starts.values())
        self.week.hours = self.servers.seconds / HOUR
        self.week.hours_without_reaper = sum(self.end - first for first in self.servers.first.values()) / HOUR
        return self.week

    def at(self, moment: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Let something happen then."""
        heapq.heappush(self._agenda, (moment, next(self._order), work))

    async def _go_on_to(self, moment: float) -> None:
        if moment > self.clock.monotonic():
            await self.clock.advance(moment - self.clock.monotonic())

    # What is asserted -------------------------------------------------------------------------------------------------

    def judge_stop(self, key: Key) -> None:
        """Look whether somebody's work was lost, or the server ran for too long."""
        person, now = self.people[key], self.clock.monotonic()
        self.week.stops += 1
        if now < person.job_ends:
            self.week.killed.append(f"{key.workspace_id}: a job that had {(person.job_ends - now) / HOUR:.1f} h to go")
            person.job_ends = now
        elif now + SLACK < person.acted + IDLE_TTL:
            self.week.too_early.append(f"{key.workspace_id}: {now - person.acted:.0f} s after its last use")
        self.judge_late(key)
        person.events = person.kernel = person.kernel_active = None

    def judge_late(self, key: Key) -> None:
        """Look whether a server that runs, or just did, ran for too long."""
        person, now = self.people[key], self.clock.monotonic()
        unused = now - max(person.done, person.job_ends)
        if unused > IDLE_TTL + REAP_INTERVAL + SLACK:
            self.week.too_late.append(f"{key.workspace_id}: {unused / HOUR:.2f} h after its last use")

    async def answer(self, key: Key, _: Handle) -> Work:
        """Be the notebook server that is asked what its kernels do."""
        person = self.people[key]
        if person.kernel_active is None:
            return Work()
        is_busy = self.clock.monotonic() < person.job_ends
        return Work(int(is_busy), self._wall(max(person.kernel_active, person.job_ends)), "kernel")

    def _wall(self, moment: float) -> datetime:
        return self.clock.now() + timedelta(seconds=min(moment - self.clock.monotonic(), 0))

    # What people do ---------------------------------------------------------------------------------------------------

    def _plan(self, person: Person) -> None:
        """Put what somebody will do, and when the network breaks, on the agenda."""
        random = Random(f"{self.seed} {person.key.workspace_id}")
        for session in sessions(random, math.ceil(self.days)):
            self.at(self.began + session.begin, lambda session=session: self._work(person, session))  # type: ignore[misc]
        for _ in range(int(BREAKS_A_DAY * self.days)):
            self.at(self.began + random.uniform(0, self.days) * DAY, lambda: self._break(person))

    async def _work(self, person: Person, session: Session) -> None:
        """Sit down, do something every few minutes, and leave."""
        is_stopped = self.supervisor.running(person.key) is None
        person.is_awake = True
        if not person.is_open or is_stopped or person.kernel_active is None:
            self._begin_act(person)
            if person.is_open and is_stopped and session.saves_first:
                await self._replay(person, SAVE)
            await self._open(person)
        else:
            if person.kernel is None:
                await self._reconnect(person)
            await self._act(person, is_cell=True)
        for moment, is_cell in session.acts:
            self.at(self.began + moment, lambda is_cell=is_cell: self._act(person, is_cell=is_cell))  # type: ignore[misc]
        self.at(self.began + session.end, lambda: self._leave(person, session))

    async def _leave(self, person: Person, session: Session) -> None:
        """Begin a job, perhaps; close the tab, shut the laptop with the tab open, or go home and leave both on."""
        if session.job and person.kernel is not None:
            self.week.jobs += 1
            await self._act(person, is_cell=True)
            person.job_ends = self.clock.monotonic() + session.job
        if session.leaves != "stay":
            person.is_open = session.leaves == "sleep"
            person.is_awake = session.leaves == "close"
            person.events = person.kernel = None
        if session.leaves == "sleep" and session.sleeps:
            self.at(self.clock.monotonic() + session.sleeps, lambda: self._wake_up(person))

    async def _open(self, person: Person) -> None:
        """Navigate: the page loads, shows a notebook and connects to its kernel."""
        person.is_open = True
        person.events = person.kernel = None
        await self._replay(person, OPENING + NOTEBOOK)
        person.kernel_active = person.done = self.clock.monotonic()

    async def _act(self, person: Person, *, is_cell: bool) -> None:
        """Run a cell, or save; what a cell changes is saved by itself a little later."""
        self._begin_act(person)
        await self._replay(person, CELL if is_cell else SAVE)
        person.done = self.clock.monotonic()
        if is_cell:
            person.kernel_active = person.done
            self.at(person.done + AUTOSAVE, lambda: self._autosave(person))

    async def _autosave(self, person: Person) -> None:
        if person.is_open and person.is_awake:
            await self._replay(person, SAVE)
            person.done = self.clock.monotonic()

    def _begin_act(self, person: Person) -> None:
        self.week.acts += 1
        person.acted = person.done = self.clock.monotonic()

    async def _wake_up(self, person: Person) -> None:
        if not person.is_awake:
            person.is_awake = True
            await self._reconnect(person)

    # What pages do by themselves --------------------------------------------------------------------------------------

    async def _all_tabs(self) -> None:
        """Let each open tab send what an untouched one sends in ten seconds, all at the same moment."""
        for person in self.people.values():
            if person.is_open and person.is_awake:
                for line in CYCLE:
                    await self._pass(person, line)
        self.at(self.clock.monotonic() + self.every, self._all_tabs)

    async def _break(self, person: Person) -> None:
        """Lose the tab's connections, and find them again."""
        if person.is_open and person.is_awake:
            person.events = person.kernel = None
            await self._reconnect(person)

    async def _reconnect(self, person: Person) -> None:
        """Let a page open its websockets again, and ask by itself what it asks a kernel."""
        await self._pass(person, EVENTS)
        if person.kernel_active is not None:
            await self._replay(person, (KERNEL, *FIRST_WORDS))

    # What passes the proxy --------------------------------------------------------------------------------------------

    async def _replay(self, person: Person, lines: Iterable[Line]) -> None:
        """Send a piece of the recording with its own pauses. Nothing else happens meanwhile, but for the reaper."""
        last = None
        for line in lines:
            if last is not None and line.at > last:
                await self.clock.advance(line.at - last)
            last = line.at
            await self._pass(person, line)

    async def _pass(self, person: Person, line: Line) -> None:
        """Do what the gateway does with one request or frame."""
        if line.kind == "ws-frame":
            frames = person.events if line.path == EVENTS.path else person.kernel
            if frames is not None:
                self.week.passed += 1
                (frames.from_client if line.is_from_client else frames.from_notebook)(line.has_data)
        elif line.kind != "ws-close":
            await self._request(person, line)

    async def _request(self, person: Person, line: Line) -> None:
        key, is_websocket = person.key, line.kind == "ws-open"
        base = f"/ws/{key.workspace_id}/"
        self.week.passed += 1
        if self.supervisor.running(key) is None:
            headers = line.headers
            if not self.wake.is_meant(
                line.method, line.path, line.query, headers, base=base, is_websocket=is_websocket
            ):
                self.week.refused += 1
                return
            await self.supervisor.ensure_running(key)
        use = Use(
            self.supervisor,
            key,
            line.method,
            base + line.path,
            self.activity.judge(line.method, line.path, line.query, is_websocket=is_websocket),
            is_page=sender_of(line.headers, base) is not Sender.PROGRAM,
            is_everything=self.activity.is_traffic,
            clock=self.clock,
        )
        use.touch()
        if is_websocket and line.path == EVENTS.path:
            person.events = use.open_frames()
        elif is_websocket:
            person.kernel = use.open_frames()


async def simulate(
    *,
    activity: Literal["traffic", "interactive"] = "interactive",
    wake: Literal["any", "intent"] = "intent",
    people: int = 200,
    days: float = 7,
    seed: int = 4,
    every: float = 60,
    protect_busy: bool = True,
    activity_rules: str = "",
) -> Week:
    """Live through some days with these settings."""
    config = Config(
        activity=activity,
        activity_rules=activity_rules,
        wake=wake,
        idle_ttl=timedelta(seconds=IDLE_TTL),
        reap_interval=timedelta(seconds=REAP_INTERVAL),
        protect_busy=protect_busy,
    )
    return await Simulation(config, people=people, days=days, seed=seed, every=every).run()


def _figures(week: Week) -> dict[str, Any]:
    """Return what came of a week as numbers."""
    return {name: len(value) if isinstance(value, list) else value for name, value in vars(week).items()}


def _row(name: str, hours: float, all_hours: float, starts: int) -> str:
    return f"| {name} | {hours:,.0f} | {hours / all_hours:.0%} | {all_hours - hours:,.0f} | {starts} |"


def main() -> int:
    """Print what the recommended settings save; 1 if they cost somebody's work, or kept what nobody used."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspaces", type=int, default=200)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--every", type=float, default=60, help="seconds between what a tab sends by itself")
    given = parser.parse_args()
    settings: dict[str, Any] = {
        "people": given.workspaces, "days": given.days, "seed": given.seed, "every": given.every,
    }  # fmt: skip
    began = time.monotonic()
    quiet = asyncio.run(simulate(**settings))
    traffic = asyncio.run(simulate(activity="traffic", wake="any", **settings))
    print(
        f"{given.workspaces} workspaces, {given.days:g} days, idle_ttl {IDLE_TTL / HOUR:g} h: "
        f"{quiet.acts} acts of people, {quiet.jobs} jobs of 1 to 14 hours, {quiet.passed:,} requests and frames.\n"
    )
    everything = quiet.hours_without_reaper
    print("| settings | server hours | of all | saved | starts |\n| --- | --- | --- | --- | --- |")
    print(_row("no reaper", everything, everything, given.workspaces))
    print(_row(traffic.name, traffic.hours, everything, traffic.starts))
    print(_row(quiet.name, quiet.hours, everything, quiet.starts))
    wrong = quiet.killed + traffic.killed + quiet.too_early + quiet.too_late
    print(f"\nJobs killed: {len(quiet.killed + traffic.killed)}. Stopped too early: {len(quiet.too_early)}.", end=" ")
    print(f"Alive too long: {len(quiet.too_late)} ({len(traffic.too_late)} with activity: traffic).", end=" ")
    print(f"Refused to pages: {quiet.refused:,}. It took {time.monotonic() - began:.0f} s.")
    figures = {name: _figures(week) for name, week in (("interactive", quiet), ("traffic", traffic))}
    print(json.dumps(figures | settings))
    for sentence in wrong[:10]:
        print(sentence, file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
