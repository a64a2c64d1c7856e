"""The cluster for those that block: in a thread of its own, which everything that is done to it enters.

What must hold: the cluster is touched in its own thread alone.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tests.cluster.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

_T = TypeVar("_T")


class ThreadedCluster:
    """A `Cluster` in a thread; the arguments are the cluster's. Use as `with ThreadedCluster() as cluster`."""

    def __init__(self, **options: Any) -> None:
        self._cluster = Cluster(**options)
        self._runner = asyncio.Runner()
        self._thread = threading.Thread(target=self._run, name="cluster", daemon=True)
        self._started = threading.Event()
        self._failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()

    def _run(self) -> None:
        # Containers die with the thread that started them, so it lives as long as the cluster does.
        with self._runner as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        try:
            async with self._cluster:
                self._started.set()
                await self._stopped.wait()
        except BaseException as failure:
            self._failure = failure
            raise
        finally:
            self._started.set()

    @property
    def root(self) -> Path:
        """Where its files are."""
        return self._cluster.root

    def do(self, work: Callable[[Cluster], _T]) -> _T:
        """Return what `work` returns, done between two steps of the cluster."""

        async def once() -> _T:
            return work(self._cluster)

        return self._enter(once())

    def run(self, work: Callable[[Cluster], Awaitable[_T]]) -> _T:
        """Return what `work` returns in the end."""

        async def whole() -> _T:
            return await work(self._cluster)

        return self._enter(whole())

    def _enter(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def logs(self) -> dict[str, str]:
        """Return what the containers of its pods have written, by the file's path below `root`."""
        files = sorted(self.root.glob("pods/*/*.log"))
        return {str(file.relative_to(self.root)): file.read_text(errors="replace") for file in files}
