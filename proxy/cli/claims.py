"""The volumes of workspaces on a cluster, and when each was used last. Reads alone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from proxy.backends.kubernetes import ownership
from proxy.backends.kubernetes.api import Api, ApiFailure, path_to
from proxy.backends.kubernetes.calls import APPS, CORE
from proxy.backends.kubernetes.fence import last_active_of, parse_time
from proxy.backends.kubernetes.noting import notes_of
from proxy.cli.exits import Failed
from proxy.cli.volumes import Volume
from proxy.errors import ConfigError
from proxy.naming import is_template
from proxy.workspace import Key

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from proxy.config import Config

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


async def of_claims(config: Config) -> list[Volume]:
    """Return the claims that are a workspace's alone, and of notebook-proxy.

    Raises:
        Failed: the cluster cannot be asked.
    """
    namespace = None if is_template(config.namespace) else config.namespace
    try:
        api = await Api.connect(config.kubeconfig or None, config.kube_context or None)
    except ConfigError as error:
        raise Failed(str(error)) from None
    try:
        claims = await api.list(path_to(CORE, "persistentvolumeclaims", namespace), labels=ownership.SELECTOR)
        deployments = await api.list(path_to(APPS, "deployments", namespace), labels=ownership.SELECTOR)
    except ApiFailure as error:
        raise Failed(f"The cluster cannot be asked: {error}") from error
    finally:
        await api.close()
    running = {key: found for found in deployments.items if (key := _key_of(found)) is not None}
    return [_volume(key, found, running.get(key)) for found in claims.items if (key := _key_of(found)) is not None]


def _key_of(found: Mapping[str, Any]) -> Key | None:
    """Return whose object this is, if it is of notebook-proxy and one workspace's."""
    metadata = found["metadata"]
    key = Key(str((metadata.get("labels") or {}).get(ownership.WORKSPACE_ID, "")), metadata.get("namespace", ""))
    return key if key.workspace_id and ownership.is_ours(found, key) else None


def _volume(key: Key, claim: Mapping[str, Any], deployment: Mapping[str, Any] | None) -> Volume:
    notes, metadata = notes_of(claim), claim["metadata"]
    made = parse_time(metadata.get("creationTimestamp")) or _NEVER
    active = last_active_of(deployment) if deployment is not None else None
    return Volume(
        key.workspace_id,
        f"{key.namespace}/{metadata['name']}",
        str(claim["spec"].get("resources", {}).get("requests", {}).get("storage", "?")),
        max((moment for moment in (notes.last_used, active) if moment is not None), default=made),
        is_used=deployment is not None,
        owner=notes.owner,
    )
