"""How the text of a setting becomes a value, and a value text: durations, switches, lists, addresses.

Pure. Each parser takes text or a value that is already right, and raises `ValueError` with what is allowed.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
import shlex
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, SecretStr

from proxy.activity_rules import Rule, parse_rules
from proxy.settings_yaml import read_typed_yaml, read_yaml

_UNITS: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_DURATION: Final = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?[dhms])+")
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([dhms])")
_DURATION_RULE: Final = "a duration such as 4h, 5m, 90s or a number of seconds"
_NUMBER: Final = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_MAX_NUMBER_LENGTH: Final = 30  # more digits than any timedelta has; Python refuses to read 4,301
_ZERO_QUANTITY: Final = re.compile(r"0+(?:\.0*)?[A-Za-z]*")
_BRACKETED: Final = re.compile(r"\[([0-9A-Fa-f:.]+)\]")
MAX_PORT: Final = 65_535
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_TREE_RULE: Final = "a mapping of text, finite numbers, switches, lists and mappings, or YAML of one"
_MAX_DEPTH: Final = 64


def parse_duration(value: Any) -> timedelta:
    """Read `4h`, `5m`, `90s`, `1h30m` or a number of seconds; exact to the microsecond.

    Raises:
        ValueError: it is none of these, or more than a `timedelta` holds.
    """
    if isinstance(value, timedelta):
        return value
    text = value.strip() if isinstance(value, str) else ""
    try:
        if len(text) <= _MAX_NUMBER_LENGTH and _DURATION.fullmatch(text):
            return _seconds(sum(Decimal(number) * _UNITS[unit] for number, unit in _DURATION_PART.findall(text)))
        if len(text) <= _MAX_NUMBER_LENGTH and _NUMBER.fullmatch(text):
            return _seconds(Decimal(text))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return timedelta(seconds=value)
    except (ValueError, OverflowError):  # nan, infinity, too large
        pass
    raise ValueError(_DURATION_RULE)


def _seconds(seconds: Decimal | int) -> timedelta:
    return timedelta(microseconds=int(seconds * 1_000_000))


def _parse_optional_duration(value: Any) -> timedelta | None:
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() == "off"):
        return None
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError(f"{_DURATION_RULE}, or off") from None


def parse_switch(value: Any) -> bool:
    """Read `on` or `off`, and what else means one of them.

    Raises:
        ValueError: it means neither.
    """
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
    if isinstance(value, list | tuple) and all(_is_scalar(word) for word in value):
        return tuple(str(word) for word in value)
    raise ValueError("a list of words, or one shell-like string")


def _parse_words(value: Any) -> tuple[str, ...]:
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise ValueError("words, separated by commas")
    return tuple(words)


def _parse_networks(value: Any) -> tuple[IPv4Network | IPv6Network, ...]:
    rule = "networks such as 10.0.0.0/8, separated by commas"
    words = value.replace(",", " ").split() if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(
        isinstance(word, str | IPv4Network | IPv6Network) for word in words
    ):
        raise ValueError(rule)
    try:
        return tuple(ipaddress.ip_network(word) for word in words)
    except ValueError as error:
        raise ValueError(f"{rule} ({error})") from None


def _parse_string_map(value: Any) -> dict[str, str]:
    rule = 'a mapping of names to text, such as {"NAME": "text"}'
    if isinstance(value, str):
        try:
            value = read_yaml(value)
        except ValueError:
            raise ValueError(rule) from None
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ValueError(rule)
    if not all(_is_scalar(item) for item in value.values()):
        raise ValueError(rule)
    return {name: str(item) for name, item in value.items()}


def _parse_quantity(value: Any) -> str:
    """Return a Kubernetes quantity as text; one of zero is empty, and so means the default."""
    if not _is_scalar(value):
        raise ValueError("a quantity such as 500m, 2 or 4Gi")
    text = str(value).strip()
    return "" if _ZERO_QUANTITY.fullmatch(text) else text


def _parse_count(value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        return int(value)
    raise ValueError("a whole number")


def _parse_secret(value: Any) -> SecretStr:
    if isinstance(value, SecretStr):
        return value
    if not isinstance(value, str):
        raise ValueError("text")  # noqa: TRY004 - what pydantic takes for "not allowed"
    return SecretStr(value.strip())


def _parse_tree(value: Any) -> dict[str, Any]:
    """Return a copy that shares nothing with `value`, of what JSON can say."""
    if isinstance(value, str):
        try:
            found = read_typed_yaml(value)
        except ValueError:
            raise ValueError(_TREE_RULE) from None
        value = {} if found is None else found
    if not isinstance(value, Mapping):
        raise ValueError(_TREE_RULE)  # noqa: TRY004 - what pydantic takes for "not allowed"
    plain: dict[str, Any] = _plain(value)
    return plain


def _plain(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, bool | str | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if depth < _MAX_DEPTH and isinstance(value, list | tuple):
        return [_plain(item, depth + 1) for item in value]
    if depth < _MAX_DEPTH and isinstance(value, Mapping) and all(isinstance(name, str) for name in value):
        return {name: _plain(item, depth + 1) for name, item in value.items()}
    raise ValueError(_TREE_RULE)


def _parse_text(value: Any) -> str:
    if not _is_scalar(value):
        raise ValueError("text")
    return str(value)


def _parse_word(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _is_scalar(value: object) -> bool:
    """Tell whether there is one way to write it as text. Of a switch there is none: `on`, `true`, `True`?"""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


OFF: Final = "off"
"""Of an address that may be left out: no address."""


def parse_listen(value: str) -> tuple[str, int]:
    """Split `host:port`, `[v6]:port`, `:port` (every address) or `port` (127.0.0.1).

    Raises:
        ValueError: it has another form, or the host is neither an IP address nor `localhost`.
    """
    host, _, port = value.strip().rpartition(":") if ":" in value else ("127.0.0.1", "", value.strip())
    rule = "an IP address (or localhost) and a port, such as 127.0.0.1:8000 or [::1]:8000"
    bracketed = _BRACKETED.fullmatch(host)
    host = bracketed[1] if bracketed else host.lower() or "0.0.0.0"  # noqa: S104 - what no host means  # nosec B104
    if bool(bracketed) != (":" in host) or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > MAX_PORT:
        raise ValueError(rule)
    try:
        if host != "localhost":
            ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(rule) from None
    return host, int(port)


def format_value(value: object) -> str:
    """Return a value as a person would write it in a setting: reading it gives the same value again."""
    match value:
        case timedelta():
            return _format_duration(value)
        case None:
            return "off"
        case bool():
            return "on" if value else "off"
        case tuple():
            is_command = all(isinstance(item, str) for item in value)
            return shlex.join(value) if is_command else ",".join(str(item) for item in value)
        case Mapping():
            return json.dumps(dict(value), ensure_ascii=False, default=str) if value else ""
        case _:
            return str(value)  # of a secret: asterisks


def _format_duration(value: timedelta) -> str:
    whole, rest = divmod(value // timedelta(microseconds=1), 1_000_000)
    if rest:  # exact, and never in the form 1e-06
        return f"{whole + Decimal(rest).scaleb(-6):f}".rstrip("0") + "s"
    for unit, size in _UNITS.items():
        if whole >= size and whole % size == 0:
            return f"{whole // size}{unit}"
    return f"{whole}s"


Duration: TypeAlias = Annotated[timedelta, BeforeValidator(parse_duration)]
OptionalDuration: TypeAlias = Annotated[timedelta | None, BeforeValidator(_parse_optional_duration)]
Switch: TypeAlias = Annotated[bool, BeforeValidator(parse_switch)]
Command: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_parse_command)]
Words: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_parse_words)]
Networks: TypeAlias = Annotated[tuple[IPv4Network | IPv6Network, ...], BeforeValidator(_parse_networks)]
Rules: TypeAlias = Annotated[tuple[Rule, ...], BeforeValidator(parse_rules)]
StringMap: TypeAlias = Annotated[dict[str, str], BeforeValidator(_parse_string_map)]
Text: TypeAlias = Annotated[str, BeforeValidator(_parse_text)]
Quantity: TypeAlias = Annotated[str, BeforeValidator(_parse_quantity)]
Count: TypeAlias = Annotated[int, BeforeValidator(_parse_count)]
Secret: TypeAlias = Annotated[SecretStr, BeforeValidator(_parse_secret)]
Tree: TypeAlias = Annotated[dict[str, Any], BeforeValidator(_parse_tree)]
LogLevel: TypeAlias = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_parse_word)]


def setting(default: Any, group: str, description: str, *, is_private: bool = False, has_file: bool = False) -> Any:
    """Declare a setting.

    The value of a private one is shown nowhere: not in `repr`, not in a complaint. One that is text of many lines has
    a file, which `<setting>_file` names; secrets and mappings have one anyway.
    """
    extra: dict[str, Any] = {"group": group, "has_file": has_file}
    return Field(default=default, description=description, json_schema_extra=extra, repr=not is_private)
