"""How much one user may ask for: so many requests a second, and so many at once. What they start is `quota`'s to limit.

Counted by this replica, in memory of a fixed size. No method awaits. Where nobody is asked who they are, nobody has a
limit: there is only one machine, or an operator who has said that everyone may.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from proxy.errors import LimitReached

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.auth.user import User

BURST: Final = 10.0  # seconds whose requests may come at once: a page has hundreds of files
_USERS: Final = 10_000
_ROUNDING: Final = 1e-6  # seconds; what sums of floats are wrong by is far less


class Buckets:
    """So many a second for each name, on average of `BURST` seconds.

    For each name it holds when its bucket will be empty; one that is empty is as good as none, so memory is bounded.

    Args:
        rate: how many a second.
        monotonic: what time is measured by.
        size: for how many names.
    """

    def __init__(self, rate: float, monotonic: Callable[[], float], *, size: int = _USERS) -> None:
        self._step = 1.0 / rate
        self._monotonic = monotonic
        self._size = size
        self._empty_at: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._empty_at)

    def take(self, name: str) -> float:
        """Count one, and return 0; or return the seconds until there is room for one."""
        now = self._monotonic()
        empty_at = self._empty_at.get(name, now)
        empty_at = max(empty_at, now)
        over = empty_at + self._step - now - BURST
        if over > _ROUNDING:
            return over
        if len(self._empty_at) >= self._size and name not in self._empty_at:
            self._make_room(now)
        self._empty_at[name] = empty_at + self._step
        return 0.0

    def _make_room(self, now: float) -> None:
        """Forget the empty ones; where there are none, a tenth of all, those first that were first."""
        kept = {name: at for name, at in self._empty_at.items() if at > now}
        for name in list(kept)[: max(1, self._size // 10) if len(kept) >= self._size else 0]:
            del kept[name]
        self._empty_at = kept


class Limits:
    """Refuses. One per gateway.

    Args:
        requests: how many a second.
        at_once: how many requests and websockets at once.
        monotonic: what time is measured by.
    """

    def __init__(
        self, requests: int = 100, at_once: int = 500, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._requests = requests
        self._at_once = at_once
        self._rates = Buckets(requests, monotonic)
        self._open: dict[str, int] = {}  # of those who have any

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, user: User) -> None:
        """Count a request until it leaves.

        Raises:
            LimitReached: it is one too many; it is not counted, and must not leave.
        """
        name = user.name
        if not name:
            return
        count = self._open.get(name, 0)
        if count >= self._at_once:
            raise LimitReached(
                "too-many-connections-of-user",
                f"{self._at_once} of your requests and websockets are open, and no more may be at once: close pages "
                "that you do not need.",
                5,
            )
        wait = self._rates.take(name)
        if wait:
            raise LimitReached(
                "too-many-requests", f"You send more than {self._requests} requests a second: wait a moment.", wait
            )
        self._open[name] = count + 1

    def leave(self, user: User) -> None:
        """Count it no more."""
        name = user.name
        if not name:
            return
        left = self._open[name] - 1
        if left:
            self._open[name] = left
        else:
            del self._open[name]
