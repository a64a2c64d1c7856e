"""The command line, a file for each theme: `serve`, `settings`, `token`; as clients of a proxy `looking`, `acting`.

Each has `add(commands)`, which adds its commands to the parser, with `run(given)` as what carries one out and returns
the exit status (see `exits`). What is wrong is said in one line on stderr. Everything heavy is imported by `run` alone;
`--help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from proxy import __version__
from proxy.cli import acting, config, doctor, logs, looking, manifests, serve, settings, token, volumes
from proxy.cli.exits import listing
from proxy.cli.terminal import PROG, Parser

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    Args:
        argv: the arguments, without the program's name; by default the process's own.

    Raises:
        SystemExit: `--help`, `--version`, or arguments that make no sense.
    """
    parser = _parser()
    given = vars(parser.parse_args(argv))
    run = given.pop("run", None)
    if run is None:
        parser.print_help(sys.stderr)
        return 2
    status: int = run(given)
    return status


def _parser() -> Parser:
    parser = Parser(
        prog=PROG,
        description="Starts Jupyter notebook servers when somebody opens them, and stops them when nobody uses them.",
        epilog=f"`{PROG} serve --help` explains every setting.\n\n{listing()}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands", parser_class=Parser)
    for theme in (serve, settings, config, manifests, doctor, volumes, token, looking, acting, logs):
        theme.add(commands)
    return parser
