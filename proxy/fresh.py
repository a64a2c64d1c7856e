"""Read files again when they have changed, without anybody telling: certificates, secrets.

What a name leads to is compared, not when it was written: Kubernetes replaces a mounted Secret by moving a symbolic
link. What cannot be used changes nothing and is said once; it is tried again until it can. Knows nothing of contents.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from proxy.clock import Clock

logger = logging.getLogger(__name__)

INTERVAL: Final = 5.0  # seconds between two looks; a kubelet takes a minute until a changed Secret is mounted


@dataclass(slots=True)
class _Watched:
    what: str
    paths: Sequence[Path]
    use: Callable[[], None]
    seen: bytes
    is_used: bool = True


class Fresh:
    """Looks at files. One per process.

    Args:
        clock: paces.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watched: list[_Watched] = []
        self._each_time: list[Callable[[], None]] = []

    def each_time(self, call: Callable[[], None]) -> None:
        """Call this at every look, whatever has changed."""
        self._each_time.append(call)

    def watch(self, what: str, paths: Sequence[Path], use: Callable[[], None]) -> None:
        """Call `use` now, and from now on whenever what these files hold has changed.

        Args:
            what: names it in the log.
            paths: small files.
            use: reads them; changes nothing if it raises OSError or ValueError.

        Raises:
            OSError: what `use` raises now.
            ValueError: the same.
        """
        seen = _digest(paths)  # before it is used: what is written in between is seen at the next look
        use()
        self._watched.append(_Watched(what, paths, use, seen))

    async def run(self) -> None:
        """Look every `INTERVAL`, until cancelled."""
        while True:
            await self._clock.sleep(INTERVAL)
            try:
                self.look()
            except Exception:
                logger.exception("a look at changed files broke")

    def look(self) -> None:
        """Use what has changed."""
        for call in self._each_time:
            call()
        for watched in self._watched:
            seen = _digest(watched.paths)
            is_new = seen != watched.seen
            if not is_new and watched.is_used:
                continue
            watched.seen, watched.is_used = seen, False
            try:
                watched.use()
            except (OSError, ValueError) as error:
                if is_new:
                    logger.error("%s cannot be used; what was read before stays in use: %s", watched.what, error)  # noqa: TRY400 - no defect
            except Exception:
                if is_new:
                    logger.exception("%s: its use broke", watched.what)
            else:
                watched.is_used = True
                logger.info("%s has changed, and was read again", watched.what)


def _digest(paths: Sequence[Path]) -> bytes:
    """Return what tells one content from another and gives none of it away; a file that cannot be read has one, too."""
    whole = hashlib.sha256()
    for path in paths:
        try:
            whole.update(b"+" + hashlib.sha256(path.read_bytes()).digest())
        except OSError as error:
            whole.update(f"-{error.errno}".encode())
    return whole.digest()
