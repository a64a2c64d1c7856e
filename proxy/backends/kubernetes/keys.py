"""The tokens of notebook servers, and what they are derived from.

That is the setting `notebook_secret`, or a secret that the replicas share in the cluster: made once, at first start, so
that no default is published (create; if the name is taken, read what is there). What was derived from another secret,
before that was changed, is learnt from where the notebook server has it.
"""

from __future__ import annotations

import base64
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.backends.kubernetes.api import ApiError, path_to
from proxy.backends.kubernetes.fence import annotations_of
from proxy.backends.kubernetes.manifests import NOTEBOOK_SECRET_NAME as NAME
from proxy.backends.kubernetes.manifests import TOKEN_FIELD as FIELD
from proxy.backends.kubernetes.manifests import build_notebook_secret
from proxy.backends.kubernetes.ownership import KEY_ID, MANAGED_BY, MANAGER, TOKEN_NONCE
from proxy.backends.kubernetes.tokens import derive_token, key_id
from proxy.errors import ConfigError, StartFailed
from proxy.naming import is_template

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from proxy.backends.kubernetes.api import Api, Object
    from proxy.config import Config
    from proxy.workspace import Key

_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Keys:
    """Knows the tokens.

    Args:
        secret: what new tokens are derived from.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._id = key_id(secret)
        self._learnt: dict[Key, tuple[str, str]] = {}  # the Deployment's UID, and the token

    def new_annotations(self) -> dict[str, str]:
        """Return what a Deployment must say for its token to be derived from the secret of today."""
        return {KEY_ID: self._id, TOKEN_NONCE: secrets.token_hex(16)}

    def token_of(self, key: Key, deployment: Mapping[str, Any]) -> str | None:
        """Return the token of the notebook server that a Deployment runs; None if it is not known."""
        said = annotations_of(deployment)
        nonce = said.get(TOKEN_NONCE)
        if nonce and said.get(KEY_ID) == self._id:
            return derive_token(self._secret, key.workspace_id, nonce)
        uid, token = self._learnt.get(key, ("", None))
        return token if uid == deployment["metadata"]["uid"] else None

    def learn(self, key: Key, deployment: Mapping[str, Any], secret: Object) -> str | None:
        """Remember the token that a Deployment's Secret holds, and return it; None if it holds none."""
        token = _value_of(secret)
        if token is None or not (token.isascii() and token.isprintable()):
            return None  # it could not be sent in a header
        self._learnt[key] = deployment["metadata"]["uid"], token
        return token


async def load_keys(api: Api, config: Config) -> Keys:
    """Return what the settings or the cluster have.

    Raises:
        ApiFailure: the Secret can be neither read nor made.
        StartFailed: the Secret has no usable value.
        ConfigError: there is no telling where it is.
    """
    namespace = namespace_of_secret(config)
    if namespace is None:
        return Keys(config.notebook_secret.get_secret_value())
    value = _value_of(await _read_or_make(api, namespace, config))
    if not value:
        raise StartFailed("bad-secret", f"Secret {namespace}/{NAME} has no {FIELD!r} in base64; delete it, or set it.")
    return Keys(value)


def namespace_of_secret(config: Config) -> str | None:
    """Return where the secret is that the replicas share; None where the settings have it.

    Raises:
        ConfigError: there is no telling.
    """
    if config.notebook_secret.get_secret_value():
        return None
    namespace = config.proxy_namespace or own_namespace() or config.namespace
    if is_template(namespace):
        raise ConfigError("Outside a cluster, with a namespace per workspace, set notebook_secret or proxy_namespace.")
    return namespace


def _value_of(secret: Object) -> str | None:
    try:
        return base64.b64decode((secret.get("data") or {})[FIELD], validate=True).decode()
    except (KeyError, ValueError, TypeError):
        return None


def own_namespace() -> str:
    """Return the namespace in which this process runs, or an empty string outside a cluster."""
    try:
        return _OWN_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


async def _read_or_make(api: Api, namespace: str, config: Config) -> Object:
    path = path_to("v1", "secrets", namespace, NAME)
    try:
        return await api.get(path)
    except ApiError as error:
        if not error.is_not_found:
            raise
    body = build_notebook_secret(namespace, secrets.token_urlsafe(32))
    if namespace == config.namespace and config.create_namespace:
        await _make_namespace(api, namespace)
    try:
        return await api.create(path_to("v1", "secrets", namespace), body)
    except ApiError as error:
        if not error.is_already_exists:
            raise
    return await api.get(path)


async def _make_namespace(api: Api, name: str) -> None:
    """Make the namespace of all workspaces, outside a cluster, where the secret is needed before the first of them."""
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {MANAGED_BY: MANAGER}}}
    try:
        await api.create(path_to("v1", "namespaces"), body)
    except ApiError as error:
        if not error.is_already_exists:
            raise
