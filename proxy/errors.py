"""Every exception of the product, and what each means to a client.

One class per decision that a caller can take; the data is in attributes. `status` is the HTTP status, `code` the word
for programs, `title` the headline for people; `str(error)` says what to do. Status codes are chosen here alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class ProxyError(Exception):
    """The base of all: something that the proxy itself has to say."""

    status = 500
    code = "internal"
    title = "Something went wrong in the proxy"
    retry_after: int | None = None
    """Seconds after which asking again is worthwhile; None where it is not."""
    detail: str = ""
    """More for people, such as the last lines of a log."""


class ConfigError(ProxyError):
    """A setting is wrong: which one, where it came from and what is allowed."""

    code = "config"
    title = "A setting is wrong"


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
        self.allow = allow


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


class CrossOrigin(ProxyError):
    """Another site's page tries to act on a workspace."""

    status = 403
    code = "cross-origin"
    title = "This request came from another site"


class ShuttingDown(ProxyError):
    """The proxy is stopping and starts nothing any more."""

    status = 503
    code = "shutting-down"
    title = "The proxy is restarting"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The proxy is shutting down and starts no notebook server; try again in a moment.")


class NotRunning(ProxyError):
    """The workspace does not run, and this request does not start it: nobody means it to."""

    status = 503
    code = "not-running"
    title = "The notebook server is not running"
    retry_after = 30

    def __init__(self, workspace_id: str) -> None:
        super().__init__(
            f"Workspace {workspace_id!r} is not running, and what a page or a browser asks by itself does not start "
            f"it. Open or reload /ws/{workspace_id}/lab, or save your work there; its files are kept."
        )
        self.workspace_id = workspace_id


class TooManyStreams(ProxyError):
    """As many pages are told of changes as may be at once."""

    status = 503
    code = "too-many-streams"
    title = "Too many pages are open"
    retry_after = 30

    def __init__(self) -> None:
        super().__init__("As many pages as possible are told of changes already; this one asks again by itself.")


class StartTimeout(ProxyError):
    """Not ready within `ready_timeout`; the start goes on, and a retry joins it."""

    status = 504
    code = "not-ready"
    title = "The notebook server is still starting"
    retry_after = 5

    def __init__(self, workspace_id: str, seconds: float) -> None:
        super().__init__(
            f"Workspace {workspace_id!r} was not ready within {seconds:g} s. It goes on starting; try again."
        )


class StartFailed(ProxyError):
    """The notebook server cannot become ready, or must not be tried again yet."""

    status = 503
    title = "The notebook server could not be started"

    def __init__(self, code: str, message: str, *, detail: str = "", retry_after: int | None = None) -> None:
        """Say why a start failed.

        Args:
            code: for programs, such as `exited` or `command-not-found`.
            message: for people: what happened and what to do.
            detail: the last lines of the notebook server's log, if there are any.
            retry_after: seconds until the back-off allows another try.
        """
        super().__init__(message)
        self.code = code
        self.detail = detail
        self.retry_after = retry_after

    def again(self, retry_after: int | None) -> StartFailed:
        """Return the same failure, to be raised anew: without the traceback, which holds requests."""
        return StartFailed(self.code, str(self), detail=self.detail, retry_after=retry_after)


class BackendUnavailable(StartFailed):
    """What starts notebook servers does not answer: no failure of the workspace's, so it does not count as one."""

    title = "Notebook servers cannot be started just now"

    def again(self, retry_after: int | None) -> BackendUnavailable:
        """Return the same failure, to be raised anew."""
        return BackendUnavailable(self.code, str(self), detail=self.detail, retry_after=retry_after)


class StartStalled(ProxyError):
    """Something is in the way of a start that may heal by itself; the start goes on, and a retry joins it."""

    status = 503
    title = "The notebook server cannot start yet"
    retry_after = 5

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ForeignObject(StartFailed):
    """Something that is not ours stands where the workspace's objects would be; it is left alone."""

    status = 409
    title = "Something else has this workspace's name"

    def __init__(self, message: str, *, detail: str = "", retry_after: int | None = None) -> None:
        super().__init__("foreign-object", message, detail=detail, retry_after=retry_after)

    def again(self, retry_after: int | None) -> ForeignObject:
        """Return the same failure, to be raised anew."""
        return ForeignObject(str(self), detail=self.detail, retry_after=retry_after)


class TooManyStarts(ProxyError):
    """As many workspaces start, and wait for their turn, as may; this one was not started."""

    status = 503
    code = "too-many-starts"
    title = "Too many notebook servers are starting"
    retry_after = 10

    def __init__(self, waiting: int) -> None:
        super().__init__(f"{waiting} others wait for their turn to start; try again in a moment.")


class ExtendRefused(ProxyError):
    """A workspace gets no more time: it does not run, or has as much as is allowed."""

    status = 409
    title = "It cannot be kept longer"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class SettingsRefused(ProxyError):
    """A workspace's settings go beyond what the operator allows; nothing was stored."""

    status = 422
    code = "setting-refused"
    title = "This setting is not allowed"

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(message)
        self.setting = setting


class NotKept(ProxyError):
    """What is to be kept of a workspace could not be stored."""

    status = 503
    code = "not-kept"
    title = "It could not be stored"


class Contested(ProxyError):
    """A reap met newer activity, or another one under way; nothing was stopped."""

    code = "contested"

    def __init__(self, message: str, last_active: datetime | None = None) -> None:
        super().__init__(message)
        self.last_active = last_active


class StopFailed(ProxyError):
    """The backend could not stop the workspace; it may still be running."""

    status = 503
    code = "stop-failed"
    title = "The notebook server could not be stopped"


class UpstreamError(ProxyError):
    """The notebook server was asked and gave no usable answer."""

    status = 502
    title = "The notebook server gave no usable answer"


class UpstreamRefused(UpstreamError):
    """No connection could be made: nothing was sent, and the notebook server is not where it was."""

    code = "upstream-refused"


class UpstreamUnreachable(UpstreamError):
    """This process cannot make connections just now; the notebook server may be well."""

    status = 503
    code = "upstream-unreachable"
    retry_after = 5


class UpstreamClosed(UpstreamError):
    """The notebook server closed the connection before it answered."""

    code = "upstream-closed"


class UpstreamLost(UpstreamClosed):
    """A new connection was closed without a byte in answer to what may be sent again: the server may just have died."""


class UpstreamGone(UpstreamClosed):
    """A kept connection was closed under a request that the proxy must not send twice unasked."""

    status = 503
    code = "upstream-gone"
    retry_after = 1


class BadResponse(UpstreamError):
    """The notebook server answered what is not HTTP, or not safe to pass on."""

    code = "upstream-invalid"


class UpstreamTimeout(UpstreamError):
    """The notebook server sent no response headers within `upstream_timeout`."""

    status = 504
    code = "upstream-timeout"
