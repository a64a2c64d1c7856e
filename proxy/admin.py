"""The dashboard at `/` and the API below `/api/`: the workspaces, and what may be done to them.

Nothing here starts a workspace unasked or counts as use of it. `openapi.json` describes the API.
"""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote

from aiohttp import web

from proxy import answers, pages
from proxy.errors import BadRequest, NotFound
from proxy.sight import DashboardFeed
from proxy.version import __version__

if TYPE_CHECKING:
    from proxy.actions import Actions
    from proxy.events import Streams
    from proxy.sight import Sight
    from proxy.target import Target

API: Final = "/api/"
_WORKSPACES: Final = "/api/workspaces"
_MOST: Final = 1_000
_USUAL: Final = 100
_OPENAPI: Final = (files("proxy") / "openapi.json").read_text(encoding="utf-8").replace("{version}", __version__)
_NUMBER: Final = re.compile(r"[0-9]{1,6}")


def is_admin(target: Target) -> bool:
    """Tell whether a target outside every workspace is the dashboard's or the API's."""
    return target.path == "/" or target.path.startswith(API)


class Admin:
    """Answers at `/` and below `/api/`.

    Args:
        sight: what is shown.
        actions: what is done.
        streams: carries events.
    """

    def __init__(self, sight: Sight, actions: Actions, streams: Streams) -> None:
        self._sight = sight
        self._actions = actions
        self._streams = streams

    async def answer(self, request: web.BaseRequest, target: Target) -> web.StreamResponse:
        """Answer a request for which `is_admin` holds.

        Raises:
            ProxyError: it is refused.
        """
        if target.path.startswith(f"{_WORKSPACES}/"):
            return await self._workspace(request, *target.path[len(_WORKSPACES) + 1 :].split("/"))
        if target.path not in ("/", _WORKSPACES, "/api/events", "/api/openapi.json"):
            raise NotFound("The API is described at /api/openapi.json.")
        if (told := answers.allowing(request, "GET")) is not None:
            return told
        match target.path:
            case "/":
                return self._dashboard(target)
            case "/api/workspaces":
                return self._list(parse_qs(target.query or "", keep_blank_values=True))
            case "/api/openapi.json":
                return web.Response(
                    body=_OPENAPI.encode(), headers={**pages.HEADERS, "Content-Type": "application/json"}
                )
            case _:
                return await self._streams.serve(request, DashboardFeed(self._sight))

    async def _workspace(self, request: web.BaseRequest, name: str, *rest: str) -> web.StreamResponse:
        """Answer at `/api/workspaces/<id>` and below it."""
        key = self._sight.key_of(name)
        key.safe_deployment_name()
        if not rest:
            if (told := answers.allowing(request, "GET", "DELETE")) is not None:
                return told
            if request.method == "DELETE":
                return await self._actions.act(request, key, "stop", back="/")
            return answers.of_json(self._sight.status(self._sight.report(key)))
        if len(rest) > 1 or rest[0] not in self._actions.NAMES:
            raise NotFound("Below a workspace of the API there are start, stop and extend.")
        if (told := answers.allowing(request, "POST")) is not None:
            return told
        return await self._actions.act(request, key, rest[0], back="/")

    def _dashboard(self, target: Target) -> web.StreamResponse:
        """Show the workspaces, or open the one that is asked for."""
        asked = parse_qs(target.query or "").get("workspace")
        if asked:
            key = self._sight.key_of(asked[0].strip().lower())
            return answers.to(f"/ws/{quote(key.workspace_id)}/lab")
        shown, summary = self._sight.rows()
        views = [self._sight.view(report, is_row=True) for report in shown]
        return answers.of_page(pages.dashboard(views, summary=summary, events_url="/api/events"))

    def _list(self, query: dict[str, list[str]]) -> web.StreamResponse:
        """List the workspaces by id, a page at a time."""
        limit = query.get("limit", [str(_USUAL)])[-1]
        if not _NUMBER.fullmatch(limit) or not 0 < int(limit) <= _MOST:
            raise BadRequest("bad-limit", f"`limit` must be a number from 1 to {_MOST}.")
        after = query.get("after", [""])[-1]
        found = [key for key in self._sight.known() if key.workspace_id > after]
        page = found[: int(limit)]
        told = [self._sight.status(self._sight.report(key)) for key in page]
        return answers.of_json({"workspaces": told, "next": page[-1].workspace_id if len(found) > len(page) else None})
