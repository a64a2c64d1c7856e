"""`notebook-proxy start`, `stop`, `restart` and `extend`: what may be done to a workspace, and waited for.

The state is asked for three times a second on one connection: that works through whatever passes requests, while events
may be held back on the way. A proxy that restarts meanwhile is waited for, and told again.
"""

from __future__ import annotations

import sys
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from proxy.cli.client import Away, Problem, add_id, add_server, checked_id, client_of, path_to
from proxy.cli.exits import Exit, Failed
from proxy.cli.looking import to_second
from proxy.cli.progress import progress
from proxy.cli.terminal import PROG, add_output, clean, ending, write_json
from proxy.settings_types import parse_duration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from proxy.cli.client import Client
    from proxy.cli.progress import Progress
    from proxy.cli.terminal import Commands

_TICK: Final = 0.3  # seconds between two looks
_AWAY: Final = 20.0  # seconds that a proxy may be away while something is waited for
_USUAL: Final = "10m"
_RESTARTING: Final = "shutting-down"  # the code of a proxy that comes back in a moment


def add(commands: Commands) -> None:
    """Add the commands to the parser of all."""
    _add(commands, "start", _start, "start a workspace, and wait until it answers", does_wait=True)
    _add(commands, "stop", _stop, "stop a workspace; its files stay", does_wait=True)
    _add(commands, "restart", _restart, "stop a workspace, and start it again", does_wait=True)
    extend = _add(commands, "extend", _extend, "keep a workspace for longer, though nobody uses it", does_wait=False)
    extend.add_argument("--by", default="1h", metavar="DURATION", help="for how much longer (default: 1h)")


def _add(
    commands: Commands, name: str, run: Callable[[dict[str, Any]], int], words: str, *, does_wait: bool
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=words, description=f"{words[0].upper()}{words[1:]}.", allow_abbrev=False)
    add_id(parser)
    if does_wait:
        parser.add_argument(
            "--timeout", default=_USUAL, metavar="DURATION", help=f"how long it is waited for (default: {_USUAL})"
        )
        if name != "restart":
            parser.add_argument("--no-wait", action="store_true", help="do not wait for it")
    add_server(parser)
    add_output(parser)
    parser.set_defaults(run=ending(run))
    return parser


def _start(given: dict[str, Any]) -> int:
    name, until = checked_id(given), _until(given)
    with client_of(given) as client:
        if given["no_wait"]:
            status = _begin(client, name)
        else:
            with progress() as shown:
                status = start(client, name, until, shown)
    return _done(given, status, _words(client, status))


def _stop(given: dict[str, Any]) -> int:
    name, until = checked_id(given), _until(given)
    with client_of(given) as client, progress() as shown:
        status = stop(client, name, until, shown, does_wait=not given["no_wait"])
    is_over = status["phase"] == "stopped"
    return _done(given, status, f"{name} is stopped; its files stay." if is_over else f"{name} is being stopped.")


def _restart(given: dict[str, Any]) -> int:
    name, until = checked_id(given), _until(given)
    with client_of(given) as client:
        with progress() as shown:
            stop(client, name, until, shown)
        try:
            with progress() as shown:
                status = start(client, name, until, shown)
        except KeyboardInterrupt:
            sys.stderr.write(f"{name} was stopped; whether it starts again, `{PROG} show {name}` tells.\n")
            raise
    return _done(given, status, _words(client, status))


def _extend(given: dict[str, Any]) -> int:
    name = checked_id(given)
    duration_of("--by", given["by"])
    with client_of(given) as client:
        _, status = client.post(path_to(name, "extend"), {"by": given["by"]})
    kept = to_second(status["extended_until"] or status["due_at"])
    return _done(given, status, f"{name} is kept until {kept} at least.")


