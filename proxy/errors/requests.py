"""What is wrong with a request, whoever sends it: its form, its path, its size, or that there is no room for it."""

from __future__ import annotations

from proxy.errors.base import ProxyError


class BadRequest(ProxyError):
    """The request is refused for its form; nothing was started or sent."""

    status = 400
    title = "This request cannot be passed on"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class RequestTimeout(ProxyError):
    """The client stopped in the middle of its request."""

    status = 408
    code = "request-timeout"
    title = "The request did not come whole in time"


class HeadersTooLarge(ProxyError):
    """The request line and headers are larger than `max_header_bytes`."""

    status = 431
    code = "headers-too-large"
    title = "The request's headers are too large"


class TooManyConnections(ProxyError):
    """As many clients are connected as the proxy has room for; nothing was started or sent."""

    status = 503
    code = "too-many-connections"
    title = "The proxy has no room for another connection"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("As many clients are connected as max_connections allows; try again in a moment.")


class TooManyStreams(ProxyError):
    """As many pages are told of changes as may be at once."""

    status = 503
    code = "too-many-streams"
    title = "Too many pages are open"
    retry_after = 30

    def __init__(self) -> None:
        super().__init__("As many pages as possible are told of changes already; this one asks again by itself.")


class InvalidKey(ProxyError):
    """The workspace id cannot name a workspace."""

    status = 404
    code = "invalid-workspace-id"
    title = "There can be no such workspace"

    def __init__(self, workspace_id: str, rule: str) -> None:
        shown = workspace_id if len(workspace_id) <= 80 else workspace_id[:77] + "..."  # noqa: PLR2004
        super().__init__(f"{shown!r} is not a workspace id: {rule}")
        self.workspace_id = workspace_id


class NotFound(ProxyError):
    """Nothing is served at this path."""

    status = 404
    code = "not-found"
    title = "There is nothing here"


class MethodRefused(ProxyError):
    """A method that has no meaning there, or that a proxy for notebooks never passes on (CONNECT, TRACE)."""

    status = 405
    code = "method-not-allowed"
    title = "This method is not allowed here"

    def __init__(self, message: str, *, allow: str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS") -> None:
        """Say why.

        Args:
            message: for people.
            allow: the methods that are allowed, as they stand in the header of that name.
        """
        super().__init__(message)
        self.headers = {"Allow": allow}  # RFC 9110 section 15.5.6: it must name what is allowed


class TooLarge(ProxyError):
    """A body that is meant for the proxy itself is longer than anything it could mean."""

    status = 413
    code = "too-large"
    title = "This body is too long"


class UnknownType(ProxyError):
    """A body that is meant for the proxy itself is of a type that it does not read."""

    status = 415
    code = "unknown-type"
    title = "This type of body is not read here"
