"""Every exception of the product, and what each means to a client.

One class per decision that a caller can take; the data is in attributes. `status` is the HTTP status, `code` the word
for programs, `title` the headline for people; `str(error)` says what to do. Status codes are chosen here alone.
"""

from __future__ import annotations

from proxy.errors.access import CrossOrigin, Forbidden, KeysUnavailable, OtherHost, Unauthenticated
from proxy.errors.base import ConfigError, ProxyError
from proxy.errors.limits import LimitReached
from proxy.errors.requests import (
    BadRequest,
    HeadersTooLarge,
    InvalidKey,
    MethodRefused,
    NotFound,
    RequestTimeout,
    TooLarge,
    TooManyConnections,
    TooManyStreams,
    UnknownType,
)
from proxy.errors.upstream import (
    BadResponse,
    UpstreamClosed,
    UpstreamError,
    UpstreamGone,
    UpstreamLost,
    UpstreamRefused,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from proxy.errors.workspaces import (
    BackendUnavailable,
    Contested,
    ExtendRefused,
    ForeignObject,
    NoLog,
    NotKept,
    NotRunning,
    SettingsRefused,
    ShuttingDown,
    StartFailed,
    StartStalled,
    StartTimeout,
    StopFailed,
    TooManyStarts,
)

__all__ = [
    "BackendUnavailable",
    "BadRequest",
    "BadResponse",
    "ConfigError",
    "Contested",
    "CrossOrigin",
    "ExtendRefused",
    "Forbidden",
    "ForeignObject",
    "HeadersTooLarge",
    "InvalidKey",
    "KeysUnavailable",
    "LimitReached",
    "MethodRefused",
    "NoLog",
    "NotFound",
    "NotKept",
    "NotRunning",
    "OtherHost",
    "ProxyError",
    "RequestTimeout",
    "SettingsRefused",
    "ShuttingDown",
    "StartFailed",
    "StartStalled",
    "StartTimeout",
    "StopFailed",
    "TooLarge",
    "TooManyConnections",
    "TooManyStarts",
    "TooManyStreams",
    "Unauthenticated",
    "UnknownType",
    "UpstreamClosed",
    "UpstreamError",
    "UpstreamGone",
    "UpstreamLost",
    "UpstreamRefused",
    "UpstreamTimeout",
    "UpstreamUnreachable",
]
