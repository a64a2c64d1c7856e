"""What is kept of a workspace beside its files, so that it outlives every notebook server: settings, owner, last use.

Pure. One form for annotations and for a file that people edit: names to text. Whoever can write there is not the
operator: what cannot be read is left out and complained of, never fatal.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from proxy.settings_types import format_value, parse_duration, parse_switch
from proxy.workspace import is_label
from proxy.workspace_settings import NO_SETTINGS, WorkspaceSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

IDLE_TTL: Final = "idle-ttl"
PROTECT_BUSY: Final = "protect-busy"
MAX_AGE: Final = "max-age"
PROFILE: Final = "profile"
OWNER: Final = "owner"
LAST_USED: Final = "last-used"
STOP_REASON: Final = "stop-reason"
STOPPED_AT: Final = "stopped-at"
NAMES: Final = (IDLE_TTL, PROTECT_BUSY, MAX_AGE, PROFILE, OWNER, LAST_USED, STOP_REASON, STOPPED_AT)
SHORTEST: Final = timedelta(minutes=1)
LONGEST: Final = timedelta(days=3650)
_MAX_LENGTH: Final = 500  # characters
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Notes:
    """What is kept.

    Args:
        settings: the workspace's own.
        owner: whose it is, where somebody has said so.
        last_used: when its last notebook server was used last.
        stop_reason: why that was stopped.
        stopped_at: when.
        complaints: sentences for people about what could not be read.
    """

    settings: WorkspaceSettings = NO_SETTINGS
    owner: str | None = None
    last_used: datetime | None = None
    stop_reason: str = ""
    stopped_at: datetime | None = None
    complaints: tuple[str, ...] = ()


def read_notes(said: Mapping[str, Any]) -> Notes:
    """Return what is said there, without what cannot be read. Other names than `NAMES` are passed over."""
    complaints: list[str] = []

    def read(name: str, parse: Callable[[str], _T]) -> _T | None:
        text = said.get(name)
        if text is None or text == "":
            return None
        try:
            if not isinstance(text, str) or len(text) > _MAX_LENGTH:
                raise ValueError("text of one line")  # noqa: TRY301 - as whatever parses it
            return parse(text)
        except ValueError as error:
            complaints.append(f"{name} = {str(text)[:80]!r} is left out: it must be {error}.")
            return None

    return Notes(
        WorkspaceSettings(
            idle_ttl=read(IDLE_TTL, _duration),
            protect_busy=read(PROTECT_BUSY, parse_switch),
            max_age=read(MAX_AGE, _duration),
            profile=read(PROFILE, _name),
        ),
        owner=read(OWNER, str),
        last_used=read(LAST_USED, _moment),
        stop_reason=read(STOP_REASON, str) or "",
        stopped_at=read(STOPPED_AT, _moment),
        complaints=tuple(complaints),
    )


def settings_text(settings: WorkspaceSettings) -> dict[str, str | None]:
    """Return settings as they are kept; None where there is nothing to keep."""
    values = {
        IDLE_TTL: settings.idle_ttl,
        PROTECT_BUSY: settings.protect_busy,
        MAX_AGE: settings.max_age,
        PROFILE: settings.profile,
    }
    return {name: None if value is None else format_value(value) for name, value in values.items()}


def stop_text(last_used: datetime, reason: str, at: datetime) -> dict[str, str | None]:
    """Return the end of a notebook server as it is kept."""
    return {LAST_USED: _text(last_used), STOP_REASON: reason[:_MAX_LENGTH] or None, STOPPED_AT: _text(at)}


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _duration(text: str) -> timedelta:
    found = parse_duration(text)
    if not SHORTEST <= found <= LONGEST:
        raise ValueError(f"a duration from {format_value(SHORTEST)} to {format_value(LONGEST)}")
    return found


def _name(text: str) -> str:
    if not is_label(text):
        raise ValueError("a profile's name")
    return text


def _moment(text: str) -> datetime:
    rule = "a moment such as 2026-01-01T12:00:00Z"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(rule) from None
    if moment.tzinfo is None:
        raise ValueError(rule)
    return moment
