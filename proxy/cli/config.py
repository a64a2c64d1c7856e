"""`notebook-proxy config`: the settings that hold here, each with where it comes from. No secret is shown.

A setting whose value is shown nowhere else (environment variables, overlays, profiles) is shown as its names alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.cli.exits import Exit
from proxy.cli.flags import add_settings_command, settings_of
from proxy.cli.terminal import add_output, ending, write_json, write_table
from proxy.config import Config
from proxy.settings_sources import is_secret
from proxy.settings_types import format_value

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from proxy.cli.terminal import Commands

MASK: Final = "***"
_DEFAULT: Final = "the default"
_COLUMNS: Final = ("SETTING", "VALUE", "FROM")


def add(commands: Commands) -> None:
    """Add the command to the parser of all."""
    parser = add_settings_command(commands, "config", "print the settings that hold, and where each comes from")
    parser.add_argument("--changed", action="store_true", default=False, help="leave out those that are the default")
    add_output(parser)
    parser.set_defaults(run=run)


@ending
def run(given: dict[str, Any]) -> int:
    """Print them."""
    form, is_short = given.pop("output"), given.pop("changed")
    config, sources = settings_of(given)
    shown = {
        name: {"value": shown_value(info, getattr(config, name)), "from": sources.get(name, _DEFAULT)}
        for name, info in Config.model_fields.items()
        if name in sources or not is_short
    }
    if form == "json":
        write_json({"settings": shown})
    else:
        write_table(_COLUMNS, [(name, each["value"] or "none", each["from"]) for name, each in shown.items()])
    return Exit.DONE


def shown_value(info: FieldInfo, value: Any) -> str:
    """Return a setting's value as text, with what nobody may see masked; empty where there is none."""
    if is_secret(info):
        return MASK if value.get_secret_value() else ""
    return format_value(value if info.repr else masked(value))


def masked(value: Any) -> Any:
    """Return a value of the same form, with every text, number and switch in it masked."""
    if isinstance(value, Mapping):
        return {name: masked(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return MASK
