"""How many clients this process has file descriptors for.

A client takes one, and the connection to its notebook server another; some are kept for everything else (logs, the
processes of the local backend, the cluster's API).
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import Final

from proxy.errors import ConfigError
from proxy.relay.listener import EXCESS

MOST: Final = 10_000
"""What is allowed unless the setting says more: what is planned for one replica, with its memory in mind."""
_KEPT: Final = 128
_EACH: Final = 2
_UNLIMITED: Final = 2**31 - 1


def fit_connections(wanted: int) -> int:
    """Return how many connections there is room for, and raise this process's limit of open files for them.

    Args:
        wanted: as many as that, or 0 for as many as fit, at most `MOST`.

    Raises:
        ConfigError: the system does not allow as many open files as that takes.
    """
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (_UNLIMITED if limit == resource.RLIM_INFINITY else limit for limit in limits)
    needed = _EACH * (wanted or MOST) + EXCESS + _KEPT
    if soft < needed:
        with suppress(OSError, ValueError):  # some systems have a lower limit of their own
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(needed, hard), limits[1]))
            soft = min(needed, hard)
    fitting = max((soft - EXCESS - _KEPT) // _EACH, 1)
    if wanted > fitting:
        raise ConfigError(
            f"max_connections = {wanted}: must be at most {fitting} here, where a process may have {hard} files open: "
            "raise that limit (ulimit -n, or LimitNOFILE= of a systemd service), or leave the setting out"
        )
    return min(wanted or MOST, fitting)
