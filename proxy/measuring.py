"""Measure a proxy for as long as it serves: what it counts, how late its event loop is, what it logs.

Puts together what is told at `/metrics`; nothing of the proxy depends on being measured.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from proxy.clock import SystemClock
from proxy.counts import ClusterCounts, Tally
from proxy.loop_lag import LoopLag
from proxy.metrics import Metrics, of_build, of_cluster, of_supervisor, tallied

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.backends import Backend
    from proxy.clock import Clock
    from proxy.config import Config
    from proxy.supervisor import Supervisor

_BACKENDS = {"LocalBackend": "local", "KubernetesBackend": "kubernetes"}  # others are the library's users' own


class _LogCounter(logging.Handler):
    """Counts what is logged, by level and logger; the names of loggers are those of modules."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.messages = Tally()

    def emit(self, record: logging.LogRecord) -> None:
        """Count it."""
        self.messages.add(record.levelname.lower(), record.name)


@contextmanager
def measured(
    supervisor: Supervisor, backend: Backend, config: Config, *, clock: Clock | None = None
) -> Iterator[Metrics]:
    """Measure while the context lasts.

    Args:
        supervisor: what it counts is told.
        backend: the same, if it has an attribute `counts` that is a `ClusterCounts`.
        config: `reaper`.
        clock: what ages are measured by; the supervisor's.
    """
    clock = clock or SystemClock()
    lag, logged = LoopLag(), _LogCounter()
    sources = [
        of_build(_BACKENDS.get(type(backend).__name__, "other")),
        lambda: [("event_loop_lag_seconds", (), lag.seconds)],
        lambda: tallied("log_messages", logged.messages),
        of_supervisor(supervisor, clock, is_reaping=config.reaper),
    ]
    cluster = getattr(backend, "counts", None)
    if isinstance(cluster, ClusterCounts):
        sources.append(of_cluster(cluster, clock))
    root = logging.getLogger()
    root.addHandler(logged)
    try:
        yield Metrics(sources)
    finally:
        root.removeHandler(logged)
        lag.close()
