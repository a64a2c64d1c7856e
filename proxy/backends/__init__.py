"""What the supervisor asks of whatever starts and stops notebook servers, and what it is told.

A backend keeps no idle times and takes no decisions: it starts what it is told to, stops what it is told to, and
reports what happened without being told. It never calls a higher layer but through `Observer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from proxy.errors import StartStalled
    from proxy.notes import Notes
    from proxy.report import Progress
    from proxy.workspace import Handle, Key

LOG_BYTES: Final = 256 * 1024
"""As much of a log as is ever read at once."""
Mark: TypeAlias = object
"""What `Backend.mark` wrote, for `Backend.stop` to insist on; opaque to everyone else."""


class Observer(Protocol):
    """Learns what happened that nobody here asked for. Called in the event loop; never awaits, never raises."""

    def lost(self, key: Key, handle: Handle, reason: str) -> None:
        """Learn that the server behind this handle ended, or is no longer where it was."""

    def found(self, key: Key, handle: Handle, last_active: datetime | None, started: datetime | None = None) -> None:
        """Learn that a server runs which was not started here; it was last used and made then, as far as is stored."""

    def active(self, key: Key, at: datetime) -> None:
        """Learn that somebody else stored this activity."""

    def extended(self, key: Key, until: datetime) -> None:
        """Learn that somebody gave it this much time; none of it is taken back."""

    def noted(self, key: Key, notes: Notes | None) -> None:
        """Learn what is stored of a workspace, running or not, at first and whenever that changes; None: no more."""

    def profiled(self, key: Key, profile: str) -> None:
        """Learn with which profile the server was made that starts or runs; empty for none."""

    def condemned(self, key: Key) -> None:
        """Learn that somebody is about to reap it, unless newer activity is stored."""

    def stalled(self, key: Key, trouble: StartStalled | None) -> None:
        """Learn that something is in the way of a start, which goes on; None when it is out of the way."""

    def progress(self, key: Key, progress: Progress) -> None:
        """Learn how far a start has come."""


class Backend(Protocol):
    """Starts and stops notebook servers. One per process; its methods are called in one event loop."""

    def observe(self, observer: Observer) -> None:
        """Name the one who is told; before `open`."""

    async def open(self) -> None:
        """Get ready: what runs already is reported as found. Returns when that is known, or cannot be known yet."""

    def running_for(self, user: str) -> Collection[Key]:
        """Return the workspaces that start or run for a user, as far as is seen; those started here need not be."""
        ...

    async def start(self, key: Key, user: str = "") -> Handle:
        """Return the handle of a notebook server that answers HTTP now, starting it if it is not there.

        Never called twice at once for one key, nor while `stop` runs for it. When cancelled, what is half done may
        stay: a `stop` follows and clears it.

        Args:
            key: which.
            user: for whom, if that is known.

        Raises:
            StartFailed: it cannot become ready; nothing of it is left running.
        """
        ...

    async def stop(self, key: Key, mark: Mark | None = None) -> None:
        """Stop the notebook server and return when it is gone; already gone is success. Files stay.

        Args:
            key: which.
            mark: of `mark`; then only if nothing newer has been stored since.

        Raises:
            Contested: newer activity is stored; it was not stopped.
            StopFailed: it may still be running.
        """

    async def mark(self, key: Key, last_active: datetime) -> Mark | None:
        """Announce that it is about to be reaped, so that others can object within `reap_grace`.

        Returns:
            What `stop` is to insist on; None where there are no others.

        Raises:
            Contested: newer activity is stored, or somebody else is about to reap it.
            StopFailed: nothing could be announced; whether it runs is not known.
        """

    async def store(self, key: Key, last_active: datetime, *, pardon: bool = False) -> None:
        """Store when it was last used, if that is newer than what is stored; never raises for what is gone.

        Args:
            key: which.
            last_active: UTC.
            pardon: also withdraw a mark, whoever made it.

        Raises:
            StopFailed: it could not be stored.
        """

    async def extend(self, key: Key, until: datetime) -> None:
        """Store until when it is not to be stopped for being idle, if that is later than what is stored.

        Raises:
            StopFailed: it could not be stored.
        """

    async def note(self, key: Key, changes: Mapping[str, str | None]) -> None:
        """Keep notes of a workspace where they outlive its notebook servers (see `proxy.notes`); None removes one.

        Raises:
            NotKept: nothing was stored.
        """

    async def log(self, key: Key, lines: int) -> str:
        """Return the last lines that its notebook server has written, without its token; at most `LOG_BYTES` of them.

        Raises:
            NoLog: there is none.
            BackendUnavailable: it cannot be read just now.
        """
        ...

    async def close(self) -> None:
        """Let go of everything this process owns; what must not outlive the process is stopped."""
