"""What is kept of a workspace, as annotations of its PersistentVolumeClaim, which outlives every Deployment.

Only a claim that is ours, and this workspace's alone, is written on; one that an operator made, or that several share,
is left as it is, and nothing is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from proxy.backends.kubernetes import manifests, ownership
from proxy.backends.kubernetes.api import ApiError, path_to
from proxy.backends.kubernetes.api_errors import ApiFailure
from proxy.backends.kubernetes.calls import CORE
from proxy.backends.kubernetes.fence import annotations_of
from proxy.errors import NotKept
from proxy.notes import NAMES, Notes, read_notes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.backends.kubernetes.api import Api
    from proxy.config import Config
    from proxy.workspace import Key


def notes_of(claim: Mapping[str, Any]) -> Notes:
    """Return what a claim's annotations say."""
    said = annotations_of(claim)
    return read_notes({name: said.get(ownership.NOTES + name) for name in NAMES})


async def find_notes(api: Api, key: Key, config: Config) -> Notes:
    """Return what is kept of a workspace now; nothing where nothing can be.

    Raises:
        ApiFailure: the API server does not answer, or refuses.
    """
    try:
        claim = await api.get(_path(key, config))
    except ApiError as error:
        if not error.is_not_found:
            raise
        return Notes()
    return notes_of(claim) if ownership.is_ours(claim, key) else Notes()


async def keep(api: Api, key: Key, config: Config, changes: Mapping[str, str | None]) -> None:
    """Write notes on the very claim that is found.

    Raises:
        NotKept: it is not ours or not there, or the API server does not answer, or refuses.
    """
    path = _path(key, config)
    try:
        claim = await api.get(path)
        if not ownership.is_ours(claim, key):
            raise NotKept("Its volume is not of notebook-proxy alone, so nothing is kept there.")
        annotations = {ownership.NOTES + name: text for name, text in changes.items()}
        await api.patch(path, {"metadata": {"uid": claim["metadata"]["uid"], "annotations": annotations}})
    except ApiError as error:
        if error.is_not_found:
            raise NotKept("It has no volume yet, where its settings could be kept; start it first.") from error
        raise NotKept(f"Kubernetes does not let it be stored: {error}") from error
    except ApiFailure as error:
        raise NotKept(f"Kubernetes does not answer: {error}") from error


def _path(key: Key, config: Config) -> str:
    return path_to(CORE, "persistentvolumeclaims", key.namespace, manifests.pvc_name(key, config))
