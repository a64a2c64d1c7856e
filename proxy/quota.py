"""How much one user may start: so many workspaces a minute, and so many that run at once.

What runs is counted from what the backend sees, so that it holds over replicas; two replicas that start something for
one user in the same moment do not see each other yet. Starts are counted by this replica, in memory of a fixed size.
No method awaits. Whoever asks as nobody has no limit: there is no authentication, or the library is used.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache

from proxy.errors import LimitReached
from proxy.workspace import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.backends import Backend
    from proxy.config import Config
    from proxy.tracked import Tracked
    from proxy.workspace import Key

WINDOW: Final = 60.0  # seconds
_USERS: Final = 10_000  # whose starts are remembered; a start more is worth less than memory without end
_LATER: Final = 30.0  # seconds after which somebody may have stopped something


class Quota:
    """Refuses. One per supervisor.

    Args:
        backend: knows what runs for whom, wherever it was started.
        tracked: what starts and runs here.
        config: `max_starts_per_user`, `max_running_per_user`.
        monotonic: what time is measured by.
    """

    def __init__(
        self, backend: Backend, tracked: Mapping[Key, Tracked], config: Config, monotonic: Callable[[], float]
    ) -> None:
        self._backend = backend
        self._tracked = tracked
        self._most_starts = config.max_starts_per_user
        self._most_running = config.max_running_per_user
        self._monotonic = monotonic
        self._starts: LRUCache[str, deque[float]] = LRUCache(_USERS)

    def refuse(self, key: Key, user: str) -> None:
        """Do nothing where a user may start a workspace that does not run.

        Raises:
            LimitReached: they may not, now.
        """
        if not user:
            return
        wait = self._wait(user)
        if wait > 0:
            raise LimitReached(
                "too-many-starts-of-user",
                f"You have started {self._most_starts} workspaces within a minute, and may start the next one later.",
                wait,
            )
        if self.running(user, but=key) >= self._most_running:
            raise LimitReached(
                "too-many-running",
                f"{self._most_running} of your workspaces run, and no more may at once: stop one of them first.",
                _LATER,
            )

    def began(self, user: str) -> None:
        """Count a start."""
        if user:
            starts = self._starts.get(user) or deque(maxlen=self._most_starts)
            starts.append(self._monotonic())
            self._starts[user] = starts

    def running(self, user: str, *, but: Key | None = None) -> int:
        """Return how many workspaces start or run for a user, besides one."""
        here = {key for key, tracked in self._tracked.items() if tracked.user == user}
        keys = {*self._backend.running_for(user), *here} - {but}
        return sum(key not in self._tracked or self._tracked[key].phase is not Phase.STOPPING for key in keys)

    def _wait(self, user: str) -> float:
        """Return the seconds until a user may start the next one."""
        starts = self._starts.get(user)
        if starts is None or len(starts) < self._most_starts:
            return 0.0
        return starts[0] + WINDOW - self._monotonic()
