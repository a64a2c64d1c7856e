"""Writes are gathered until the end of a turn, in their order, and none is forgotten."""

from __future__ import annotations

import asyncio

from proxy.relay.outbox import Outbox


class Holder:
    """Notes when it sends; may have somebody else added meanwhile."""

    def __init__(self, sent: list[Holder], outbox: Outbox, then: Holder | None = None) -> None:
        self._sent = sent
        self._outbox = outbox
        self._then = then

    def send_held(self) -> None:
        self._sent.append(self)
        if self._then is not None:
            self._outbox.add(self._then)


async def test_holders_send_in_the_next_turn_in_their_order() -> None:
    outbox, sent = Outbox(asyncio.get_running_loop()), list[Holder]()
    holders = [Holder(sent, outbox) for _ in range(3)]
    for holder in holders:
        outbox.add(holder)
    assert sent == []

    await asyncio.sleep(0)

    assert sent == holders


async def test_who_is_added_while_others_send_is_not_forgotten() -> None:
    outbox, sent = Outbox(asyncio.get_running_loop()), list[Holder]()
    late = Holder(sent, outbox)
    first, second = Holder(sent, outbox, late), Holder(sent, outbox, late)
    outbox.add(first)
    outbox.add(second)

    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert sent == [first, second, late, late]


async def test_each_turn_has_its_own_gathering() -> None:
    outbox, sent = Outbox(asyncio.get_running_loop()), list[Holder]()
    holder = Holder(sent, outbox)
    for turn in range(1, 4):
        outbox.add(holder)
        await asyncio.sleep(0)
        assert len(sent) == turn
