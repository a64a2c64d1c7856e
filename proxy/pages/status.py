"""A workspace as programs see it: the JSON of the API and of `_proxy/status`. Pure; `openapi.json` describes it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from proxy.settings_types import format_value

if TYPE_CHECKING:
    from datetime import datetime

    from proxy.report import Report, Seen, Trouble
    from proxy.workspace_settings import WorkspaceSettings


def status_of(report: Report, now: datetime, *, connections: int = 0) -> dict[str, Any]:
    """Return what the API says of a workspace. Moments are RFC 3339, UTC; what is not known is null.

    Args:
        report: the supervisor's.
        now: the moment from which seconds are counted.
        connections: how many requests and websockets this replica carries for it.
    """
    name = report.key.workspace_id
    return {
        "id": name,
        "namespace": report.key.namespace,
        "phase": report.phase.value,
        "since": _moment(report.since),
        "url": f"/ws/{name}/",
        "status_url": f"/ws/{name}/_proxy/status",
        "start": _start(report, now),
        "failure": _trouble(report.failure),
        "last_active": _moment(report.last_active),
        "last_counted": _seen(report.counted),
        "last_ignored": _seen(report.ignored),
        "due_at": _moment(report.due_at),
        "fate": report.fate.value,
        "why": report.why,
        "is_warned": report.is_warned,
        "extended_until": _moment(report.extended_until),
        "connections": connections,
        "settings": _settings(report.settings),
        "profile": report.profile or None,
        "running_profile": report.running_profile,
        "owner": report.owner,
        "stopped": None if report.stopped is None else _happening(report.stopped),
        "happenings": [_happening(happening) for happening in report.happenings],
        "warnings": list(report.warnings),
    }


def _start(report: Report, now: datetime) -> dict[str, Any] | None:
    """Return what is known of a start under way."""
    progress = report.progress
    if report.phase.value != "starting":
        return None
    return {
        "step": progress.step.value if progress else None,
        "words": progress.words if progress else "",
        "step_since": _moment(progress.since) if progress else None,
        "elapsed_seconds": None if report.since is None else round(max((now - report.since).total_seconds(), 0.0), 3),
        "usual_seconds": report.usual_start_seconds,
        "trouble": _trouble(report.trouble),
    }


def _settings(settings: WorkspaceSettings) -> dict[str, Any]:
    """Return a workspace's own settings, as they are written; null is what the operator has set."""
    return {
        name: format_value(value) if isinstance(value, timedelta) else value for name, value in asdict(settings).items()
    }


def _trouble(trouble: Trouble | None) -> dict[str, Any] | None:
    if trouble is None:
        return None
    return {
        "code": trouble.code,
        "detail": trouble.message,
        "log": trouble.detail,
        "at": _moment(trouble.at),
        "retry_at": _moment(trouble.retry_at),
    }


def _seen(seen: Seen | None) -> dict[str, Any] | None:
    return None if seen is None else {"what": seen.what, "at": _moment(seen.at)}


def _happening(happening: Any) -> dict[str, Any]:
    return {"at": _moment(happening.at), "what": happening.what, "reason": happening.reason}


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")
