"""How a request waits for a workspace that does not run yet: a person sees a page, everyone else is held.

A start that a request has asked for goes on, whatever becomes of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy import answers, pages
from proxy.errors import NotRunning, StartFailed, StartStalled, StartTimeout
from proxy.pages.words import FAILED

if TYPE_CHECKING:
    from datetime import timedelta

    from aiohttp import web

    from proxy.activity import Wake
    from proxy.auth.user import User
    from proxy.errors import ProxyError
    from proxy.sight import Sight
    from proxy.target import Target
    from proxy.workspace import Handle, Key

_ACCEPTED: Final = 202


class Hold:
    """Waits. One per gateway.

    Args:
        sight: what a waiting person sees.
        wake: judges what starts a workspace.
        page_after: how long a navigation is held before it is answered with the page.
        timeout: how long everything else is held.
    """

    def __init__(self, sight: Sight, wake: Wake, *, page_after: timedelta, timeout: timedelta) -> None:
        self._sight = sight
        self._supervisor = sight.supervisor
        self._wake = wake
        self._page_after = page_after.total_seconds()
        self._timeout = timeout.total_seconds()

    async def find(self, request: web.BaseRequest, key: Key, target: Target, user: User, *, is_upgrade: bool) -> Handle:
        """Return the handle of what runs; start it, or wait for the start in flight, if the request may.

        Raises:
            NotRunning: it does not run, and this request does not start it.
            ProxyError: it does not run in time, or cannot; `answer` tells the client.
        """
        handle = self._supervisor.running(key)
        if handle is not None:
            return handle
        if not self._supervisor.is_starting(key) and not self._wake.is_meant(
            request.method, target.below, target.query, request.headers, base=target.base, is_websocket=is_upgrade
        ):
            key.safe_deployment_name()
            raise NotRunning(key.workspace_id)
        patience = self._page_after if is_navigation(request) else self._timeout
        return await self._supervisor.ensure_running(key, patience, user=user.name)

    def answer(self, request: web.BaseRequest, key: Key, target: Target, user: User, error: ProxyError) -> web.Response:
        """Tell the client of an error that came while its workspace was waited for, or talked to."""
        if is_navigation(request) and isinstance(error, StartTimeout | StartStalled | StartFailed):
            report = self._sight.report(key)
            view = self._sight.view(report, user, to=target.wire.decode("ascii"))
            if not isinstance(error, StartFailed):
                return answers.of_page(pages.workspace(view, go="here"), status=_ACCEPTED)
            if report.failure is not None and view["state"] == FAILED and view["code"] == error.code:
                failed = answers.of_page(pages.workspace(view, go="here"), status=error.status)
                if error.retry_after is not None:
                    failed.headers["Retry-After"] = str(error.retry_after)
                return failed
        status_url = f"{target.base}_proxy/status" if error.retry_after is not None else ""
        return answers.of_error(request, error, status_url=status_url)


def is_navigation(request: web.BaseRequest) -> bool:
    """Tell whether a person's browser asks for a page that it can ask for again."""
    return request.method == "GET" and not request.body_exists and answers.is_for_person(request)
