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

from proxy.backends.kubernetes.api import Api, ApiError, ApiFailure, path_to
from proxy.backends.kubernetes.calls import refused
from proxy.backends.kubernetes.fence import annotations_of
from proxy.backends.kubernetes.manifests import JWT_SECRET_NAME, NOTEBOOK_SECRET_NAME, build_own_secret
from proxy.backends.kubernetes.manifests import TOKEN_FIELD as FIELD
from proxy.backends.kubernetes.ownership import KEY_ID, MANAGED_BY, MANAGER, TOKEN_NONCE
from proxy.backends.kubernetes.tokens import derive_token, key_id
from proxy.errors import ConfigError, StartFailed
from proxy.naming import is_template

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from proxy.backends.kubernetes.api import Object
    from proxy.config import Config
    from proxy.workspace import Key

_OWN_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class Keys:
    """Knows the tokens.

    Args:
        secret: what new tokens are derived from.
    """

    def __init__(self, secret: str) -> None:
        self._secrets: dict[str, str] = {}  # by its id; those before as well: what they were for may still run
        self.change(secret)
        self._learnt: dict[Key, tuple[str, str]] = {}  # the Deployment's UID, and the token

    def __repr__(self) -> str:
        """Tell which is used, by its id."""
        return f"Keys({self._id})"

    def change(self, secret: str) -> None:
        """Derive new tokens from this secret from now on. What runs keeps its token."""
        self._id = key_id(secret)
        self._secrets[self._id] = secret

    def new_annotations(self) -> dict[str, str]:
        """Return what a Deployment must say for its token to be derived from the secret of today."""
        return {KEY_ID: self._id, TOKEN_NONCE: secrets.token_hex(16)}

    def token_of(self, key: Key, deployment: Mapping[str, Any]) -> str | None:
        """Return the token of the notebook server that a Deployment runs; None if it is not known."""
        said = annotations_of(deployment)
        nonce = said.get(TOKEN_NONCE)
        secret = self._secrets.get(said.get(KEY_ID, ""))
        if nonce and secret is not None:
            return derive_token(secret, key.workspace_id, nonce)
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
    return Keys(await _read_or_make(api, namespace, NOTEBOOK_SECRET_NAME, config))


async def load_jwt_secret(config: Config) -> str:
    """Return the `jwt_secret` that the replicas share where none is set.

    Raises:
        ConfigError: there is no usable credential, or no telling where it is.
        StartFailed: it can be neither read nor made, or has no usable value.
    """
    namespace = _namespace(config, "jwt_secret")
    api = await Api.connect(config.kubeconfig or None, config.kube_context or None)
    try:
        return await _read_or_make(api, namespace, JWT_SECRET_NAME, config)
    except ApiFailure as error:
        raise refused(error) from error
    finally:
        await api.close()


def namespace_of_secret(config: Config) -> str | None:
    """Return where the secret is that the replicas share; None where the settings have it.

    Raises:
        ConfigError: there is no telling.
    """
    return None if config.notebook_secret.get_secret_value() else _namespace(config, "notebook_secret")


def _namespace(config: Config, setting: str) -> str:
    namespace = config.proxy_namespace or own_namespace() or config.namespace
    if is_template(namespace):
        raise ConfigError(f"Outside a cluster, with a namespace per workspace, set {setting} or proxy_namespace.")
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


async def _read_or_make(api: Api, namespace: str, name: str, config: Config) -> str:
    """Return the value of one of our own Secrets. Of two replicas that make it at once, both get the first one's."""
    value = _value_of(await _get_or_create(api, namespace, name, config))
    if not value:
        raise StartFailed("bad-secret", f"Secret {namespace}/{name} has no {FIELD!r} in base64; delete it, or set it.")
    return value


async def _get_or_create(api: Api, namespace: str, name: str, config: Config) -> Object:
    path = path_to("v1", "secrets", namespace, name)
    try:
        return await api.get(path)
    except ApiError as error:
        if not error.is_not_found:
            raise
    body = build_own_secret(name, namespace, secrets.token_urlsafe(32))
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
