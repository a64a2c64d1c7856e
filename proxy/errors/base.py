"""Everything that the proxy itself has to say has this base."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class ProxyError(Exception):
    """The base of all: something that the proxy itself has to say."""

    status = 500
    code = "internal"
    title = "Something went wrong in the proxy"
    retry_after: int | None = None
    """Seconds after which asking again is worthwhile; None where it is not."""
    detail: str = ""
    """More for people, such as the last lines of a log."""
    headers: Mapping[str, str] = MappingProxyType({})
    """What the answer must carry besides."""


class ConfigError(ProxyError):
    """A setting is wrong: which one, where it came from and what is allowed."""

    code = "config"
    title = "A setting is wrong"
