"""What a chart's values may look like where this proxy wants a mapping, a list or a number. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """Return a mapping; an empty one for null and for what is empty.

    Raises:
        ValueError: it is none.
    """
    if not value and value is not False:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name} must be a mapping of names to values")
    return value


def listed(value: Any, name: str) -> list[Any]:
    """Return a list. A mapping in place of one is its values in the order of its keys, as KubeSpawner has it.

    Raises:
        ValueError: it is neither.
    """
    if value is None:
        return []
    if isinstance(value, Mapping):
        return [value[key] for key in sorted(value, key=str)]
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, or a mapping whose values are one")  # noqa: TRY004 - the data is wrong
    return value


def seconds(value: Any, name: str) -> int:
    """Return a number of seconds.

    Raises:
        ValueError: it is none.
    """
    try:
        return int(float(value))
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {value!r}: must be a number of seconds") from None
