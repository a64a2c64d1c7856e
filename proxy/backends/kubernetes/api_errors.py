"""What a call to the Kubernetes API can come to, other than its result.

`ApiError` is the API server's own answer; `ApiUnavailable` is the lack of one. Data is in attributes: no caller reads
a message to decide. Knows nothing of connections.
"""

from __future__ import annotations

import json
import math
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class ApiFailure(Exception):
    """A call that has no result."""

    may_be_done = False
    """The call may have been carried out all the same, so whoever must know looks. Without meaning for a read."""
    retry_after: float | None = None
    """Seconds that the API server asked to wait."""


class ApiUnavailable(ApiFailure):
    """No answer of an API server: not reached, silent past the deadline, broken off, or something else answered."""

    def __init__(self, message: str, *, may_be_done: bool = True) -> None:
        super().__init__(message)
        self.may_be_done = may_be_done


class StreamCut(ApiUnavailable):
    """A watch broke off after it had begun; it can go on from the last version that it brought."""


class ApiError(ApiFailure):
    """The API server refused, or failed.

    Attributes:
        status: the HTTP status, or the code of an ERROR event.
        reason: `Status.reason` in Kubernetes' words (`AlreadyExists`); empty if the answer was no Status.
        message: `Status.message`, for people.
        causes: the reasons of `Status.details.causes`, such as `NamespaceTerminating`.
        retry_after: seconds, from the `Retry-After` header or the Status.
    """

    def __init__(
        self,
        status: int,
        reason: str = "",
        message: str = "",
        causes: tuple[str, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(" ".join(filter(None, (str(status), reason and f"{reason}:", message))))
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes
        self.retry_after = retry_after

    @classmethod
    def of_status(cls, body: Any, *, status: int = 500, retry_after: float | None = None, said: str = "") -> Self:
        """Read a `Status` object.

        Args:
            body: what was sent; anything that is no Status counts as none.
            status: the HTTP status; what the Status says itself comes first.
            retry_after: seconds, from the header; comes first.
            said: the message if there is no Status.
        """
        found = body if isinstance(body, dict) and body.get("kind") == "Status" else {}
        details = found.get("details") or {}
        causes = tuple(str(cause.get("reason", "")) for cause in details.get("causes") or ())
        code = found.get("code") or status
        if retry_after is None and details.get("retryAfterSeconds"):
            retry_after = float(details["retryAfterSeconds"])
        error = cls(code, found.get("reason") or "", found.get("message") or said, causes, retry_after)
        # A webhook, etcd or a load balancer may have failed behind the act.
        error.may_be_done = error.is_server_error and not error.is_not_taken
        return error

    @classmethod
    def of_answer(cls, status: int, headers: Mapping[str, str], body: bytes, now: datetime) -> Self:
        """Read an HTTP answer that is no success; what is no Status (a load balancer's page) is not repeated."""
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        kind = headers.get("Content-Type", "no content type")
        return cls.of_status(
            found, status=status, retry_after=_seconds(headers.get("Retry-After"), now), said=f"no Status but {kind}"
        )

    @property
    def is_unauthorized(self) -> bool:
        """The credential is not (or no longer) good."""
        return self.status == 401  # noqa: PLR2004

    @property
    def is_forbidden(self) -> bool:
        """Refused by RBAC, quota, admission, or because the namespace is terminating; `causes` tells that one."""
        return self.status == 403  # noqa: PLR2004

    @property
    def is_not_found(self) -> bool:
        """There is no such object, or no such namespace."""
        return self.status == 404  # noqa: PLR2004

    @property
    def is_already_exists(self) -> bool:
        """The name is taken, perhaps by an object that is being deleted."""
        return self.status == 409 and self.reason == "AlreadyExists"  # noqa: PLR2004

    @property
    def is_conflict(self) -> bool:
        """A version or a precondition does not hold any more: look again."""
        return self.status == 409 and not self.is_already_exists  # noqa: PLR2004

    @property
    def is_gone(self) -> bool:
        """The version (or the continuation of a list) is too old: list anew."""
        return self.status == 410  # noqa: PLR2004

    @property
    def is_invalid(self) -> bool:
        """The object itself is refused."""
        return self.status == 422  # noqa: PLR2004

    @property
    def is_not_taken(self) -> bool:
        """The API server did not take the call for want of room, and says so: repeating it is safe for any verb."""
        return self.status == 429 or (self.status == 503 and self.retry_after is not None)  # noqa: PLR2004

    @property
    def is_server_error(self) -> bool:
        """It failed rather than refused."""
        return self.status >= 500  # noqa: PLR2004


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Read `Retry-After` (RFC 9110 section 10.2.3): seconds or a date; what is neither counts as absent."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - now).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
