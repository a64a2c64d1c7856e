"""Tell the supervisor how a request, or a websocket, uses its workspace.

Made for each request once it is judged; the relay says what passes, and this says what that means. Nothing here awaits.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from proxy.activity import Settling
from proxy.activity_rules import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.clock import Clock
    from proxy.relay.tunnel import Frames
    from proxy.supervisor import Supervisor
    from proxy.workspace import Key

_SHOWN_LENGTH: Final = 200


class Use:
    """What one request means to its workspace.

    Args:
        supervisor: is told.
        key: the workspace.
        method: the request's.
        path: the request's.
        verdict: whether it counts.
        is_page: it comes from a browser page, whose websockets' handshakes are no use.
        is_everything: frames of every kind count, whatever the verdict (`activity: traffic`).
        clock: what time is measured by.

    Attributes:
        touch: to be called whenever something of the request or its answer passes.
    """

    __slots__ = ("_clock", "_is_everything", "_is_page", "_key", "_path", "_supervisor", "_verdict", "touch")

    def __init__(
        self,
        supervisor: Supervisor,
        key: Key,
        method: str,
        path: str,
        verdict: Verdict,
        *,
        is_page: bool,
        is_everything: bool,
        clock: Clock,
    ) -> None:
        self._supervisor = supervisor
        self._key = key
        self._path = path if len(path) <= _SHOWN_LENGTH else path[:_SHOWN_LENGTH] + "…"
        self._verdict = verdict
        self._is_page = is_page
        self._is_everything = is_everything
        self._clock = clock
        counts = verdict is Verdict.COUNTS or (verdict is Verdict.CLIENT and not is_page)
        tell = supervisor.touch if counts else supervisor.ignored
        self.touch: Callable[[], None] = partial(tell, key, f"{method} {self._path}")

    def open_frames(self) -> Frames:
        """Return what is told of each frame of a websocket, whose handshake has just been answered."""
        what = f"websocket frame {self._path}"
        touch = partial(self._supervisor.touch, self._key, what)
        if self._is_everything:
            return _EveryByte(touch)
        ignore = partial(self._supervisor.ignored, self._key, what)
        is_settling = self._is_page and self._verdict is Verdict.CLIENT
        settling = Settling(self._clock.monotonic()) if is_settling else None
        return _DataFrames(touch, ignore, self._verdict, settling, self._clock.monotonic)


class _EveryByte:
    """Everything that passes is use."""

    __slots__ = ("_touch",)

    def __init__(self, touch: Callable[[], None]) -> None:
        self._touch = touch

    def from_client(self, has_data: bool) -> None:  # noqa: ARG002 - the other's signature
        self._touch()

    from_notebook = from_client


class _DataFrames:
    """Data frames are use, in the directions that count and once the page has settled; control frames never."""

    __slots__ = ("_ignore", "_is_client_counted", "_is_notebook_counted", "_monotonic", "_settling", "_touch")

    def __init__(
        self,
        touch: Callable[[], None],
        ignore: Callable[[], None],
        verdict: Verdict,
        settling: Settling | None,
        monotonic: Callable[[], float],
    ) -> None:
        self._touch = touch
        self._ignore = ignore
        self._is_client_counted = verdict is not Verdict.IGNORED
        self._is_notebook_counted = verdict is Verdict.COUNTS
        self._settling = settling  # None once it has ended, or where no page is at the other end
        self._monotonic = monotonic

    def from_client(self, has_data: bool) -> None:
        if has_data and self._is_client_counted and (self._settling is None or self._has_settled(self._settling)):
            self._touch()
        else:
            self._ignore()

    def from_notebook(self, has_data: bool) -> None:
        if has_data and self._is_notebook_counted:
            self._touch()
            return
        if has_data and self._settling is not None:
            self._settling.answered(self._monotonic())
        self._ignore()

    def _has_settled(self, settling: Settling) -> bool:
        if not settling.ends(self._monotonic()):
            return False
        self._settling = None
        return True
