"""What people and programs may do to a workspace: start, stop and extend it, and set its own settings.

Files are never touched. An action has an unsafe method and comes from a page of ours, or from no page at all. A program
is answered with the workspace as it is then; a person's form is sent back to a page.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from proxy import answers
from proxy.errors import BadRequest
from proxy.notes import read_notes, settings_text
from proxy.settings_types import format_value, parse_duration
from proxy.workspace import Phase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import timedelta

    from aiohttp import web

    from proxy.auth.user import User
    from proxy.sight import Sight
    from proxy.workspace import Key
    from proxy.workspace_settings import WorkspaceSettings


_REASON: Final = "Somebody asked for it."


class Actions:
    """Carries actions out.

    Args:
        sight: what is answered.
        patience: how long a program waits for a stop, which goes on after it.
    """

    NAMES: Final = frozenset({"start", "stop", "extend", "settings"})

    def __init__(self, sight: Sight, *, patience: timedelta) -> None:
        self._sight = sight
        self._supervisor = sight.supervisor
        self._patience = patience.total_seconds()
        self._changing = asyncio.Lock()

    async def act(self, request: web.BaseRequest, key: Key, name: str, user: User, *, back: str) -> web.StreamResponse:
        """Do it, and answer.

        Args:
            request: checked for where it comes from; its method is judged by the caller.
            key: the workspace.
            name: one of `NAMES`.
            user: who asks, and may.
            back: where a person's form is sent to.

        Raises:
            ProxyError: it is refused, or failed.
        """
        key.safe_deployment_name()
        is_person = answers.is_for_person(request)
        fields = await answers.read_fields(request)
        actions: dict[str, Callable[[Key, dict[str, Any], bool], Awaitable[int]]] = {
            "start": partial(self._start, user),
            "stop": self._stop,
            "extend": self._extend,
            "settings": self._set,
        }
        status = await actions[name](key, fields, is_person)
        if is_person:
            return answers.to(back)
        return answers.of_json(self._sight.status(self._sight.report(key)), status=status)

    async def _start(self, user: User, key: Key, fields: dict[str, Any], is_person: bool) -> int:  # noqa: ARG002
        self._supervisor.begin(key, user.name)
        return 200 if self._supervisor.running(key) else 202

    async def _stop(self, key: Key, fields: dict[str, Any], is_person: bool) -> int:
        """Stop it. A person sees on the page how that goes on, and a program may not want to wait for the end."""
        does_wait = fields.get("wait", True)
        if not isinstance(does_wait, bool):
            raise BadRequest("bad-wait", "`wait` must be true or false.")
        try:
            async with asyncio.timeout(self._patience if does_wait and not is_person else 0):
                await self._supervisor.stop(key, _REASON)
        except TimeoutError:
            return 200 if self._sight.report(key).phase is Phase.STOPPED else 202
        return 200

    async def _extend(self, key: Key, fields: dict[str, Any], is_person: bool) -> int:  # noqa: ARG002
        by = fields.get("by")
        try:
            self._supervisor.extend(key, None if by in (None, "") else parse_duration(by))
        except ValueError as error:
            raise BadRequest("bad-duration", f"`by` must be {error}.") from None
        return 200

    async def _set(self, key: Key, fields: dict[str, Any], is_person: bool) -> int:  # noqa: ARG002
        async with self._changing:  # a change is read, made and stored before the next one reads
            settings = changed(self._sight.report(key).settings, fields)
            await self._supervisor.set_settings(key, settings)
        return 200


def changed(settings: WorkspaceSettings, fields: Mapping[str, Any]) -> WorkspaceSettings:
    """Return settings with what a body says in their place; null, or nothing in a form, is what the operator has set.

    Raises:
        BadRequest: there is no such setting, or it cannot have this value.
    """
    said = settings_text(settings)
    for name, value in fields.items():
        known = name.replace("_", "-")
        if known not in said or not isinstance(value, str | bool | None):
            raise BadRequest("bad-setting", f"{name[:80]!r} is no setting of a workspace, or has no such value.")
        said[known] = None if value is None else format_value(value)
    notes = read_notes(said)
    if notes.complaints:
        raise BadRequest("bad-setting", notes.complaints[0])
    return notes.settings
