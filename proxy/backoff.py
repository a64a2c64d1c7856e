"""How long a start that failed is not tried again: doubling with each failure in a row, per workspace.

An outage of what starts notebook servers is nobody's failure: it is waited for as long as it asks, and doubles nothing.
Bounded in memory: the records live in a `TTLCache` and the oldest are forgotten first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cachetools import TTLCache

from proxy.errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.errors import StartFailed
    from proxy.workspace import Key

FIRST: Final = 1.0  # seconds
LIMIT: Final = 300.0
_RECORDS: Final = 100_000


@dataclass(frozen=True, slots=True)
class _Record:
    error: StartFailed
    until: float  # on the monotonic clock
    failures: int  # of its own, in a row


class BackOffs:
    """The failures of late.

    Args:
        monotonic: returns seconds; what the back-off is measured by.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # A record outlives its own back-off, so that the next failure still counts as one in a row.
        self._records: TTLCache[Key, _Record] = TTLCache(_RECORDS, 2 * LIMIT, monotonic)

    def record(self, key: Key, error: StartFailed) -> int:
        """Note a failure, set its `retry_after`, and return that: whole seconds until the next try is allowed."""
        past = self._records.pop(key, None)
        failures, seconds = past.failures if past else 0, FIRST
        if not isinstance(error, BackendUnavailable):
            failures += 1
            seconds = FIRST * 2 ** min(failures - 1, 16)
        seconds = max(seconds, error.retry_after or 0)
        error.retry_after = math.ceil(min(seconds, LIMIT))
        self._records[key] = _Record(error.again(None), self._monotonic() + error.retry_after, failures)
        return error.retry_after

    def clear(self, key: Key) -> None:
        """Forget the failures: it runs."""
        self._records.pop(key, None)

    def refuse(self, key: Key) -> None:
        """Do nothing where a try is allowed now.

        Raises:
            StartFailed: what failed last time, with the seconds that remain.
        """
        record = self._records.get(key)
        if record is None:
            return
        remaining = record.until - self._monotonic()
        if remaining > 0:
            raise record.error.again(math.ceil(remaining))
