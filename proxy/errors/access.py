"""Who may not enter, and why."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from proxy.errors.base import ProxyError

if TYPE_CHECKING:
    from collections.abc import Mapping


class CrossOrigin(ProxyError):
    """Another site's page tries to act on a workspace."""

    status = 403
    code = "cross-origin"
    title = "This request came from another site"


class Unauthenticated(ProxyError):
    """Who asks is not known: there is no credential, or none that holds. Nothing was started or sent."""

    status = 401
    code = "unauthenticated"
    title = "Who are you?"
    headers: Mapping[str, str] = MappingProxyType({"WWW-Authenticate": "Bearer"})  # RFC 9110 section 11.6.1

    def __init__(self, message: str = "This needs a credential, and none came.") -> None:
        super().__init__(message)
        self.login = ""
        """Where a browser is sent instead; nowhere if empty."""


class KeysUnavailable(ProxyError):
    """No key is known with which a credential could be verified."""

    status = 503
    code = "keys-unavailable"
    title = "Nobody can enter just now"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The keys that credentials are verified with could not be fetched yet; try again in a moment.")


class Forbidden(ProxyError):
    """Who asks is known, and may not do this. Does not tell whether the workspace exists."""

    status = 403
    code = "forbidden"
    title = "This is not yours to open"

    def __init__(self) -> None:
        super().__init__("You may not open this workspace, whether or not it exists.")


class OtherHost(ProxyError):
    """With a host for each workspace, this one does not serve what was asked for."""

    status = 421  # RFC 9110 section 15.5.20
    code = "other-host"
    title = "This is served at another host"
