"""What every command shares: the program's name, a parser that complains in one line, and how text reaches a terminal.

What comes from a proxy, a notebook server or a cluster is shown without what a terminal would obey.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn, TextIO, TypeAlias

from proxy.cli.exits import Exit, Failed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Commands: TypeAlias = argparse._SubParsersAction["Parser"]  # noqa: SLF001 - it has no public name
    Run: TypeAlias = Callable[[dict[str, Any]], int]

PROG: Final = "notebook-proxy"
# C0 and C1 controls but tab and line feed, what changes the direction of text, and what cannot be encoded.
_OBEYED: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_GAP: Final = "  "


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line: the usage of thirty flags would hide it."""

    later: Callable[[Parser], None] | None = None
    """Adds more flags once this parser is the one that is needed: a hundred of them take milliseconds to add."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse, with all flags."""
        if self.later is not None:
            add, self.later = self.later, None
            add(self)
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """End the program with status 2."""
        self.exit(Exit.USAGE, f"{PROG}: {message}; `{self.prog} --help` lists what there is\n")


def complain(message: str, *, status: int = Exit.FAILED) -> int:
    """Say in one line on stderr what is wrong; return the exit status."""
    sys.stderr.write(f"{PROG}: {' '.join(clean(message).split())}\n")
    return status


def clean(text: str) -> str:
    r"""Return text that a terminal only shows: what it would obey is written as `\x1b`."""
    return _OBEYED.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def ending(run: Run) -> Run:
    """Return a command that ends as people expect: with one line, at Ctrl-C, and when nobody reads on."""

    @functools.wraps(run)
    def ends(given: dict[str, Any]) -> int:
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")  # whatever the locale can write
        try:
            status = run(given)
            sys.stdout.flush()
        except Failed as error:
            return complain(str(error), status=error.status)
        except KeyboardInterrupt:
            return Exit.INTERRUPTED
        except BrokenPipeError:  # `| head`; Python would complain once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.DONE
        return status

    return ends


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add `--output`."""
    parser.add_argument("--output", "-o", choices=("text", "json"), default="text", help="form of what is printed")


def write_json(value: Any) -> None:
    """Print a value for programs. Characters beyond ASCII are escaped, so that nothing in it is obeyed."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, out: TextIO | None = None) -> None:
    """Print rows below their columns' names: on a terminal as wide as that is, else as wide as they are."""
    out = out or sys.stdout
    cleaned = [[" ".join(clean(cell).split()) for cell in row] for row in rows]
    if out.isatty():
        _write_rich(columns, cleaned, out)
        return
    widths = [max(map(len, column)) for column in zip(columns, *cleaned, strict=True)]
    for row in (columns, *cleaned):
        line = _GAP.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.write(line.rstrip() + "\n")


def _write_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    from rich.console import Console  # noqa: PLC0415 - of use on a terminal alone
    from rich.table import Table  # noqa: PLC0415 - the same
    from rich.text import Text  # noqa: PLC0415 - the same

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, len(_GAP), 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name == columns[0])
    for row in rows:
        table.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(file=out).print(table)


_STYLES: Final = {
    "running": "green",
    "starting": "yellow",
    "stopping": "yellow",
    "failed": "red",
    "ok": "green",
    "wrong": "bold red",
    "warning": "yellow",
}
