"""What a user sees of workspaces: the supervisor's reports, as values of pages, as JSON and as feeds of events.

Nothing here touches, wakes or changes anything. Lists show what is a user's without asking anybody.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import InvalidKey
from proxy.pages.status import status_of
from proxy.pages.view import view_of
from proxy.report import Report
from proxy.workspace import Key, Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.auth.access import Access
    from proxy.auth.user import User
    from proxy.clock import Clock
    from proxy.in_flight import InFlight
    from proxy.pages.view import View
    from proxy.supervisor import Supervisor

ROWS: Final = 200
"""Workspaces on one page, at most."""


class Sight:
    """Looks at workspaces. One per gateway.

    Args:
        supervisor: reports.
        in_flight: counts connections.
        clock: its wall clock is what seconds are counted from.
        key_of: the key of a workspace's id.
        access: knows what is whose.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        in_flight: InFlight,
        clock: Clock,
        key_of: Callable[[str], Key],
        access: Access,
    ) -> None:
        self.supervisor = supervisor
        self.key_of = key_of
        self.access = access
        self._in_flight = in_flight
        self._clock = clock

    def report(self, key: Key) -> Report:
        """Return what is known of a workspace; every id that is allowed names one, which may never have run."""
        found = self.supervisor.report(key)
        return Report(key=key, version=0, phase=Phase.STOPPED, since=None) if found is None else found

    def known(self, user: User) -> list[Key]:
        """Return what a user is shown, by id: what is theirs by name, and of what runs or is remembered what is theirs.

        Only what a request could reach.
        """
        ids, matches = self.access.theirs(user)
        named = [key for key in self.supervisor.known() if matches(key.workspace_id)]
        found = {key for key in named if self.key_of(key.workspace_id) == key}
        for workspace_id in ids:
            with suppress(InvalidKey):  # of the namespace that it would have
                found.add(self.key_of(workspace_id))
        return sorted(found, key=lambda key: key.workspace_id)

    def rows(self, user: User) -> tuple[list[Report], str]:
        """Return those that a page of a user's has room for, by id, and how many there are in words.

        What runs, starts or stops comes before what does not. Only what is shown is looked at: all of ten thousand
        would take the loop a quarter of a second.
        """
        known, phases = self.known(user), self.supervisor.phases()
        shown = known
        if len(known) > ROWS:
            shown = sorted(sorted(known, key=lambda key: key not in phases)[:ROWS], key=lambda key: key.workspace_id)
        running = sum(phases.get(key) is Phase.RUNNING for key in known)
        return [self.report(key) for key in shown], _summary(len(known), running, len(shown))

    def view(self, report: Report, user: User, *, to: str = "", is_row: bool = False) -> View:
        """Return what a page shows a user of it; see `view_of`."""
        return view_of(
            report,
            self._clock.now(),
            connections=self.connections(report),
            to=to,
            is_row=is_row,
            may_enter=self.access.may_enter(user, report.key.workspace_id),
        )

    def status(self, report: Report) -> dict[str, Any]:
        """Return what a program is told of it."""
        return status_of(report, self._clock.now(), connections=self.connections(report))

    def connections(self, report: Report) -> int:
        """Return how many requests and websockets this replica carries for it."""
        return self._in_flight.connections(report.key)


class WorkspaceFeed:
    """News of one workspace.

    Args:
        sight: looks.
        key: at which.
        user: who is told.
        to: the path that somebody waits for, if they do.
    """

    gap = 0.0

    def __init__(self, sight: Sight, key: Key, user: User, to: str) -> None:
        self._sight = sight
        self._user = user
        self._key = key
        self._to = to
        self._version = sight.report(key).version

    def look(self) -> str:
        """Return its view."""
        report = self._sight.report(self._key)
        return json.dumps(self._sight.view(report, self._user, to=self._to))

    async def goes_on(self) -> bool:
        """Tell whether its user may still be told."""
        return await self._sight.access.may_look_on(self._user, self._key.workspace_id)

    async def changed(self) -> None:
        """Return when it has changed since."""
        self._version = await self._sight.supervisor.changed(self._key, self._version)


class DashboardFeed:
    """News of all workspaces of a user's: those that are new or look different, and those that are gone.

    Args:
        sight: looks.
        user: who is told.
    """

    gap = 1.0

    def __init__(self, sight: Sight, user: User) -> None:
        self._sight = sight
        self._user = user
        self._version = 0
        self._said: dict[str, tuple[object, ...]] = {}
        self._has_looked = False

    def look(self) -> str:
        """Return what is new since the last look; the first time, everything that there is (`is_all`)."""
        shown, summary = self._sight.rows(self._user)
        looks = {report.key.workspace_id: _look_of(report, self._sight.connections(report)) for report in shown}
        news = [report for report in shown if self._said.get(name := report.key.workspace_id) != looks[name]]
        gone = [name for name in self._said if name not in looks]
        is_all, self._said, self._has_looked = not self._has_looked, looks, True
        views = [self._sight.view(report, self._user, is_row=True) for report in news]
        return json.dumps({"views": views, "gone": gone, "summary": summary, "is_all": is_all})

    async def goes_on(self) -> bool:
        """Tell whether its user may still be told."""
        return not self._sight.access.has_expired(self._user)

    async def changed(self) -> None:
        """Return when anything has changed since."""
        self._version = await self._sight.supervisor.changed(None, self._version)


def _look_of(report: Report, connections: int) -> tuple[object, ...]:
    """Return what has to differ for a row to be sent again; a moment's last digit comes from reading two clocks."""
    moments = (report.last_active, report.due_at)
    rounded = (None if moment is None else round(moment.timestamp(), 1) for moment in moments)
    return report.version, connections, report.why, report.is_warned, *rounded


def _summary(count: int, running: int, shown: int) -> str:
    if not count:
        return ""
    workspaces = "1 workspace" if count == 1 else f"{count} workspaces"
    more = f"; {shown} of them are shown" if shown < count else ""
    return f"{workspaces}, {running} running{more}"
