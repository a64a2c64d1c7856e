"""How the text of a setting becomes a value, and a value text: durations, switches, lists, addresses.

Pure. Each parser takes text or a value that is already right, and raises `ValueError` with what is allowed.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

import yaml
from pydantic import BeforeValidator

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION: Final = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+")
_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)([dhms])")
_DURATION_RULE: Final = "a duration such as 4h, 5m, 90s or a number of seconds"
MAX_PORT: Final = 65_535


def parse_duration(value: Any) -> timedelta:
    """Read `4h`, `5m`, `90s`, `1h30m` or a number of seconds.

    Raises:
        ValueError: it is none of these.
    """
    if isinstance(value, timedelta):
        return value
    try:
        if isinstance(value, str) and _DURATION.fullmatch(value.strip()):
            parts = _DURATION_PART.findall(value)
            return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        pass
    raise ValueError(_DURATION_RULE)


def _parse_optional_duration(value: Any) -> timedelta | None:
    # YAML 1.1 reads a bare `off` as false.
    if value is False or (isinstance(value, str) and value.strip().lower() == "off"):
        return None
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError(f"{_DURATION_RULE}, or off") from None


def _parse_switch(value: Any) -> bool:
    words = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}
    known = words.get(str(value).strip().lower())
    if known is None:
        raise ValueError("on or off")
    return known


def _parse_command(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        try:
            return tuple(shlex.split(value))
        except ValueError as error:
            raise ValueError(f"a list, or one shell-like string ({error})") from None
    if isinstance(value, list | tuple) and all(isinstance(word, str | int | float) for word in value):
        return tuple(str(word) for word in value)
    raise ValueError("a list of words, or one shell-like string")


def _parse_networks(value: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    try:
        return tuple(ipaddress.ip_network(word) for word in words)
    except (ValueError, TypeError) as error:
        raise ValueError(f"networks such as 10.0.0.0/8, separated by commas ({error})") from None


def _parse_string_map(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        try:
            value = yaml.safe_load(value)
        except yaml.YAMLError:
            value = None
    if isinstance(value, Mapping) and all(not isinstance(item, Mapping | list) for item in value.values()):
        return {str(name): _yaml_text(item) for name, item in value.items()}
    raise ValueError('a mapping of names to text, such as {"NAME": "text"}')


def _yaml_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_listen(value: str) -> tuple[str, int]:
    """Split `host:port`, `[v6]:port`, `:port` (every address) or `port` (127.0.0.1).

    Raises:
        ValueError: it has another form, or the host is neither an IP address nor `localhost`.
    """
    host, _, port = value.strip().rpartition(":") if ":" in value else ("127.0.0.1", "", value.strip())
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"  # noqa: S104 - what a missing host means everywhere
    rule = "an IP address (or localhost) and a port, such as 127.0.0.1:8000 or [::1]:8000"
    try:
        if host != "localhost":
            ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(rule) from None
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > MAX_PORT:
        raise ValueError(rule)
    return host, int(port)


def format_value(value: object) -> str:
    """Return a value as a person would write it in a setting."""
    match value:
        case timedelta():
            return _format_duration(value)
        case None:
            return "off"
        case bool():
            return "on" if value else "off"
        case tuple():
            return ",".join(str(item) for item in value)
        case Mapping():
            return ",".join(f"{name}={item}" for name, item in value.items())
        case Path():
            return str(value)
        case _:
            return str(value)


def _format_duration(value: timedelta) -> str:
    seconds = value.total_seconds()
    for unit, size in _UNITS.items():
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{seconds:g}s"


Duration: TypeAlias = Annotated[timedelta, BeforeValidator(parse_duration)]
OptionalDuration: TypeAlias = Annotated[timedelta | None, BeforeValidator(_parse_optional_duration)]
Switch: TypeAlias = Annotated[bool, BeforeValidator(_parse_switch)]
Command: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_parse_command)]
Networks: TypeAlias = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_parse_networks)]
StringMap: TypeAlias = Annotated[dict[str, str], BeforeValidator(_parse_string_map)]
Quantity: TypeAlias = Annotated[str, BeforeValidator(str)]
