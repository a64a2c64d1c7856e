"""`notebook-proxy migrate FILE`: Helm values of Zero to JupyterHub as settings of this proxy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from proxy.cli.exits import Exit, Failed
from proxy.cli.terminal import clean, ending
from proxy.migration import translate
from proxy.settings_yaml import read_typed_yaml

if TYPE_CHECKING:
    from proxy.cli.terminal import Commands


def add(commands: Commands) -> None:
    """Add the command to the parser of all."""
    parser = commands.add_parser(
        "migrate",
        help="print the settings that do what the Helm values of Zero to JupyterHub do",
        description="Print the settings that do what the Helm values of Zero to JupyterHub do, as YAML for --config. "
        "What has no counterpart is listed on stderr.",
        allow_abbrev=False,
    )
    parser.add_argument("values", type=Path, metavar="FILE", help="values.yaml of the chart, as it was installed")
    parser.set_defaults(run=run)


@ending
def run(given: dict[str, Any]) -> int:
    """Print them."""
    path: Path = given["values"]
    try:
        done = translate(read_typed_yaml(path.read_text(encoding="utf-8-sig")) or {})
    except OSError as error:
        raise Failed(f"{path}: {error.strerror}", Exit.USAGE) from error
    except ValueError as error:
        raise Failed(f"{path}: {error}", Exit.USAGE) from error
    for line in done.left:
        sys.stderr.write(f"not translated: {clean(line)}\n")
    sys.stdout.write(yaml.safe_dump(done.settings, sort_keys=False, allow_unicode=True))
    return Exit.DONE
