"""What a workspace's owner may set for it, and how it is written: in annotations, in a file, in the API.

Pure. Every value is optional; None means what the operator has set.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import timedelta


@dataclass(frozen=True, slots=True)
class WorkspaceSettings:
    """Settings of one workspace.

    Args:
        idle_ttl: how long it may go unused before it is stopped.
        protect_busy: whether a kernel or terminal that works keeps it running.
        max_age: after so long it is stopped whatever it does.
        profile: name of the profile with which it starts.
    """

    idle_ttl: timedelta | None = None
    protect_busy: bool | None = None
    max_age: timedelta | None = None
    profile: str | None = None


NO_SETTINGS: Final = WorkspaceSettings()
