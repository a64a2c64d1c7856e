"""`/ws/<id>/_proxy/`: what the proxy itself says below a workspace, so that an ingress needs to route `/ws/` alone.

Nothing here starts the workspace or counts as use of it. Everything else below `/ws/<id>/` is the notebook server's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

from proxy import answers, pages
from proxy.errors import NotFound, ProxyError
from proxy.sight import WorkspaceFeed
from proxy.target import parse_target

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.actions import Actions
    from proxy.auth.user import User
    from proxy.events import Streams
    from proxy.sight import Sight
    from proxy.target import Target
    from proxy.workspace import Key

PREFIX: Final = "_proxy"
_ACTIONS: Final = ("extend", "stop")
_SHOWN: Final = ("", "status", "events")


def is_reserved(target: Target) -> bool:
    """Tell whether a target below a workspace is the proxy's own."""
    return target.below == PREFIX or target.below.startswith(f"{PREFIX}/")


class Reserved:
    """Answers below `/ws/<id>/_proxy/`.

    Args:
        sight: what is shown.
        actions: what is done.
        streams: carries events.
    """

    def __init__(self, sight: Sight, actions: Actions, streams: Streams) -> None:
        self._sight = sight
        self._actions = actions
        self._streams = streams

    async def answer(self, request: web.BaseRequest, key: Key, target: Target, user: User) -> web.StreamResponse:
        """Answer a request for which `is_reserved` holds.

        Raises:
            ProxyError: it is refused.
        """
        key.safe_deployment_name()
        name = target.below.removeprefix(PREFIX).removeprefix("/")
        base = f"{target.base}{PREFIX}/"
        if name not in (*_ACTIONS, *_SHOWN):
            raise NotFound(f"Below {base} there are status, events, extend and stop.")
        if (told := answers.allowing(request, "POST" if name in _ACTIONS else "GET")) is not None:
            return told
        if name in _ACTIONS:
            return await self._actions.act(request, key, name, user, back=base)
        if name == "events":
            to = wanted(target, request.headers.get("Host", ""))
            return await self._streams.serve(request, WorkspaceFeed(self._sight, key, user, to))
        if name == "status":
            return answers.of_json(self._sight.status(self._sight.report(key)))
        return self._page(key, target, user, request.headers.get("Host", ""))

    def _page(self, key: Key, target: Target, user: User, host: str) -> web.StreamResponse:
        """Show the workspace; send on who waits for it as soon as it runs."""
        if target.below == PREFIX:
            return answers.to(f"{target.base}{PREFIX}/", status=307)
        to = wanted(target, host)
        view = self._sight.view(self._sight.report(key), user, to=to)
        if view["is_running"] and to:
            return answers.to(to)
        return answers.of_page(pages.workspace(view, go=to))


def wanted(target: Target, host: str) -> str:
    """Return the path and query in `to`, if it leads to the same workspace's notebook server; else nothing."""
    given = parse_qs(target.query or "").get("to", [""])[0]
    if not given.startswith(target.base):
        return ""
    try:
        found = parse_target(given, host)
    except ProxyError:
        return ""
    return "" if is_reserved(found) else found.wire.decode("ascii")
