"""Clients whose next request takes the express way, and the proof that it did."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from proxy.express import ExpressWay
from tests.relay.origin import PLAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.relay.express import ExpressExchange
    from proxy.relay.precedent import Precedent
    from tests.gateway.conftest import Proxy
    from tests.relay.origin import Wire

WARM = b"/ws/demo/warm"


def block_of(request: bytes) -> bytes:
    """All of a request's head below its first line."""
    return request[request.index(b"\r\n") + 2 : request.index(b"\r\n\r\n") + 4]


async def warmed(proxy: Proxy, request: bytes) -> Wire:
    """Return a client's connection on which a GET with the same headers has been answered.

    The test that plays the notebook server is given its connection again.
    """
    client = await proxy.sent(b"GET %b HTTP/1.1\r\n" % WARM, block_of(request))
    if proxy.origin.script is None:
        wire, _ = await proxy.origin.asked()
        wire.send(PLAIN)
        proxy.origin.give_back(wire)
    assert (await client.take_response()).status == 200
    return client


@contextmanager
def watched() -> Iterator[list[str]]:
    """Yield the targets that take the express way, as they come."""
    taken: list[str] = []
    begin = ExpressWay.begin

    def watch(self: ExpressWay, precedent: Precedent, target: str) -> ExpressExchange | None:
        begun = begin(self, precedent, target)
        if begun is not None:
            taken.append(target)
        return begun

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExpressWay, "begin", watch)
        yield taken
