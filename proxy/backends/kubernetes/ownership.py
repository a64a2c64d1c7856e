"""The labels and annotations by which an object is known as ours, and whose it is.

Pure. An object is ours only if its label, its annotation and its workspace all say so; whoever changes or deletes it
adds its UID as a precondition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.workspace import Key

Object: TypeAlias = "Mapping[str, Any]"

MANAGED_BY: Final = "managed-by"
MANAGER: Final = "notebook-proxy"
WORKSPACE_ID: Final = "workspace-id"
SELECTOR: Final = f"{MANAGED_BY}={MANAGER}"
"""The label selector of everything that is ours."""

_PREFIX: Final = f"{MANAGER}/"
WORKSPACE: Final = _PREFIX + "workspace"
"""On everything of one workspace: its id. A label that is copied by chance does not bring this along."""
NOTES: Final = _PREFIX
"""Before the names of what is kept of a workspace, on its PersistentVolumeClaim; see `proxy.notes`."""
PROFILE: Final = _PREFIX + "profile"
"""On the Deployment: the profile with which it was made."""
USER: Final = _PREFIX + "user"
"""On the Deployment: for whom it was started last."""
LAST_ACTIVE: Final = _PREFIX + "last-active"
"""RFC 3339, UTC; only ever raised."""
EXTENDED_UNTIL: Final = _PREFIX + "extended-until"
"""RFC 3339, UTC; until then it is not stopped for being idle."""
REAP_MARK: Final = _PREFIX + "reap-mark"
TEMPLATE_HASH: Final = _PREFIX + "template-hash"
TOKEN_NONCE: Final = _PREFIX + "token-nonce"
KEY_ID: Final = _PREFIX + "key-id"
STOP_REASON: Final = _PREFIX + "stop-reason"


def user_of(found: Object) -> str | None:
    """Return for whom a Deployment was started last; None where it does not say so."""
    return _marks(found)[1].get(USER)


def labels_of(key: Key) -> dict[str, str]:
    """Return the labels of every object of a workspace's notebook server."""
    return {"app": key.safe_deployment_name(), **workspace_labels(key.workspace_id), **_recommended(key)}


def workspace_labels(workspace_id: str) -> dict[str, str]:
    """Return the labels of what is a workspace's: of what outlives its notebook servers, too."""
    return {MANAGED_BY: MANAGER, WORKSPACE_ID: workspace_id}


def _recommended(key: Key) -> dict[str, str]:
    # https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/
    return {
        "app.kubernetes.io/name": "notebook",
        "app.kubernetes.io/instance": key.deployment_name,
        "app.kubernetes.io/component": "notebook-server",
        "app.kubernetes.io/part-of": MANAGER,
        "app.kubernetes.io/managed-by": MANAGER,
    }


def is_ours(found: Object, key: Key) -> bool:
    """Tell whether labels and annotation say that this object is ours and this workspace's."""
    labels, annotations = _marks(found)
    return (
        labels.get(MANAGED_BY) == MANAGER
        and labels.get(WORKSPACE_ID) == key.workspace_id
        and annotations.get(WORKSPACE) == key.workspace_id
    )


def is_of_another(found: Object, workspace_id: str) -> bool:
    """Tell whether a PersistentVolumeClaim or a Namespace says that it is another workspace's: short ids collide.

    One that says nothing may be used: the operator made it, or it is shared on purpose.
    """
    labels, annotations = _marks(found)
    named = {labels.get(WORKSPACE_ID), annotations.get(WORKSPACE)} - {None}
    return bool(named - {workspace_id})


def _marks(found: Object) -> tuple[Mapping[str, str], Mapping[str, str]]:
    metadata = found.get("metadata") or {}
    return metadata.get("labels") or {}, metadata.get("annotations") or {}
