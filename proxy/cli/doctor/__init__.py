"""`notebook-proxy doctor`: look for what keeps workspaces from starting, and say in plain words what to do.

`machine` looks at this machine (local backend), `cluster` at a cluster, `address` at a proxy that runs, and `smoke` has
that start a throwaway workspace. But for the last, nothing is changed: the cluster is asked what it would say.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from proxy.cli.acting import duration_of
from proxy.cli.client import add_server, checked_id, client_of
from proxy.cli.doctor import machine
from proxy.cli.doctor.finding import Finding, State
from proxy.cli.exits import Exit
from proxy.cli.flags import add_settings_command, settings_of
from proxy.cli.terminal import add_output, clean, ending, write_json
from proxy.config import client_variables, is_in_cluster

if TYPE_CHECKING:
    from collections.abc import Generator

    from proxy.cli.terminal import Commands
    from proxy.config import Config

_SOME_ID: Final = "doctor"
_USUAL: Final = "10m"
_OWN: Final = ("server", "token_file", "output", "id", "smoke", "remote", "timeout", "no_reap")


def add(commands: Commands) -> None:
    """Add the command to the parser of all."""
    parser = add_settings_command(commands, "doctor", "look for what is wrong, and say what to do about it")
    add_server(parser)
    parser.add_argument("--remote", action="store_true", help="look at the proxy alone, and at nothing of this machine")
    parser.add_argument("--id", metavar="ID", help="look at this workspace's volume too")
    parser.add_argument(
        "--smoke",
        action="store_true",
        help="have the proxy start a throwaway workspace, write a file, wait until it is reaped, wake it and read the "
        "file; then remove all of it",
    )
    parser.add_argument(
        "--no-reap",
        action="store_true",
        help="let --smoke stop the workspace through the API: the reaper takes a minute, and reap_interval and "
        "reap_grace",
    )
    parser.add_argument("--timeout", metavar="DURATION", help="how long each step of --smoke may take (default: 10m)")
    add_output(parser)
    parser.set_defaults(
        run=run,
        remote=False,
        smoke=False,
        no_reap=False,
        server=None,
        token_file=None,
        id=_SOME_ID,
        timeout=_USUAL,
    )


@ending
def run(given: dict[str, Any]) -> int:
    """Look, and tell what was found; the status says whether anything is wrong."""
    own = {name: given.pop(name) for name in _OWN}
    checked_id(own)
    duration_of("--timeout", own["timeout"])
    config, _ = settings_of(given)
    found: list[Finding] = []
    with closing(_all(config, own)) as findings:  # so that --smoke removes what it has made, whatever ends this
        for finding in findings:
            found.append(finding)
            if own["output"] == "text":
                _show(finding)
    wrong = [finding for finding in found if finding.state is State.WRONG]
    if own["output"] == "json":
        write_json({"is_well": not wrong, "findings": [finding.told() for finding in found]})
    else:
        sys.stdout.write(f"{_count(len(wrong), 'thing is', 'things are')} wrong.\n" if wrong else "Nothing is wrong.\n")
    return Exit.FAILED if wrong else Exit.DONE


def _all(config: Config, own: dict[str, Any]) -> Generator[Finding]:
    backend = config.backend
    if backend == "auto":
        backend = "kubernetes" if is_in_cluster() else "local"
    if own["remote"]:
        pass
    elif backend == "kubernetes":
        from proxy.cli.doctor import cluster  # noqa: PLC0415 - costs 40 MB, and 0.3 s

        yield from asyncio.run(cluster.look(config, own["id"], is_own=own["id"] != _SOME_ID))
    else:
        yield from machine.look(config)
    if not (own["server"] or client_variables()[0] or own["remote"] or own["smoke"]):
        yield Finding("proxy", State.LEFT_OUT, "Name a proxy that runs with --server, and it is looked at too.")
        return
    from proxy.cli.doctor import address, smoke  # noqa: PLC0415 - only where there is something to ask

    with client_of(own) as client:
        looked = list(address.look(client))
        yield from looked
        if own["smoke"] and any(finding.state is State.WRONG for finding in looked):
            yield Finding("smoke", State.LEFT_OUT, "The proxy cannot be asked.")
        elif own["smoke"]:
            here = None if own["remote"] else (config, backend)
            yield from smoke.look(client, here, own["timeout"], does_reap=not own["no_reap"])


def _show(finding: Finding) -> None:
    """Print a finding as soon as it is there."""
    state = finding.state.value
    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415 - of use on a terminal alone
        from rich.text import Text  # noqa: PLC0415 - the same

        console = Console(highlight=False)
        console.print(Text(f"{state:<9}", style=finding.state.style) + Text(f"{finding.check}: {clean(finding.words)}"))
    else:
        sys.stdout.write(f"{state:<9}{finding.check}: {clean(finding.words)}\n")
    for line in clean(finding.advice).splitlines():
        sys.stdout.write(f"{'':<9}{line}\n")
    sys.stdout.flush()


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
