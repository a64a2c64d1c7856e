"""What the supervisor asks of whatever starts and stops notebook servers.

A backend keeps no idle times and takes no decisions: it starts what it is told to, stops what it is told to, and
reports what happened without being told. It never calls a higher layer but through `Listener`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from proxy.workspace import Handle, Key

Listener: TypeAlias = "Callable[[Key, Handle, str], None]"
"""Called in the event loop, without awaiting: the server behind this handle ended by itself, for this reason."""


class Backend(Protocol):
    """Starts and stops notebook servers. One per process; its methods are called in one event loop."""

    def listen(self, listener: Listener) -> None:
        """Name the one who is told when a notebook server ends by itself."""

    async def start(self, key: Key) -> Handle:
        """Return the handle of a notebook server that answers HTTP now, starting it if it is not there.

        Never called twice at once for one key, nor while `stop` runs for it. When cancelled, what is half done may
        stay: a `stop` follows and clears it.

        Raises:
            StartFailed: it cannot become ready; nothing of it is left running.
        """
        ...

    async def stop(self, key: Key) -> None:
        """Stop the notebook server and return when it is gone; already gone is success. Files stay.

        Raises:
            StopFailed: it may still be running.
        """

    async def close(self) -> None:
        """Let go of everything this process owns; what must not outlive the process is stopped."""
