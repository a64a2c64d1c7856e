"""Wait for work that others share: nothing here cancels what is waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from proxy.clock import Clock

_T = TypeVar("_T")


async def is_in_time(clock: Clock, deadline: float, *these: asyncio.Future[Any]) -> bool:
    """Wait until one is done or the deadline (of the monotonic clock) passes; tell which."""
    timer = asyncio.create_task(clock.sleep(max(deadline - clock.monotonic(), 0)))
    try:
        done, _ = await asyncio.wait((*these, timer), return_when=asyncio.FIRST_COMPLETED)
    finally:
        timer.cancel()
    return done != {timer}


async def unless_cut_off(work: Coroutine[Any, Any, _T]) -> _T:
    """Make an error of a cancellation that nobody here asked for, which would leave a start or stop without an end.

    Raises:
        RuntimeError: it was cancelled from within.
    """
    try:
        return await work
    except asyncio.CancelledError as cut_off:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise RuntimeError("cancelled from within") from cut_off
