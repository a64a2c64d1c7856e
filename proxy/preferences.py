"""What holds for one workspace: its own settings within the operator's limits, else the operator's.

Pure. Stored settings may be anything that somebody wrote: what goes too far is cut to the limit, and said so; what is
asked for through the API is refused instead.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from proxy.errors import SettingsRefused
from proxy.notes import settings_text
from proxy.profiles import Profile, read_profiles
from proxy.settings_types import format_value
from proxy.workspace_settings import NO_SETTINGS, WorkspaceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from proxy.config import Config
    from proxy.notes import Notes
    from proxy.tracked import Tracked


class Preferences:
    """Knows the limits. One per supervisor.

    Args:
        config: `idle_ttl`, `max_idle_ttl`, `protect_busy`, `max_age`, `profiles`.
    """

    def __init__(self, config: Config) -> None:
        self._idle_ttl = config.idle_ttl
        self._longest_idle = max(config.max_idle_ttl, config.idle_ttl)
        self._protect_busy = config.protect_busy
        self._max_age = config.max_age
        self.profiles: dict[str, Profile] = read_profiles(config.profiles)

    def apply(self, tracked: Tracked, notes: Notes) -> None:
        """Let a workspace that is tracked be judged by what holds for it."""
        own = notes.settings
        idle_ttl = self._idle_ttl if own.idle_ttl is None else min(own.idle_ttl, self._longest_idle)
        ages = [age.total_seconds() for age in (own.max_age, self._max_age) if age is not None]
        tracked.idle_ttl = idle_ttl.total_seconds()
        tracked.protect_busy = self._protect_busy if own.protect_busy is None else own.protect_busy
        tracked.max_age = min(ages, default=math.inf)

    def profile_of(self, notes: Notes) -> str:
        """Return the profile with which it starts next; empty where that is none of those that are offered."""
        name = notes.settings.profile or ""
        return name if name in self.profiles else ""

    def warnings(self, notes: Notes, running_profile: str | None) -> Iterator[str]:
        """Yield a sentence for people about each thing that does not hold as it is written."""
        yield from notes.complaints
        for name, allowed in self._beyond(notes.settings):
            if name == "profile":
                yield f"There is no profile {notes.settings.profile!r}; it starts without one."
            else:
                yield f"Its {name} is cut to what the operator allows: {allowed}."
        following = self.profile_of(notes)
        if running_profile is not None and running_profile != following:
            yield f"Its profile will be {following or 'none'!r} when it starts next; now it is {running_profile!r}."

    def refuse(self, settings: WorkspaceSettings, former: WorkspaceSettings = NO_SETTINGS) -> None:
        """Do nothing where settings keep to the limits, but for what they were: that is cut, and may stay.

        Raises:
            SettingsRefused: which does not, and what is allowed.
        """
        same = {name for name, value in settings_text(settings).items() if value == settings_text(former)[name]}
        for name, allowed in self._beyond(settings):
            if name in same:
                continue
            raise SettingsRefused(name, f"{name} must be {allowed}.")

    def _beyond(self, settings: WorkspaceSettings) -> Iterator[tuple[str, str]]:
        if _is_more(settings.idle_ttl, self._longest_idle):
            yield "idle-ttl", f"at most {format_value(self._longest_idle)}"
        if _is_more(settings.max_age, self._max_age):
            yield "max-age", f"at most {format_value(self._max_age)}"
        if settings.profile and settings.profile not in self.profiles:
            yield "profile", f"one of {', '.join(self.profiles) or 'none, for none is offered'}"


def _is_more(value: timedelta | None, limit: timedelta | None) -> bool:
    return value is not None and limit is not None and value > limit
