"""The last lines that a workspace's pod has written, a bounded part of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.backends import LOG_BYTES
from proxy.backends.kubernetes import failures
from proxy.backends.kubernetes.api import ApiError, ApiFailure, path_to
from proxy.backends.kubernetes.calls import CORE
from proxy.errors import BackendUnavailable, NoLog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from proxy.backends.kubernetes.api import Api
    from proxy.workspace import Handle, Key

_DEADLINE: Final = 10.0  # seconds
_SCHEME: Final = "token "


async def read_log(api: Api, key: Key, pods: Sequence[Mapping[str, Any]], lines: int) -> str:
    """Return the last lines of the pod that counts.

    The kubelet limits bytes from the first of the lines that are asked for on: where those are too many, fewer are
    asked for, so that the last ones come.

    Raises:
        NoLog: there is no pod, or it has not begun.
        BackendUnavailable: the API server does not answer.
    """
    alive = failures.current(pods)
    if not alive:
        raise NoLog("It has no pod, and what an earlier one wrote is gone with it.")
    pod = max(alive, key=lambda each: str(each["metadata"].get("creationTimestamp", "")))
    path = path_to(CORE, "pods", key.namespace, pod["metadata"]["name"])
    while True:
        try:
            text = await api.log_tail(path, container=failures.CONTAINER, lines=lines, deadline=_DEADLINE)
        except ApiError as error:
            if error.is_server_error or error.is_not_taken:
                raise BackendUnavailable(failures.SILENCE.code, failures.SILENCE.message, retry_after=5) from error
            raise NoLog(f"Kubernetes has no log of its pod: {error.message or error}") from error
        except ApiFailure as error:
            raise BackendUnavailable(failures.SILENCE.code, failures.SILENCE.message, retry_after=5) from error
        if len(text.encode()) < LOG_BYTES or lines == 1:
            return text
        lines = max(1, lines // 4)


def token_of(handle: Handle) -> str:
    """Return the token that a caller sends, which a notebook server may have logged."""
    return handle.headers["Authorization"].removeprefix(_SCHEME)
