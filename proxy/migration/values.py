"""Nested values, each taken once by its dotted name, so that what nobody took can be told. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


class Values:
    """Values of a chart.

    Args:
        tree: mappings in mappings; anything else is a value.

    Raises:
        ValueError: it is no mapping.
    """

    def __init__(self, tree: Mapping[str, Any]) -> None:
        if not isinstance(tree, Mapping):
            raise ValueError("values must be a mapping, such as `singleuser: {...}`")  # noqa: TRY004 - the data is wrong
        self._tree = tree
        self._taken: set[str] = set()
        self._added: list[str] = []

    def take(self, name: str, default: Any = None) -> Any:
        """Return the value of a dotted name; the default where it is missing or null."""
        self._taken.add(name)
        found: Any = self._tree
        for part in name.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
        return default if found is None else found

    def leave(self, name: str) -> None:
        """Say that part of what was taken has no counterpart."""
        self._added.append(name)

    def left(self) -> list[str]:
        """Return the name of each value that was not taken, in the order of the tree."""
        return [*self._leaves(self._tree, ""), *self._added]

    def _leaves(self, tree: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for key, value in tree.items():
            name = f"{prefix}{key}"
            if name in self._taken or value is None or value in ({}, []):
                continue
            if isinstance(value, Mapping):
                yield from self._leaves(value, f"{name}.")
            else:
                yield name
