"""The dashboard at `/`, the API below `/api/`, and `/my/`: the workspaces, and what may be done to them.

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
from proxy.jupyterhub_paths import lead_on
from proxy.sight import DashboardFeed
from proxy.version import __version__

if TYPE_CHECKING:
    from proxy.actions import Actions
    from proxy.auth.door import Door
    from proxy.auth.user import User
    from proxy.events import Streams
    from proxy.sight import Sight
    from proxy.target import Target
    from proxy.workspace import Key

API: Final = "/api/"
_MY: Final = "/my"
_WORKSPACES: Final = "/api/workspaces"
_SIGN_OUT: Final = "/api/sign-out"
_MOST: Final = 1_000
_USUAL: Final = 100
_LINES, _MOST_LINES = 200, 5_000
_OPENAPI: Final = (files("proxy") / "openapi.json").read_text(encoding="utf-8").replace("{version}", __version__)
_NUMBER: Final = re.compile(r"[0-9]{1,6}")


def _is_here(target: Target) -> bool:
    return target.path == "/" or target.path.startswith(API)


def workspace_of(target: Target) -> str | None:
    """Return the id of the workspace that a target is about: below `/ws/`, or of the API; None if about no single one.

    An id of the API may be none; it is judged like any other, so that nobody learns from the answer.
    """
    if target.workspace_id is not None or not target.path.startswith(f"{_WORKSPACES}/"):
        return target.workspace_id
    return target.path[len(_WORKSPACES) + 1 :].partition("/")[0]


class Admin:
    """Answers outside every workspace.

    Args:
        sight: what is shown.
        actions: what is done.
        streams: carries events.
        is_open: nobody is asked who they are, at an address that others may reach.
        knows_hub: JupyterHub's addresses lead on.
        door: by which people leave.
    """

    def __init__(
        self,
        sight: Sight,
        actions: Actions,
        streams: Streams,
        *,
        is_open: bool = False,
        knows_hub: bool = False,
        door: Door,
    ) -> None:
        self._door = door
        self._is_open = is_open
        self._knows_hub = knows_hub
        self._sight = sight
        self._actions = actions
        self._streams = streams

    async def answer(self, request: web.BaseRequest, target: Target, user: User) -> web.StreamResponse:
        """Answer a request outside every workspace.

        Raises:
            ProxyError: it is refused.
        """
        if (led := self._lead(target, user)) is not None:
            return led
        if not _is_here(target):
            raise NotFound("Workspaces are at /ws/<id>/, and the list of those that run is at /.")
        if target.path.startswith(f"{_WORKSPACES}/"):
            return await self._below(request, user, target.query, *target.path[len(_WORKSPACES) + 1 :].split("/"))
        if target.path == _SIGN_OUT:
            return answers.allowing(request, "POST") or self._sign_out(request)
        if target.path not in ("/", _WORKSPACES, "/api/profiles", "/api/events", "/api/openapi.json"):
            raise NotFound("The API is described at /api/openapi.json.")
        if (told := answers.allowing(request, "GET")) is not None:
            return told
        if target.path == "/api/events":
            return await self._streams.serve(request, DashboardFeed(self._sight, user))
        return self._show(target, user)

    def _lead(self, target: Target, user: User) -> web.Response | None:
        """Lead on from the addresses that only lead; None at any other."""
        if target.path == _MY or target.path.startswith(f"{_MY}/"):
            return self._go_to_own(target, user)
        if self._knows_hub and (place := lead_on(target.path, self._sight.access.of)) is not None:
            return answers.to(place + ("" if target.query is None else f"?{target.query}"), status=307)
        return None

    def _sign_out(self, request: web.BaseRequest) -> web.Response:
        """Take a browser's cookies away, and what they hold at every workspace with them."""
        if not self._door.has_exit:
            raise NotFound("Nobody signs in here, or with a proxy before this one: sign out there.")
        if answers.is_for_person(request):
            answer = answers.of_page(pages.signed_out(self._door.logout_url))
        else:
            answer = web.Response(status=204, headers=pages.HEADERS)
        for value in self._door.leave(request):
            answer.headers.add("Set-Cookie", value)
        return answer

    def _go_to_own(self, target: Target, user: User) -> web.Response:
        """Send a user on to the same path in their own workspace, whatever the method."""
        own = self._sight.access.own(user)
        if own is None:
            raise NotFound("Nobody has a workspace of their own here; workspaces are at /ws/<id>/.")
        below = target.path[len(_MY) :] or "/"
        query = "" if target.query is None else f"?{target.query}"
        return answers.to(f"/ws/{own}{below}{query}", status=307)

    def _show(self, target: Target, user: User) -> web.StreamResponse:
        """Answer a GET outside every workspace."""
        match target.path:
            case "/":
                return self._dashboard(target, user)
            case "/api/workspaces":
                return self._list(parse_qs(target.query or "", keep_blank_values=True), user)
            case "/api/profiles":
                offered = self._sight.supervisor.profiles
                told = [{"name": profile.name, "description": profile.description} for profile in offered]
                return answers.of_json({"profiles": told})
            case _:
                headers = {**pages.HEADERS, "Content-Type": "application/json"}
                return web.Response(body=_OPENAPI.encode(), headers=headers)

    async def _below(
        self, request: web.BaseRequest, user: User, query: str | None, name: str, *rest: str
    ) -> web.StreamResponse:
        """Answer at `/api/workspaces/<id>` and below it."""
        key = self._sight.key_of(name)
        key.safe_deployment_name()
        what = "/".join(rest)
        if what not in ("", "log", *self._actions.NAMES) or (rest and not what):
            raise NotFound("Below a workspace of the API there are log, start, stop, extend and settings.")
        methods = {"": ("GET", "DELETE"), "log": ("GET",), "settings": ("GET", "PATCH", "POST")}.get(what, ("POST",))
        if (told := answers.allowing(request, *methods)) is not None:
            return told
        if request.method not in ("GET", "HEAD"):
            return await self._actions.act(request, key, what or "stop", user, back="/")
        if what == "log":
            return await self._log(key, parse_qs(query or "", keep_blank_values=True))
        status = self._sight.status(self._sight.report(key))
        return answers.of_json(status["settings"] if what else status)

    async def _log(self, key: Key, query: dict[str, list[str]]) -> web.StreamResponse:
        """Tell the last lines that its notebook server has written."""
        text = await self._sight.supervisor.log(key, _number(query, "lines", _LINES, _MOST_LINES))
        headers = {**pages.HEADERS, "Content-Type": "text/plain; charset=utf-8"}
        return web.Response(body=text.encode(errors="replace"), headers=headers)

    def _dashboard(self, target: Target, user: User) -> web.StreamResponse:
        """Show the workspaces, or open the one that is asked for."""
        asked = parse_qs(target.query or "").get("workspace")
        if asked:
            key = self._sight.key_of(asked[0].strip().lower())
            return answers.to(f"/ws/{quote(key.workspace_id)}/lab")
        shown, summary = self._sight.rows(user)
        views = [self._sight.view(report, user, is_row=True) for report in shown]
        return answers.of_page(
            pages.dashboard(
                views,
                summary=summary,
                events_url="/api/events",
                profiles=self._sight.supervisor.profiles,
                is_open=self._is_open,
                user=user.name if self._door.has_exit else "",
            )
        )

    def _list(self, query: dict[str, list[str]], user: User) -> web.StreamResponse:
        """List the workspaces by id, a page at a time."""
        limit = _number(query, "limit", _USUAL, _MOST)
        after = query.get("after", [""])[-1]
        found = [key for key in self._sight.known(user) if key.workspace_id > after]
        page = found[:limit]
        told = [self._sight.status(self._sight.report(key)) for key in page]
        return answers.of_json({"workspaces": told, "next": page[-1].workspace_id if len(found) > len(page) else None})


def _number(query: dict[str, list[str]], name: str, usual: int, most: int) -> int:
    """Return a number of the query.

    Raises:
        BadRequest: it is none, or out of range.
    """
    text = query.get(name, [str(usual)])[-1]
    if not _NUMBER.fullmatch(text) or not 0 < int(text) <= most:
        raise BadRequest(f"bad-{name}", f"`{name}` must be a number from 1 to {most}.")
    return int(text)
