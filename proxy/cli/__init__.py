"""The command line, a file for each theme; which commands are in which, `_THEMES` says.

Each file has `add(commands)`, which adds its commands to the parser, with `run(given)` as what carries one out and
returns the exit status (see `exits`). What is wrong is said in one line on stderr. Only the file whose command is asked
for is imported, or all for `--help`; and everything heavy by `run` alone.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

from proxy import __version__
from proxy.cli.exits import listing
from proxy.cli.terminal import PROG, Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

_THEMES: Final = {
    "serve": ("serve",),
    "settings": ("settings",),
    "config": ("config",),
    "manifests": ("manifests",),
    "doctor": ("doctor",),
    "volumes": ("volumes",),
    "token": ("token",),
    "migrate": ("migrate",),
    "looking": ("list", "show"),
    "acting": ("start", "stop", "restart", "extend"),
    "logs": ("logs",),
}
"""The commands of each file, in the order in which they are listed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments, without the program's name; by default the process's own.

    Raises:
        SystemExit: `--help`, `--version`, or arguments that make no sense.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = _parser(arguments[0] if arguments else "")
    given = vars(parser.parse_args(arguments))
    run = given.pop("run", None)
    if run is None:
        parser.print_help(sys.stderr)
        return 2
    status: int = run(given)
    return status


def _parser(command: str = "") -> Parser:
    """Return the parser, of one command, or of all where that is none."""
    parser = Parser(
        prog=PROG,
        description="Starts Jupyter notebook servers when somebody opens them, and stops them when nobody uses them.",
        epilog=f"`{PROG} serve --help` explains every setting.\n\n{listing()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)
    wanted = [theme for theme, names in _THEMES.items() if command in names]
    for theme in wanted or _THEMES:
        import_module(f"{__name__}.{theme}").add(commands)
    return parser
