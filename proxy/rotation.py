"""A secret that is replaced while the proxy runs: the new one holds at once, the old one a while longer.

Replicas see a changed file at different times. So what is signed here is signed with the old one until others must have
seen the new one; both are accepted. Knows nothing of files, and shows no value.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

from proxy.errors import ConfigError
from proxy.settings_sources import read_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.fresh import Fresh

SETTLE: Final = (
    120.0  # seconds until every replica has seen what was replaced: a kubelet takes one minute or a little more
)


class RotatingSecret:
    """What holds now. Called, it returns that: the one to sign with first; empty before there is any.

    Args:
        overlap: how long one that was replaced is still accepted.
        clock: tells when that is over.
    """

    def __init__(self, overlap: timedelta, clock: Clock) -> None:
        self._overlap = overlap.total_seconds()
        self._clock = clock
        self._until: dict[str, float] = {}  # the newest last
        self._settled = -math.inf
        self._values: tuple[str, ...] = ()
        self._observers: list[Callable[[], None]] = []

    def __call__(self) -> tuple[str, ...]:
        """Return what is accepted, the one to sign with first."""
        return self._values

    def __repr__(self) -> str:
        """Tell how many there are."""
        return f"RotatingSecret({len(self._until)} values)"

    def observe(self, observer: Callable[[], None]) -> None:
        """Call this whenever what is accepted has changed."""
        self._observers.append(observer)

    def change(self, value: str) -> None:
        """Let this one hold from now on, and what held before for a while."""
        newest = next(reversed(self._until), None)
        if value == newest:
            return
        now = self._clock.monotonic()
        if newest is not None:
            self._until[newest] = now + self._overlap
            self._settled = now + min(SETTLE, self._overlap / 2)
        self._until.pop(value, None)
        self._until[value] = math.inf
        self.look()

    def look(self) -> None:
        """Forget what holds no more, as often as this is called."""
        now = self._clock.monotonic()
        self._until = {value: until for value, until in self._until.items() if now < until}
        values = tuple(reversed(self._until))
        if now < self._settled and len(values) > 1:
            values = (values[1], values[0], *values[2:])
        has_changed = set(values) != set(self._values)
        self._values = values
        if has_changed:
            for observer in self._observers:
                observer()


def follow_file(name: str, config: Config, fresh: Fresh, use: Callable[[str], None]) -> None:
    """Tell what a secret's file holds, now and whenever that has changed; nothing where the setting came from no file.

    What the setting may not be is not told: it stays as it was, and the log says why without a word of it.

    Raises:
        OSError: the file cannot be read any more.
        ValueError: it does not hold what it held a moment ago.
    """
    path = config.file_of(name)
    if path is None:
        return

    def read() -> None:
        try:
            value = read_value(f"{name}_file", path)
            config.model_copy(update={name: SecretStr(value)}).check()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        use(value)

    fresh.watch(name, (path,), read)
