"""Settings as people read them: one line each, in the README's table and in `--help`.

Pure. Knows how a setting is declared; shows no value but defaults, and of a secret not even that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.settings_sources import Fields, file_settings, is_secret
from proxy.settings_types import format_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

PROXY: Final = "proxy"
AUTHENTICATION: Final = "authentication"
OPERATIONS: Final = "operations"
CLIENTS: Final = "limits on clients"
LIFE: Final = "life of a notebook server"
LOCAL: Final = "local backend"
KUBERNETES: Final = "Kubernetes backend"
_ORDER: Final = (PROXY, AUTHENTICATION, OPERATIONS, CLIENTS, LIFE, LOCAL, KUBERNETES)


def group_of(info: FieldInfo) -> str:
    """Return what a setting is of."""
    extra = info.json_schema_extra
    return str(extra["group"]) if isinstance(extra, dict) else ""


def _in_order(fields: Fields) -> Iterator[tuple[str, FieldInfo]]:
    """Yield the settings group by group, within one as they are declared."""
    for group in _ORDER:
        yield from ((name, info) for name, info in fields.items() if group_of(info) == group)


def table(fields: Fields) -> str:
    """Return every setting as a Markdown table: name, default, what it is of, meaning."""
    holders = {target: setting for setting, target in file_settings(fields).items()}
    rows = []
    for name, info in _in_order(fields):
        default = format_value(info.get_default())
        shown = f"`{default}`" if default else "none"
        meaning = str(info.description)
        if name in holders:
            meaning += f"; `{holders[name]}` names a file that holds it" + ("; no flag" if is_secret(info) else "")
        rows.append(f"| `{name}` | {shown} | {group_of(info)} | {meaning} |")
    return "\n".join(["| setting | default | of | meaning |", "| --- | --- | --- | --- |", *rows]) + "\n"


def flag_texts(fields: Fields) -> Iterator[tuple[str, str, str]]:
    """Yield each flag of the command line: its setting, the group it is shown in, its meaning. A secret has none.

    The settings that name a file with another setting's value follow that one.
    """
    holders = {target: setting for setting, target in file_settings(fields).items()}
    for name, info in _in_order(fields):
        default = format_value(info.get_default()) or "none"
        if not is_secret(info):
            yield name, group_of(info), f"{info.description} (default: {default})"
        if name in holders:
            meaning = f": {info.description}" if is_secret(info) else ""
            yield holders[name], group_of(info), f"file that holds {name}{meaning}"
