"""Wait until a throwaway workspace is reaped, as one is that nobody uses; or say why it is not.

It gets the shortest `idle_ttl` that a workspace may have of its own, unless it is due by then anyway; afterwards it has
the operator's again. What decides is the proxy's own reaper: here is only looked, which is no use of a workspace.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from proxy.cli.acting import patiently
from proxy.cli.client import Problem, path_to
from proxy.cli.exits import Exit, Failed
from proxy.cli.looking import to_second
from proxy.notes import SHORTEST
from proxy.settings_types import format_value

if TYPE_CHECKING:
    from proxy.cli.client import Client
    from proxy.cli.progress import Progress

_TICK: Final = 0.5  # seconds
_NOTED: Final = 5.0  # seconds until the replica that is asked knows why another has stopped it
_IS_OFF: Final = "reaper-off"


class Unreapable(Failed):
    """The proxy's configuration leaves no way to see a reap within minutes: that is the operator's choice."""


class Unreaped(Failed):
    """It should have been reaped, and was not.

    Attributes:
        advice: what to do.
    """

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


def reap(client: Client, name: str, patience: float, shown: Progress) -> str:
    """Have a workspace that runs, and that nobody uses any more, reaped; return why the proxy says it was.

    Args:
        client: asks the proxy.
        name: the workspace's id.
        patience: the seconds that it may take.
        shown: is told what is waited for.

    Raises:
        Unreapable: the reaper is off, or it cannot have an `idle_ttl` of its own.
        Unreaped: it was not reaped in time, or ended otherwise.
        Failed: the proxy cannot be asked.
    """
    began, until = datetime.now(UTC), time.monotonic() + patience
    status = dict(client.get(path_to(name)))
    if status["fate"] == _IS_OFF:
        raise Unreapable(str(status["why"]))
    is_far = status["due_at"] is None or datetime.fromisoformat(status["due_at"]) - began > SHORTEST
    if is_far:
        status = _set_idle_ttl(client, name, format_value(SHORTEST))
    while status["phase"] != "stopped":
        shown.say(_words(status))
        if time.monotonic() >= until:
            raise Unreaped(f"It was not reaped within {patience:.0f} s: {status['why']}", _advice(status))
        time.sleep(_TICK)
        status = patiently(client, shown, lambda: dict(client.get(path_to(name))))
    why = _reason(client, name, status)
    if is_far:
        _set_idle_ttl(client, name, None)
    return why


def _set_idle_ttl(client: Client, name: str, text: str | None) -> dict[str, Any]:
    """Give it an `idle_ttl` of its own, or the operator's again; return its status then."""
    try:
        return dict(client.ask("PATCH", path_to(name, "settings"), {"idle_ttl": text}).json())
    except Problem as error:
        if error.status is not Exit.FAILED:
            raise
        raise Unreapable(f"It cannot have an idle_ttl of its own: {error.detail or error}") from error


def _words(status: dict[str, Any]) -> str:
    if status["phase"] == "stopping":
        return "The reaper stops it"
    due = status["due_at"]
    if due is None:
        return f"Waiting for the reaper: {status['why']}"
    if datetime.fromisoformat(due) > datetime.now(UTC):
        return f"Waiting for the reaper: it may stop it from {to_second(due)} on"
    return "Waiting for the reaper: it is due, and is stopped at the next look (reap_interval, then reap_grace)"


def _reason(client: Client, name: str, status: dict[str, Any]) -> str:
    """Return why it was stopped; another replica may have done it, and this one be told a little later.

    Raises:
        Unreaped: nobody has stopped it: its server ended by itself.
    """
    until = time.monotonic() + _NOTED
    while status["stopped"] is None and time.monotonic() < until:
        time.sleep(_TICK)
        status = dict(client.get(path_to(name)))
    if status["stopped"] is not None:
        return str(status["stopped"]["reason"])
    last = status["happenings"][-1]["reason"] if status["happenings"] else ""
    raise Unreaped(
        f"It was not reaped, but ended by itself: {last}", f"`notebook-proxy logs {name}` has its last lines."
    )


_ADVICE: Final = {
    "busy": "protect_busy keeps what works; nothing works here unless the image starts it: a kernel or a terminal.",
    "unknown": "The proxy asks each notebook server what its kernels do (api/kernels, api/terminals), and "
    "gets no answer that it understands; max_unknown says how long that keeps a workspace.",
    "extended": "Somebody, or something, has extended it meanwhile.",
    "in-use": "Something uses it: last_counted of its status tells what. Is it a monitor, or a page that is open?",
}
_OVERDUE: Final = (
    "It was due. The reaper looks every reap_interval, and then waits for reap_grace: is --timeout shorter? "
    "dry_run_reaper stops nothing. The proxy's log says what put it off: `would be reaped`, `reap put off`, "
    "`reap contested`."
)


def _advice(status: dict[str, Any]) -> str:
    return _ADVICE.get(str(status["fate"]), _OVERDUE)
