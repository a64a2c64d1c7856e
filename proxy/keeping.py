"""Keep what outlives a notebook server: a workspace's settings, and how its last server ended.

The backend stores it beside the files, and tells what is stored, by whomever; nothing is believed before it is told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.errors import ProxyError
from proxy.ledger import Entry
from proxy.notes import OWNER, Notes, settings_text, stop_text

if TYPE_CHECKING:
    import logging
    from datetime import datetime

    from proxy.backends import Backend
    from proxy.ledger import Ledger
    from proxy.preferences import Preferences
    from proxy.roster import Roster
    from proxy.workspace import Key
    from proxy.workspace_settings import WorkspaceSettings


class Keeping:
    """Keeps. One per supervisor.

    Args:
        roster: what is tracked; owns the writes.
        backend: stores.
        ledger: remembers what is stored.
        preferences: knows the limits.
        log: where writes that fail are reported.
    """

    def __init__(
        self, roster: Roster, backend: Backend, ledger: Ledger, preferences: Preferences, *, log: logging.Logger
    ) -> None:
        self._roster = roster
        self._backend = backend
        self._ledger = ledger
        self._preferences = preferences
        self._log = log

    def noted(self, key: Key, notes: Notes | None) -> None:
        """Take up what is stored now; None where neither it nor the files are there any more."""
        entry, tracked = self._ledger.entry(key), self._roster.get(key)
        changed = (notes or Notes()) != (entry.notes or Notes())
        entry.notes = notes
        if tracked is not None:
            self._preferences.apply(tracked, notes or Notes())
        else:
            self._ledger.pass_on(key)
        if changed or not entry.version:
            self._ledger.bump(key)

    async def set_settings(self, key: Key, settings: WorkspaceSettings) -> None:
        """Store a workspace's settings in place of those that it has.

        Raises:
            ProxyError: see `Supervisor.set_settings`.
        """
        key.safe_deployment_name()
        notes = (self._ledger.find(key) or Entry()).notes or Notes()
        self._preferences.refuse(settings, notes.settings)
        await self._backend.note(key, settings_text(settings))
        entry = self._ledger.entry(key)
        self.noted(key, replace(entry.notes or Notes(), settings=settings, complaints=()))
        said = [f"{name} {text}" for name, text in settings_text(settings).items() if text is not None]
        self._ledger.note(key, "settings", ", ".join(said) or "as the operator has them")

    def stopped(self, key: Key, last_used: datetime, reason: str, at: datetime) -> None:
        """Store how a notebook server ended, in a task of its own."""
        work = self._store(key, stop_text(last_used, reason, at), "the end")
        self._roster.spawn(work, f"note {key.workspace_id}")

    def own(self, key: Key, user: str) -> None:
        """Store whose a workspace is, if nobody's: the first user's for whom it started. In a task of its own.

        For people to see; what a user may do follows from their credential alone.
        """
        entry = self._ledger.entry(key)
        if (entry.notes or Notes()).owner is None:
            self._roster.spawn(self._store(key, {OWNER: user}, "its owner"), f"own {key.workspace_id}")

    async def _store(self, key: Key, text: dict[str, str | None], what: str) -> None:
        try:
            await self._backend.note(key, text)
        except ProxyError as error:
            self._log.warning("%s was not noted: id=%s: %s", what, key.workspace_id, error)
        except Exception:  # noqa: BLE001 - the top of a task
            self._log.exception("%s was not noted: id=%s", what, key.workspace_id)
