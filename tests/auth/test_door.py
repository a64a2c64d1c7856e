"""The door before the gateway: asked before anything is started, and whatever the request is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.auth.access import Access
from proxy.auth.door import Door
from proxy.auth.user import EVERYONE, User
from proxy.errors import Forbidden

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.mark.parametrize(
    ("theirs", "opened", "closed"),
    [
        ((), [], ["demo", "", "*"]),
        (("demo",), ["demo"], ["demo2", "dem", "Demo", ""]),
        (("team-*", "x"), ["team-", "team-a", "x"], ["team", "xx", "a-team-b"]),
        (("*",), ["demo", "a"], []),
        (("[ab]?",), ["a1", "bz"], ["c1", "a", "a12"]),
    ],
)
async def test_a_user_may_open_what_their_credential_names(
    theirs: tuple[str, ...], opened: Sequence[str], closed: Sequence[str]
) -> None:
    access, user = Access(), User("alice", theirs)

    for workspace_id in opened:
        assert access.admits(user, workspace_id, "GET") is True
        await access.authorise(user, workspace_id, "GET")
    for workspace_id in closed:
        assert access.admits(user, workspace_id, "GET") is False
        with pytest.raises(Forbidden):
            await access.authorise(user, workspace_id, "GET")


async def test_where_nobody_is_asked_everyone_may_open_everything() -> None:
    assert Door().admits(EVERYONE, "demo", "DELETE") is True
