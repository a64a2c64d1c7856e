"""`notebook-proxy logs ID`: the last lines that a workspace's notebook server has written.

Once: to follow them would need a stream that lasts. `kubectl logs --follow deploy/notebook-ID` follows, or `tail -F`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from proxy.cli.client import Problem, add_id, add_server, checked_id, client_of, path_to
from proxy.cli.exits import Exit, Failed
from proxy.cli.terminal import add_output, clean, ending, write_json

if TYPE_CHECKING:
    from proxy.cli.terminal import Commands

_USUAL, _MOST = 200, 5_000
_NO_LOG: Final = "no-log"


def add(commands: Commands) -> None:
    """Add the command to the parser of all."""
    words = "print the last lines that a workspace's notebook server has written"
    parser = commands.add_parser("logs", help=words, description=f"{words[0].upper()}{words[1:]}.", allow_abbrev=False)
    add_id(parser)
    parser.add_argument(
        "--lines",
        "-n",
        type=int,
        default=_USUAL,
        metavar="N",
        help=f"how many at most, up to {_MOST} (default: {_USUAL})",
    )
    add_server(parser)
    add_output(parser)
    parser.set_defaults(run=run)


@ending
def run(given: dict[str, Any]) -> int:
    """Print them; on a terminal without what that would obey, elsewhere as they are."""
    name, lines = checked_id(given), given["lines"]
    if not 0 < lines <= _MOST:
        raise Failed(f"--lines {lines}: must be a number from 1 to {_MOST}.", Exit.USAGE)
    with client_of(given) as client:
        try:
            body = client.ask("GET", f"{path_to(name, 'log')}?lines={lines}").body
        except Problem as error:
            if error.code != _NO_LOG:
                raise
            raise Failed(f"There is no log of {name}: {error.detail}", Exit.UNKNOWN) from error
    text = body.decode(errors="replace")
    if given["output"] == "json":
        write_json({"id": name, "log": text})
        return Exit.DONE
    sys.stdout.write(clean(text) if sys.stdout.isatty() else text)
    if text and not text.endswith("\n"):
        sys.stdout.write("\n")
    return Exit.DONE
