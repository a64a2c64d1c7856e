"""Flags for all settings, generated from `Config`, so that a setting is declared once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args, get_origin

from proxy.cli.exits import Exit, Failed
from proxy.cli.terminal import PROG
from proxy.config import ENV_PREFIX, Config, load_with_sources, unknown_variables
from proxy.errors import ConfigError
from proxy.settings_page import flag_texts

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from proxy.cli.terminal import Commands, Parser

SOURCES: Final = f"""\
A setting has one name in three places; the later one wins:
  --config FILE  a YAML mapping          idle_ttl: 30m
  environment    {ENV_PREFIX}<SETTING>  {ENV_PREFIX}IDLE_TTL=30m
  flag           --<setting>             --idle-ttl 30m
Durations are 4h, 5m, 90s or a number of seconds. Empty and zero values mean the default. A secret is no flag, which all
users of the machine could read: --<secret>-file names a file that holds it."""


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--config`, and a flag for each setting, grouped as `Config` groups them.

    Values stay text: `config.load` reads them. The parser's `argument_default` is to be SUPPRESS, so that what was not
    given is not there.
    """
    parser.add_argument("--config", dest="config_file", type=Path, metavar="FILE", help="YAML file of settings")
    groups: dict[str, argparse._ArgumentGroup] = {}
    for name, title, text in flag_texts(Config.model_fields):
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        metavar = _metavar(Config.model_fields[name]) if name in Config.model_fields else "FILE"
        flag = f"--{name.replace('_', '-')}"
        alone = "on" if metavar == "on|off" else None  # what a switch means without a value
        groups[title].add_argument(
            flag, dest=name, metavar=metavar, help=text.replace("%", "%%"), nargs="?" if alone else None, const=alone
        )


def settings_of(given: dict[str, Any]) -> tuple[Config, dict[str, str]]:
    """Return the settings that the flags, the environment and the file give, and where each comes from.

    Args:
        given: the flags that are settings, and `config_file`; nothing else.

    Raises:
        Failed: one of them is wrong.
    """
    config_file = given.pop("config_file", None)
    for sentence in unknown_variables():
        sys.stderr.write(f"{PROG}: {sentence}\n")
    try:
        return load_with_sources(given, config_file)
    except ConfigError as error:
        raise Failed(str(error), Exit.USAGE) from None


def add_settings_command(commands: Commands, name: str, words: str) -> Parser:
    """Add a command that takes the flags of all settings; what else it takes is added to what this returns."""
    parser = commands.add_parser(
        name,
        help=words,
        description=f"{words[0].upper()}{words[1:]}.",
        usage=f"{PROG} {name} [options] [--config FILE] [--<setting> VALUE ...]",
        epilog=SOURCES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.later = add_settings
    return parser


def _metavar(info: FieldInfo) -> str:
    if info.annotation is bool:
        return "on|off"
    return "|".join(get_args(info.annotation)) if get_origin(info.annotation) is Literal else "VALUE"
