"""`notebook-proxy list` and `show`: what a proxy knows of workspaces. Looking wakes nothing and counts as no use."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from proxy.cli.client import add_id, add_server, checked_id, client_of, path_to
from proxy.cli.exits import Exit
from proxy.cli.terminal import add_output, clean, complain, ending, write_json, write_table
from proxy.pages.words import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.cli.client import Client
    from proxy.cli.terminal import Commands

_PAGE: Final = 1000
_COLUMNS: Final = ("ID", "STATE", "SINCE", "LAST USED", "ENDS", "CONNECTIONS", "PROFILE", "OWNER")
_INDENT: Final = 16


def add(commands: Commands) -> None:
    """Add the commands to the parser of all."""
    parser = commands.add_parser("list", help="list the workspaces that run, or that something is remembered of")
    add_server(parser)
    add_output(parser)
    parser.set_defaults(run=_list)
    parser = commands.add_parser("show", help="show what is known of a workspace")
    add_id(parser)
    add_server(parser)
    add_output(parser)
    parser.set_defaults(run=_show)


@ending
def _list(given: dict[str, Any]) -> int:
    """Print all of them, by id."""
    with client_of(given) as client:
        found = list(_all(client))
    if given["output"] == "json":
        write_json({"workspaces": found})
        return Exit.DONE
    now = datetime.now(UTC)
    write_table(_COLUMNS, [_row(status, now) for status in found])
    return Exit.DONE


@ending
def _show(given: dict[str, Any]) -> int:
    """Print one of them; that nothing is known of it is told, and is a status of its own."""
    name = checked_id(given)
    with client_of(given) as client:
        status = client.get(path_to(name))
    if given["output"] == "json":
        write_json(status)
    elif is_known(status):
        for label, text in _lines(status, datetime.now(UTC), client.server):
            sys.stdout.write(f"{label:<{_INDENT}}{clean(text)}\n")
    if is_known(status):
        return Exit.DONE
    return complain(
        f"nothing is known of workspace {name!r}: it has never run, or that is forgotten. `notebook-proxy list` lists "
        "those that are known, and any id may be started.",
        status=Exit.UNKNOWN,
    )


def is_known(status: dict[str, Any]) -> bool:
    """Tell whether a workspace runs, or anything is remembered of it."""
    remembered = ("since", "failure", "last_active", "stopped", "owner", "happenings")
    return status["phase"] != "stopped" or any(status.get(name) for name in remembered)


def state_of(status: dict[str, Any]) -> str:
    """Return the one word for how a workspace is: its phase, or `failed`."""
    return "failed" if status["phase"] == "stopped" and status["failure"] else str(status["phase"])


def to_second(text: str) -> str:
    """Return a moment of the API as people read it."""
    return f"{datetime.fromisoformat(text):%Y-%m-%dT%H:%M:%SZ}"


def _all(client: Client) -> Iterator[dict[str, Any]]:
    after = ""
    while True:
        page = client.get(f"/api/workspaces?limit={_PAGE}" + (f"&after={quote(after)}" if after else ""))
        yield from page["workspaces"]
        if not page["next"] or page["next"] <= after:
            return
        after = page["next"]


def _row(status: dict[str, Any], now: datetime) -> list[str]:
    return [
        status["id"],
        state_of(status),
        _ago(status["since"], now),
        _ago(status["last_active"], now),
        _ahead(status["due_at"], now),
        str(status["connections"]),
        status["profile"] or "-",
        status["owner"] or "-",
    ]


def _lines(status: dict[str, Any], now: datetime, server: str) -> Iterator[tuple[str, str]]:
    """Yield what is known, each with what it is."""
    yield "Workspace", status["id"]
    yield "Namespace", status["namespace"]
    yield "State", f"{state_of(status)}, since {_when(status['since'], now)}" if status["since"] else state_of(status)
    yield "Address", f"{server}{status['url']}lab"
    yield from _start_lines(status)
    yield from _use_lines(status, now)
    own = {name: value for name, value in status["settings"].items() if value is not None}
    found = {
        "Own settings": ", ".join(f"{name} {value}" for name, value in own.items()),
        "Profile": status["profile"],
        "Started with": status["running_profile"],
        "Owner": status["owner"],
    }
    yield from ((label, text) for label, text in found.items() if text)
    if status["stopped"] is not None:
        yield "Stopped last", f"{_when(status['stopped']['at'], now)}: {status['stopped']['reason']}"
    yield from _labelled("Warning", status["warnings"])
    yield from _labelled("Happenings", [_happening(each) for each in status["happenings"]])
    yield from _labelled("Its log", str((status["failure"] or {}).get("log") or "").splitlines())


def _start_lines(status: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield how far a start is, or why the last one failed."""
    start, failure = status["start"], status["failure"]
    if start is not None:
        yield "Starting", start["words"]
        if start["trouble"] is not None:
            yield "In the way", f"{start['trouble']['detail']} ({start['trouble']['code']})"
    if failure is not None:
        yield "Failure", f"{failure['detail']} ({failure['code']})"
        if failure["retry_at"] is not None:
            yield "Next try", to_second(failure["retry_at"])


def _use_lines(status: dict[str, Any], now: datetime) -> Iterator[tuple[str, str]]:
    """Yield when it was used, and what becomes of it."""
    yield "Last used", _when(status["last_active"], now)
    for name, label in (("last_counted", "Counted last"), ("last_ignored", "Ignored last")):
        if status[name] is not None:
            yield label, f"{status[name]['what']}, {_when(status[name]['at'], now)}"
    if status["why"]:
        yield "Why", status["why"]
    if status["due_at"] is not None:
        yield "Ends", f"{to_second(status['due_at'])} (in {_ahead(status['due_at'], now)})"
    if status["extended_until"] is not None:
        yield "Kept until", to_second(status["extended_until"])
    yield "Connections", str(status["connections"])


def _happening(happening: dict[str, Any]) -> str:
    reason = f": {happening['reason']}" if happening["reason"] else ""
    return f"{to_second(happening['at'])} {happening['what']}{reason}"


def _labelled(label: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    """Yield lines, of which the first has the label."""
    return (("" if number else label, line) for number, line in enumerate(lines))


def _ago(text: str | None, now: datetime) -> str:
    return "-" if text is None else duration((now - datetime.fromisoformat(text)).total_seconds())


def _ahead(text: str | None, now: datetime) -> str:
    return "-" if text is None else duration((datetime.fromisoformat(text) - now).total_seconds())


def _when(text: str | None, now: datetime) -> str:
    return "unknown" if text is None else f"{to_second(text)} ({_ago(text, now)} ago)"
