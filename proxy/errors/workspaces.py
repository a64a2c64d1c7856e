"""What cannot be done with a workspace: start it, stop it, keep it, change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.errors.base import ProxyError

if TYPE_CHECKING:
    from datetime import datetime


class ShuttingDown(ProxyError):
    """The proxy is stopping and starts nothing any more."""

    status = 503
    code = "shutting-down"
    title = "The proxy is restarting"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The proxy is shutting down and takes on nothing new; try again in a moment.")


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


class NoLog(ProxyError):
    """There is no log of a notebook server: none has run, or what it wrote is gone with it."""

    status = 404
    code = "no-log"
    title = "There is no log"


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
