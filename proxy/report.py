"""What can be told of a workspace: to people, to programs and to the log.

Pure: snapshots that nobody changes. Moments are of the wall clock (UTC); what is compared is measured elsewhere, by the
monotonic clock. What only one replica knows is said where it stands.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.workspace_settings import NO_SETTINGS, WorkspaceSettings

if TYPE_CHECKING:
    from datetime import datetime

    from proxy.workspace import Key, Phase


class Step(enum.StrEnum):
    """How far a start has come."""

    QUEUED = "queued"
    """As many others start as may at once."""
    PREPARING = "preparing"
    """What it needs is made, or a node is looked for."""
    SCHEDULED = "scheduled"
    """A node has it."""
    PULLING = "pulling"
    """The node fetches the image."""
    CREATING = "creating"
    """Its container is made."""
    STARTING = "starting"
    """The process runs, and does not answer yet."""
    ANSWERING = "answering"
    """It answers; the last checks are made."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a start is.

    Args:
        step: for programs.
        words: one sentence for people, without an elapsed time.
        since: when the step began; a backend that does not know leaves that to the supervisor.
    """

    step: Step
    words: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Trouble:
    """What is in the way of a start that goes on, or why the last one failed.

    Args:
        code: for programs.
        message: for people: what it is and what to do.
        at: when.
        detail: the last lines of the notebook server's log, if there are any.
        retry_at: the moment from which another try is allowed; None while the start goes on.
    """

    code: str
    message: str
    at: datetime
    detail: str = ""
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """Something that a workspace's users, pages or kernels did.

    Args:
        what: a request line without its query, or words such as `kernel busy`.
        at: when it was seen last.
    """

    what: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Happening:
    """A change in a workspace's life.

    Args:
        at: when.
        what: one word: `starting`, `running`, `failed`, `stopping`, `stopped`, `stuck`, `found`, `lost`, `stalled`,
            `extended`, `settings`.
        reason: for people.
    """

    at: datetime
    what: str
    reason: str


class Fate(enum.StrEnum):
    """Why a workspace is, or is not, about to be stopped."""

    NOT_RUNNING = "not-running"
    REAPER_OFF = "reaper-off"
    IN_USE = "in-use"
    """Last used within `idle_ttl`."""
    BUSY = "busy"
    """A kernel or a terminal works, or did so within `idle_ttl`."""
    UNKNOWN = "unknown"
    """It does not tell what its kernels do."""
    EXTENDED = "extended"
    """Somebody asked for more time."""
    TOO_OLD = "too-old"
    """`max_age` ends it, whatever it does."""
    IDLE = "idle"
    """It is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that is known of one workspace now.

    Args:
        key: which.
        version: rises with every change that `Supervisor.changed` tells.
        phase: where its notebook server is in its life.
        since: since when; None where that is not known.
        progress: of a start.
        usual_start_seconds: the median of recent starts; None before the first. Of this replica.
        trouble: what is in the way of a start that goes on, as far as something is.
        failure: why the last start failed, until one succeeds. Of this replica.
        last_active: when it was last used, here or elsewhere.
        counted: what counted last as use. Of this replica.
        ignored: what was seen last and does not count. Of this replica.
        due_at: when the reaper will stop it, unless something happens; None where it never will.
        fate: why it is, or is not, about to be stopped, for programs.
        why: the same for people.
        is_warned: it is due within `reap_warning`.
        extended_until: before then it is not stopped for being idle.
        happenings: the last changes of its life, oldest first. Of this replica.
        settings: its own, as stored.
        owner: who that is, where it is known.
        profile: what it will start with next; empty where there are no profiles.
        running_profile: what it was started with; None where that is not known.
        stopped: when and why it was stopped last, here or elsewhere.
        warnings: what is wrong with its settings, each a sentence for people.
    """

    key: Key
    version: int
    phase: Phase
    since: datetime | None
    progress: Progress | None = None
    usual_start_seconds: float | None = None
    trouble: Trouble | None = None
    failure: Trouble | None = None
    last_active: datetime | None = None
    counted: Seen | None = None
    ignored: Seen | None = None
    due_at: datetime | None = None
    fate: Fate = Fate.NOT_RUNNING
    why: str = ""
    is_warned: bool = False
    extended_until: datetime | None = None
    happenings: tuple[Happening, ...] = ()
    settings: WorkspaceSettings = NO_SETTINGS
    owner: str | None = None
    profile: str = ""
    running_profile: str | None = None
    stopped: Happening | None = None
    warnings: tuple[str, ...] = ()
