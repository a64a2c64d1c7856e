"""Loopback addresses for pods and Services: a range that no other cluster on this machine uses.

A range is claimed by holding a bound socket in it, so two test runs side by side do not meet.
"""

from __future__ import annotations

import itertools
import random
import socket

_CLAIM = "127.{}.255.254"
_CLAIM_PORT = 8888
# 127.0.*.* and 127.1.*.* are left to the machine itself.
_FIRST, _LAST = 2, 254


class Addresses:
    """Hands out addresses of 127.x.*.*, each once."""

    def __init__(self) -> None:
        self._socket, self._second = _claim()
        self._hosts = itertools.count(1)

    def allocate(self) -> str:
        """Return an address that was not handed out before."""
        third, fourth = divmod(next(self._hosts), 250)
        if third > 250:
            raise RuntimeError("the test cluster has handed out all its addresses")
        return f"127.{self._second}.{third}.{fourth + 1}"

    def close(self) -> None:
        """Give the range back."""
        self._socket.close()


def _claim() -> tuple[socket.socket, int]:
    for second in random.sample(range(_FIRST, _LAST + 1), _LAST - _FIRST + 1):
        sock = socket.socket()
        try:
            sock.bind((_CLAIM.format(second), _CLAIM_PORT))
            sock.listen(1)
        except OSError:
            sock.close()
            continue
        return sock, second
    raise RuntimeError("every loopback range is in use by another test cluster")
