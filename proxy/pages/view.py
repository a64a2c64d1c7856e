"""A workspace as people see it: every value that the pages show, in words, from what the supervisor reports.

Pure. The server fills the templates with these values and sends the same ones as events, so that a page is right when
it comes and stays so. Moments become seconds from now, so that nobody's clock has to be right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from proxy.pages.words import FAILED, advice, duration, fraction, headline, sentence, state_of, told

if TYPE_CHECKING:
    from datetime import datetime

    from proxy.report import Report

View: TypeAlias = dict[str, Any]

USUAL_SECONDS: Final = 15.0
"""What a progress bar goes by before any start has been seen."""
_NO_WORDS: Final = "Starting its notebook server"
_SINCE: Final = {"running": "Running for", "starting": "Starting for", "stopping": "Stopping for"}


def view_of(
    report: Report, now: datetime, *, connections: int = 0, to: str = "", is_row: bool = False, may_enter: bool = True
) -> View:
    """Return what the pages show of a workspace.

    Args:
        report: the supervisor's.
        now: the moment from which seconds are counted.
        connections: how many requests and websockets this replica carries for it.
        to: the path and query that somebody waits for; empty where nobody does.
        is_row: for the dashboard, whose forms lead back to it.
        may_enter: who looks may open and change it, too; else only see and stop it.
    """
    name, state = report.key.workspace_id, state_of(report)
    title = headline(name, state)

    def since(moment: datetime | None) -> float | None:
        return None if moment is None else max((now - moment).total_seconds(), 0.0)

    def until(moment: datetime | None) -> float | None:
        return None if moment is None else max((moment - now).total_seconds(), 0.0)

    view: View = {
        "id": name,
        "state": state,
        "title": title,
        "headline": title,
        "line": _line(report, state),
        "since_label": _SINCE.get(state, ""),
        "since_seconds": since(report.since),
        "has_since": state in _SINCE and report.since is not None,
        "used_seconds": since(report.last_active),
        "has_use": report.last_active is not None,
        "due_seconds": until(report.due_at),
        "is_due": state == "running" and report.due_at is not None,
        "is_warned": state == "running" and report.is_warned,
        "why": report.why,
        "connections": connections,
        "counted": report.counted.what if report.counted else "",
        "ignored": report.ignored.what if report.ignored else "",
        "happenings": [told(happening) for happening in reversed(report.happenings)],
        "has_happenings": bool(report.happenings),
        "is_going": bool(to),
        "is_enterable": may_enter,
        "is_extendable": may_enter and state == "running" and report.due_at is not None and not report.is_warned,
        "is_startable": may_enter and state in ("stopped", FAILED),
        "is_stoppable": state in ("running", "starting"),
        "profile": report.profile,
        "warnings": list(report.warnings),
        "has_warnings": bool(report.warnings),
        "stopped": _stopped(report),
        **{f"is_{each}": state == each for each in ("starting", "running", "stopping", "stopped", FAILED)},
    }
    view |= _links(name, to, is_row=is_row, may_enter=may_enter)
    view |= _start(report, since, state)
    view |= _failure(report, until, state)
    view["announcement"] = ". ".join(filter(None, (title, view["step"], view["trouble"], view["failure"])))
    return view


def _links(name: str, to: str, *, is_row: bool, may_enter: bool) -> View:
    """Return where links and forms lead, and what they are called."""
    base = f"/ws/{name}/"
    act = f"/api/workspaces/{name}/" if is_row else f"{base}_proxy/"
    query = f"?to={quote(to, safe='/')}" if to else ""
    return {
        "open_url": f"{base}lab",
        "title_url": f"{base}lab" if may_enter else f"{base}_proxy/",
        "retry_url": to or f"{base}lab",
        "wait_url": f"{base}_proxy/{query}",
        "events_url": f"{base}_proxy/events{query}",
        "extend_url": f"{act}extend",
        "stop_url": f"{act}stop",
        "start_url": f"{act}start",
        "settings_url": f"{act}settings",
        "open_label": f"Open {name}",
        "start_label": f"Start {name}",
        "extend_label": f"Keep {name} another hour",
        "stop_label": f"Stop {name} …",
        "log_label": f"Last lines of the log of {name}",
    }


def _start(report: Report, since: Any, state: str) -> View:
    """Return what is shown of a start under way."""
    is_starting = state == "starting"
    progress, usual = report.progress, report.usual_start_seconds
    elapsed = since(report.since) if is_starting else None
    return {
        "step": (progress.words if progress else _NO_WORDS).rstrip(".") if is_starting else "",
        "step_seconds": since(progress.since) if is_starting and progress else None,
        "elapsed_seconds": elapsed,
        "usual_seconds": usual,
        "usual_or_default": usual or USUAL_SECONDS,
        "usual": f"usually about {duration(max(usual, 1))}" if usual else "",
        "progress": f"{fraction(elapsed or 0.0, usual or USUAL_SECONDS):.3f}",
        "trouble": report.trouble.message if is_starting and report.trouble else "",
    }


def _failure(report: Report, until: Any, state: str) -> View:
    """Return what is shown of a start that failed."""
    failure = report.failure if state == FAILED else None
    retry = until(failure.retry_at) if failure else None
    return {
        "failure": failure.message if failure else "",
        "code": failure.code if failure else "",
        "advice": advice(failure.code) if failure else "",
        "log": failure.detail if failure else "",
        "retry_seconds": retry,
        "has_back_off": bool(retry),
    }


def _line(report: Report, state: str) -> str:
    """Return the one sentence that says why a workspace is as it is."""
    if state == "starting":
        words = report.progress.words if report.progress else _NO_WORDS
        return f"{sentence(words)} {report.trouble.message}" if report.trouble else sentence(words)
    if state == FAILED:
        return report.failure.message if report.failure else ""
    if state == "running":
        return report.why
    return _stopped(report) if state == "stopped" else "Its kernels and terminals are ended; its files stay."


def _stopped(report: Report) -> str:
    """Return when and why it was stopped last, as far as is known."""
    if report.stopped is None:
        return ""
    return f"It was stopped on {report.stopped.at:%Y-%m-%d at %H:%M} UTC. {sentence(report.stopped.reason)}".strip()
