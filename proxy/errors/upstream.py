"""What is wrong with the notebook server's side of a relay."""

from __future__ import annotations

from proxy.errors.base import ProxyError


class UpstreamError(ProxyError):
    """The notebook server was asked and gave no usable answer."""

    status = 502
    title = "The notebook server gave no usable answer"


class UpstreamRefused(UpstreamError):
    """No connection could be made: nothing was sent, and the notebook server is not where it was."""

    code = "upstream-refused"


class UpstreamUnreachable(UpstreamError):
    """This process cannot make connections just now; the notebook server may be well."""

    status = 503
    code = "upstream-unreachable"
    retry_after = 5


class UpstreamClosed(UpstreamError):
    """The notebook server closed the connection before it answered."""

    code = "upstream-closed"


class UpstreamLost(UpstreamClosed):
    """A new connection was closed without a byte in answer to what may be sent again: the server may just have died."""


class UpstreamGone(UpstreamClosed):
    """A kept connection was closed under a request that the proxy must not send twice unasked."""

    status = 503
    code = "upstream-gone"
    retry_after = 1


class BadResponse(UpstreamError):
    """The notebook server answered what is not HTTP, or not safe to pass on."""

    code = "upstream-invalid"


class UpstreamTimeout(UpstreamError):
    """The notebook server sent no response headers within `upstream_timeout`."""

    status = 504
    code = "upstream-timeout"
