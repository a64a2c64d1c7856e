"""A user has, or does, as much as one user may."""

from __future__ import annotations

from math import ceil

from proxy.errors.base import ProxyError


class LimitReached(ProxyError):
    """One user would have more than is theirs; nothing was started or sent."""

    status = 429  # RFC 6585 section 4
    title = "That is more than one user may have"

    def __init__(self, code: str, message: str, seconds: float) -> None:
        """Say which limit it is.

        Args:
            code: for programs, such as `too-many-requests`.
            message: for people.
            seconds: after which it is worthwhile to ask again; at least one is said.
        """
        super().__init__(message)
        self.code = code
        self.retry_after = max(1, ceil(seconds))
