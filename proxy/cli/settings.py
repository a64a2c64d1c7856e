"""`notebook-proxy settings`: every setting as a Markdown table."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from proxy.config import settings_table

if TYPE_CHECKING:
    from proxy.cli.terminal import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser of all."""
    parser = commands.add_parser("settings", help="print all settings as a Markdown table", allow_abbrev=False)
    parser.set_defaults(run=run)


def run(given: dict[str, Any]) -> int:  # noqa: ARG001 - all commands have this form
    """Print the table."""
    sys.stdout.write(settings_table())
    return 0