def start(client: Client, name: str, until: float, shown: Progress) -> dict[str, Any]:
    """Start a workspace; return its status when it runs.

    Args:
        client: asks the proxy.
        name: the workspace's id.
        until: the monotonic moment after which it is no more waited for.
        shown: is told how far it is.

    Raises:
        Failed: it could not be started, was stopped meanwhile, or is not there in time.
    """
    status = _begin(client, name)
    while status["phase"] != "running":
        shown.tell(status)
        if status["phase"] == "stopped":
            if status["failure"] is not None:
                raise _not_started(status["failure"]["detail"], status["failure"]["log"])
            raise Failed(f"{name} was stopped while it started: {_reason(status)}")
        if time.monotonic() >= until:
            raise Failed(f"{name} does not run yet; it goes on starting.", Exit.GOES_ON)
        time.sleep(_TICK)
        status = patiently(client, shown, lambda: _look(client, name))
        if client.is_new:  # another replica, or the proxy after a restart: neither need know of this start
            status = patiently(client, shown, lambda: _begin(client, name))
    return status


def stop(client: Client, name: str, until: float, shown: Progress, *, does_wait: bool = True) -> dict[str, Any]:
    """Stop a workspace; return its status when it is stopped, or at once.

    Raises:
        Failed: it could not be stopped, or is not in time.
    """
    shown.say(f"Stopping {name}")
    code, found = client.post(path_to(name, "stop"), {"wait": False})
    status: dict[str, Any] = found
    while does_wait and status["phase"] == "stopping":
        if time.monotonic() >= until:
            raise Failed(f"{name} is not stopped yet; that goes on.", Exit.GOES_ON)
        time.sleep(_TICK)
        status = patiently(client, shown, lambda: _look(client, name))
    if does_wait and code != HTTPStatus.OK and status["phase"] == "running":
        raise Failed(f"{name} could not be stopped: {_reason(status)}")
    return status


def _begin(client: Client, name: str) -> dict[str, Any]:
    """Have it started, unless it runs or starts already."""
    try:
        return dict(client.post(path_to(name, "start"))[1])
    except Problem as error:
        if error.status is not Exit.FAILED or error.code == _RESTARTING:
            raise
        raise _not_started(error.detail or str(error), "") from error


def _look(client: Client, name: str) -> dict[str, Any]:
    return dict(client.get(path_to(name)))


def patiently(client: Client, shown: Progress, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what is told; a proxy that is away, or restarts, is waited for.

    Raises:
        Failed: what is told is no answer, or the proxy is away for longer than a restart takes.
    """
    away_until = time.monotonic() + _AWAY
    while True:
        try:
            return ask()
        except (Away, Problem) as error:
            is_away = isinstance(error, Away) or error.code == _RESTARTING
            if not is_away or time.monotonic() >= away_until:
                raise
            shown.say(f"{client.server} does not answer; asking again")
            time.sleep(_TICK)


def _not_started(detail: str, log: str) -> Failed:
    if log:
        sys.stderr.write("".join(f"  {clean(line)}\n" for line in log.splitlines()))
    return Failed(detail, Exit.NOT_STARTED)


def _reason(status: dict[str, Any]) -> str:
    happenings = status["happenings"]
    return str(happenings[-1]["reason"] if happenings else "") or "nothing is known about it."


def _words(client: Client, status: dict[str, Any]) -> str:
    verb = {"running": "runs", "starting": "starts"}.get(status["phase"], f"is {status['phase']}")
    return f"{status['id']} {verb}: {client.server}{status['url']}lab"


def _done(given: dict[str, Any], status: dict[str, Any], words: str) -> int:
    if given["output"] == "json":
        write_json(status)
    else:
        sys.stdout.write(clean(words) + "\n")
    return Exit.DONE


def _until(given: dict[str, Any]) -> float:
    """Return the monotonic moment of `--timeout`."""
    return time.monotonic() + duration_of("--timeout", given["timeout"])


def duration_of(flag: str, text: str) -> float:
    """Return the seconds that a flag names.

    Raises:
        Failed: it names none, or none above zero.
    """
    try:
        seconds = parse_duration(text).total_seconds()
    except ValueError as error:
        raise Failed(f"{flag} {text!r}: must be {error}.", Exit.USAGE) from None
    if seconds <= 0:
        raise Failed(f"{flag} {text!r}: must be above zero.", Exit.USAGE)
    return seconds
