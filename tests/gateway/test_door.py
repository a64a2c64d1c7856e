"""Before the door nothing happens: who is not known, or may not enter, starts nothing and learns nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.auth.door import Door
from proxy.auth.user import User
from proxy.errors import Unauthenticated

if TYPE_CHECKING:
    from aiohttp import web

    from proxy.target import Target
    from tests.gateway.conftest import Launch

EVERYWHERE = (
    "/", "/api/workspaces", "/api/openapi.json", "/api/nothing", "/nothing", "/ws/", "/ws/demo", "/ws/demo/lab",
    "/ws/demo/_proxy/status", "/api/workspaces/demo", "/api/workspaces/demo/start", "/ws/never-there/lab",
)  # fmt: skip


class Named:
    """Knows who asks by the first letter of `X-Test`, and nobody without it."""

    def known(self, request: web.BaseRequest, target: Target) -> User | None:
        return None

    async def identify(self, request: web.BaseRequest, target: Target) -> User:
        name = request.headers.get("X-Test")
        if name is None:
            raise Unauthenticated
        return User(name, ("other",))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "OPTIONS"])
async def test_who_is_not_known_starts_nothing_wherever_they_ask(launch: Launch, method: str) -> None:
    proxy = await launch(door=Door(Named()))

    for path in EVERYWHERE:
        answer = await proxy.http.request(method, path, allow_redirects=False)

        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), path
    assert not proxy.backend.starts
    assert not proxy.supervisor.known()


@pytest.mark.parametrize("path", ["/ws/{}", "/ws/{}/lab", "/ws/{}/_proxy/", "/api/workspaces/{}"])
async def test_a_workspace_of_somebody_else_answers_as_one_that_does_not_exist(launch: Launch, path: str) -> None:
    proxy = await launch(door=Door(Named()))
    answers = []

    for workspace_id in ("demo", "never-there", "NO", "a" * 80):
        answer = await proxy.http.get(path.format(workspace_id), headers={"X-Test": "alice"}, allow_redirects=False)
        answers.append((answer.status, await answer.json(content_type=None)))

    assert [status for status, _ in answers] == [403] * 4
    assert all(told == answers[0][1] for _, told in answers)
    assert not proxy.backend.starts
    theirs = await proxy.http.get("/ws/other/_proxy/status", headers={"X-Test": "alice"})
    assert theirs.status == 200
