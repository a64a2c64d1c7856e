"""Who asks, as the rest of the proxy knows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Final


@dataclass(frozen=True, slots=True)
class User:
    """Somebody whose credential was found good.

    Args:
        name: what the credential calls them; empty where nobody is asked.
        workspaces: the ids that the credential names, and patterns of ids, as in `fnmatch`.
        expires: when the credential does, in seconds since the epoch.
        is_admin: may see and stop every workspace.
    """

    name: str
    workspaces: tuple[str, ...]
    expires: float = inf
    is_admin: bool = False


EVERYONE: Final = User("", ("*",))
"""Who enters where no credential is asked for."""
