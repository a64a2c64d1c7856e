"""Writes of one turn of the event loop, made one behind the other at its end.

A write to a socket wakes whoever waits at its other side, and runs through the system's network code; mixed with
everything else that a turn does, each of them finds its peer asleep and the processor's caches cold. Where little is
under way there is nothing to gather, and nobody should hold anything back.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio


class Holder(Protocol):
    """A connection that holds bytes back; it is the one who sees to it that nothing overtakes them."""

    def send_held(self) -> None:
        """Write what is held back; nothing where that has been done. Never raises."""


class Outbox:
    """Lets connections send in the next turn what they hold back in this one. One per event loop.

    Args:
        loop: the event loop.
    """

    __slots__ = ("_call_soon", "_holders")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._call_soon = loop.call_soon
        self._holders: deque[Holder] = deque()

    def add(self, holder: Holder) -> None:
        """Have it send what it holds, behind those that were added before and ahead of whatever comes meanwhile."""
        if not self._holders:
            self._call_soon(self._send)
        self._holders.append(holder)

    def _send(self) -> None:
        holders = self._holders
        while holders:
            holders.popleft().send_held()
