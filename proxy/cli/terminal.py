"""What every command shares: the program's name, a parser that complains in one line, and that line."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

PROG: Final = "notebook-proxy"


class Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line: the usage of thirty flags would hide it."""

    def error(self, message: str) -> NoReturn:
        """End the program with status 2."""
        self.exit(2, f"{PROG}: {message}; `{self.prog} --help` lists what there is\n")


if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[Parser]  # noqa: SLF001 - it has no public name


def complain(message: str, *, status: int = 1) -> int:
    """Say in one line on stderr what is wrong; return the exit status."""
    sys.stderr.write(f"{PROG}: {' '.join(message.split())}\n")
    return status
