"""What tokens are derived from: the setting `notebook_secret`, or a secret that the replicas share in the cluster.

Made once, at first start, so that no default is published: create; if the name is taken, read what is there.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.backends.kubernetes.api import ApiError, path_to
from proxy.backends.kubernetes.manifests import NOTEBOOK_SECRET_NAME as NAME
from proxy.backends.kubernetes.manifests import TOKEN_FIELD as FIELD
from proxy.backends.kubernetes.manifests import build_notebook_secret
from proxy.backends.kubernetes.tokens import key_id
from proxy.errors import StartFailed

if TYPE_CHECKING:
    from proxy.backends.kubernetes.api import Api, Object
    from proxy.config import Config

_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


async def load_keys(api: Api, config: Config) -> dict[str, str]:
    """Return secrets by key id; the first is what new tokens are derived from.

    Raises:
        ApiFailure: the Secret can be neither read nor made.
        StartFailed: the Secret has no usable value.
    """
    given = config.notebook_secret.get_secret_value()
    if given:
        return {key_id(given): given}
    namespace = config.proxy_namespace or own_namespace() or config.namespace
    found = await _read_or_make(api, namespace)
    try:
        secret = base64.b64decode((found.get("data") or {})[FIELD], validate=True).decode()
    except (KeyError, ValueError) as error:
        raise StartFailed(
            "bad-secret", f"Secret {namespace}/{NAME} has no {FIELD!r} in base64; delete it, or set it."
        ) from error
    return {key_id(secret): secret}


def own_namespace() -> str:
    """Return the namespace in which this process runs, or an empty string outside a cluster."""
    try:
        return _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


async def _read_or_make(api: Api, namespace: str) -> Object:
    path = path_to("v1", "secrets", namespace, NAME)
    try:
        return await api.get(path)
    except ApiError as error:
        if not error.is_not_found:
            raise
    body = build_notebook_secret(namespace, secrets.token_urlsafe(32))
    try:
        return await api.create(path_to("v1", "secrets", namespace), body)
    except ApiError as error:
        if not error.is_already_exists:
            raise
    return await api.get(path)
