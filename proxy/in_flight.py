"""Which requests are being carried, and for which workspace: what a shutdown waits for, and what it cuts off.

One per gateway. A stream of events is not waited for: it has no end of its own, and is ended by whoever serves it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from proxy.workspace import Key


class Cancellable(Protocol):
    """What carries a request: a task, or what needs none."""

    def cancel(self) -> object:
        """End it, in a way that no client can take for the end of an answer."""


class InFlight:
    """The requests and websockets that are under way."""

    def __init__(self) -> None:
        self._carriers: set[Cancellable] = set()
        self._carried: dict[Key, int] = {}
        self._is_quiet = asyncio.Event()  # set by the last one to leave while draining
        self._loop = asyncio.get_running_loop()
        self.is_draining = False
        """Each answer that begins now says that it is the last on its connection."""
        self.is_ending = False
        """Each answer is the last, whatever it has said."""

    def __len__(self) -> int:
        return len(self._carriers)

    def enter(self, carrier: Cancellable | None = None) -> Cancellable:
        """Count a request until its carrier, which is returned, leaves; by default the current task."""
        carrier = carrier or asyncio.current_task(self._loop)
        assert carrier is not None  # the server runs each request as a task
        self._carriers.add(carrier)
        return carrier

    def leave(self, carrier: Cancellable) -> None:
        """Count it no more."""
        self._carriers.discard(carrier)
        if self.is_draining and not self._carriers:
            self._is_quiet.set()

    def begin(self, carrier: Cancellable, key: Key) -> None:
        """Count a request and what is relayed to its workspace at once, until both are ended."""
        self._carriers.add(carrier)
        self.carry(key)

    def end(self, carrier: Cancellable, key: Key) -> None:
        """Count neither any more."""
        self.leave(carrier)
        self.put_down(key)

    def carry(self, key: Key) -> None:
        """Count what is relayed to a workspace, until it is put down."""
        self._carried[key] = self._carried.get(key, 0) + 1

    def put_down(self, key: Key) -> None:
        """Count it no more."""
        left = self._carried[key] - 1
        if left:
            self._carried[key] = left
        else:
            del self._carried[key]

    def connections(self, key: Key) -> int:
        """Return how many requests and websockets are being relayed to a workspace."""
        return self._carried.get(key, 0)

    def exempt(self) -> None:
        """Count the request of the current task no more: nobody waits for its end."""
        task = asyncio.current_task(self._loop)
        assert task is not None
        self.leave(task)

    def begin_draining(self) -> None:
        """Let each answer that begins from now on be the last on its connection.

        One that has begun has promised that the connection goes on, and a client may have sent its next request.
        """
        self.is_draining = True

    async def drain(self, seconds: float) -> bool:
        """Wait until nothing is under way, for at most so long; tell whether that was reached.

        From now on each answer is the last on its connection, those that have begun as well.
        """
        self.begin_draining()
        self.is_ending = True
        if not self._carriers:
            return True
        self._is_quiet.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._is_quiet.wait()
        except TimeoutError:
            return False
        return True

    def cut_off(self) -> None:
        """End what is under way, in a way that no client can take for the end of an answer."""
        for carrier in list(self._carriers):
            carrier.cancel()
