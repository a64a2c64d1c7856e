"""Open websockets are judged again and again, and one that is hard to judge holds up no other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from proxy.auth.access import Access
from proxy.auth.user import User
from proxy.auth.vigil import LOOK_EVERY, NOT_ALLOWED, Vigil, Visit
from tests.gateway.conftest import HandClock
from tests.relay.origin import until

if TYPE_CHECKING:
    from collections.abc import Hashable

MANY = 100


class Silent:
    """A service that never says who may enter."""

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, *_: Any, **__: Any) -> None:
        self.asked += 1
        await asyncio.Event().wait()


class Open:
    """One websocket for each visit."""

    def __init__(self, *visits: Visit) -> None:
        self.tunnels = {visit: Tunnel() for visit in visits}

    def visits(self) -> dict[Hashable, list[Tunnel]]:
        return {visit: [tunnel] for visit, tunnel in self.tunnels.items() if not tunnel.codes}


class Tunnel:
    def __init__(self) -> None:
        self.codes: list[int] = []

    def close(self, code: int) -> None:
        self.codes.append(code)


async def test_a_credential_ends_in_time_though_the_service_is_silent_about_many_others() -> None:
    clock, silent = HandClock(), Silent()
    end = clock.now().timestamp() + 2.5 * LOOK_EVERY
    asked_about = [Visit(User("bob", (), end + 9999), f"w{number}") for number in range(MANY)]
    ends = [Visit(User("alice", names, end), name) for names, name in ((("a",), "a"), ((), "b"))]
    websockets = Open(*asked_about, *ends)
    access = Access(authorizer=cast("Any", silent), clock=clock)
    running = asyncio.create_task(Vigil(access, cast("Any", websockets), clock).run())
    try:
        for _ in range(3):
            assert not [visit for visit, tunnel in websockets.tunnels.items() if tunnel.codes]
            await until(lambda: clock.sleepers)
            clock.advance(LOOK_EVERY)
        await until(lambda: websockets.tunnels[ends[0]].codes)

        assert silent.asked
        assert [websockets.tunnels[visit].codes for visit in ends] == [[NOT_ALLOWED]] * 2
        assert not [visit for visit in asked_about if websockets.tunnels[visit].codes]
    finally:
        running.cancel()
        await asyncio.wait([running])
