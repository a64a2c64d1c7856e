"""The objects of a workspace: a key and settings in, dictionaries out.

Pure: no I/O, the same input gives the same output, no input is changed. Knows what Kubernetes is told, not when.
Pods are in `pods`, labels and annotations in `ownership`, tokens in `tokens`, the merge of `pod_overlay` in `overlay`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.kubernetes.overlay import fill_all, merge
from proxy.backends.kubernetes.ownership import (
    KEY_ID,
    LAST_ACTIVE,
    MANAGED_BY,
    MANAGER,
    REAP_MARK,
    SELECTOR,
    STOP_REASON,
    TEMPLATE_HASH,
    TOKEN_NONCE,
    WORKSPACE,
    WORKSPACE_ID,
    is_of_another,
    is_ours,
    labels_of,
    workspace_labels,
)
from proxy.backends.kubernetes.pods import CONTAINER, PORT, TOKEN_FIELD, build_template
from proxy.backends.kubernetes.tokens import derive_token, key_id
from proxy.errors import InvalidKey
from proxy.naming import fill, is_template, placeholders
from proxy.settings_yaml import read_typed_documents
from proxy.workspace import is_label

if TYPE_CHECKING:
    from proxy.backends.kubernetes.ownership import Object
    from proxy.config import Config
    from proxy.workspace import Key

__all__ = [
    "CONTAINER",
    "KEY_ID",
    "LAST_ACTIVE",
    "MANAGED_BY",
    "MANAGER",
    "NOTEBOOK_SECRET_NAME",
    "PORT",
    "REAP_MARK",
    "SELECTOR",
    "STOP_REASON",
    "TEMPLATE_HASH",
    "TOKEN_FIELD",
    "TOKEN_NONCE",
    "WORKSPACE",
    "WORKSPACE_ID",
    "build_deployment",
    "build_namespace",
    "build_namespace_objects",
    "build_own_secret",
    "build_pvc",
    "build_secret",
    "build_service",
    "derive_token",
    "is_of_another",
    "is_ours",
    "key_id",
    "owner_reference",
    "pvc_name",
    "service_url",
    "template_hash",
]

NOTEBOOK_SECRET_NAME: Final = "notebook-proxy-tokens"  # noqa: S105 - a Secret's name
JWT_SECRET_NAME: Final = "notebook-proxy-jwt"  # noqa: S105 - the same
_CLUSTER_DOMAIN: Final = "cluster.local"
_HASH_LENGTH: Final = 16
_SUBDOMAIN: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_MAX_SUBDOMAIN: Final = 253


def build_deployment(key: Key, config: Config) -> dict[str, Any]:
    """Return the Deployment of a workspace, with one replica.

    Raises:
        InvalidKey: the id, the namespace or the volume's name that follows from it is not one that Kubernetes takes.
    """
    name = _checked_name(key)
    template = build_template(key, config, secret=name, claim=pvc_name(key, config))
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            **_metadata(key, name, labels_of(key)),
            "annotations": {WORKSPACE: key.workspace_id, TEMPLATE_HASH: template_hash(template)},
        },
        "spec": {
            "replicas": 1,
            "revisionHistoryLimit": 1,
            "strategy": {"type": "Recreate"},  # a ReadWriteOnce volume cannot be mounted twice
            "selector": {"matchLabels": {"app": name}},
            "template": template,
        },
    }


def build_service(key: Key, config: Config | None = None, *, owner: Object | None = None) -> dict[str, Any]:  # noqa: ARG001 - part of the builders' common form
    """Return the Service of a workspace.

    Args:
        key: the workspace.
        config: not needed yet.
        owner: what `owner_reference` returned, once the Deployment is there.

    Raises:
        InvalidKey: the id or the namespace is not one that Kubernetes takes.
    """
    name = _checked_name(key)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(key, name, labels_of(key), owner),
        "spec": {
            "type": "ClusterIP",
            "selector": {"app": name},
            "ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def build_secret(key: Key, config: Config | None, token: str, owner: Object) -> dict[str, Any]:  # noqa: ARG001 - part of the builders' common form
    """Return the Secret that holds the token of a workspace's notebook server, and goes with its Deployment.

    Args:
        key: the workspace.
        config: not needed yet.
        token: see `derive_token`.
        owner: what `owner_reference` returned.

    Raises:
        InvalidKey: the id or the namespace is not one that Kubernetes takes.
    """
    metadata = _metadata(key, _checked_name(key), labels_of(key), owner)
    return _opaque(metadata, {TOKEN_FIELD: token})


def build_own_secret(name: str, namespace: str, value: str) -> dict[str, Any]:
    """Return a Secret in the proxy's own namespace that holds what was made at first start."""
    metadata = {"name": name, "namespace": namespace, "labels": {MANAGED_BY: MANAGER}}
    return _opaque(metadata, {TOKEN_FIELD: value})


def build_pvc(key: Key, config: Config) -> dict[str, Any]:
    """Return the PersistentVolumeClaim of a workspace; one that several share by its name is nobody's.

    Raises:
        InvalidKey: see `pvc_name`.
    """
    storage_class = config.workspace_pvc_storage_class
    is_own = is_template(config.workspace_pvc_name)
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _shared_metadata(key, is_own=is_own)
        | {"name": pvc_name(key, config), "namespace": _checked_namespace(key)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": config.workspace_pvc_size}},
            **({"storageClassName": storage_class} if storage_class else {}),
        },
    }


def build_namespace(key: Key, config: Config) -> dict[str, Any]:
    """Return the Namespace of a workspace; one that all share is nobody's.

    Raises:
        InvalidKey: the id or the namespace is not one that Kubernetes takes.
    """
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": _shared_metadata(key, is_own=is_template(config.namespace)) | {"name": _checked_namespace(key)},
    }


def build_namespace_objects(key: Key, text: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Return the objects that a new namespace gets, each with its apiVersion and the plural of its kind.

    Args:
        key: the workspace; each object comes into its namespace.
        text: the content of the file that `namespace_manifests` names; placeholders are replaced.

    Raises:
        ValueError: in one line, what is wrong with the file.
    """
    documents = [document for document in read_typed_documents(text) if document is not None]
    if not all(_is_object(document) for document in documents):
        raise ValueError("each document must be an object with apiVersion, kind and metadata.name")
    filled: list[dict[str, Any]] = fill_all(documents, placeholders(key.workspace_id))
    bodies = [merge(document, {"metadata": {"namespace": key.namespace}}) for document in filled]
    return [(body["apiVersion"], _plural(body["kind"]), body) for body in bodies]


def _plural(kind: str) -> str:
    """Return the resource of a kind, formed as Kubernetes and most custom resources form it."""
    word = kind.lower()
    if word.endswith("y"):
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "ch")) else "s")


def service_url(key: Key, config: Config | None = None) -> str:
    """Return the URL of a workspace's Service, for people and other clients; the relay goes to its `clusterIP`.

    Raises:
        InvalidKey: the id or the namespace is not one that Kubernetes takes.
    """
    domain = config.cluster_domain if config else _CLUSTER_DOMAIN
    return f"http://{_checked_name(key)}.{key.namespace}.svc.{domain}:{PORT}"


def pvc_name(key: Key, config: Config) -> str:
    """Return the name of a workspace's PersistentVolumeClaim.

    Raises:
        InvalidKey: it is not a DNS-1123 subdomain.
    """
    name = fill(config.workspace_pvc_name, placeholders(key.workspace_id))
    if len(name) > _MAX_SUBDOMAIN or not _SUBDOMAIN.fullmatch(name):
        raise InvalidKey(key.workspace_id, f"its volume would be {name!r}, which is not a DNS-1123 subdomain")
    return name


def owner_reference(deployment: Object) -> dict[str, Any]:
    """Return what makes an object go when this Deployment goes; foreground deletion waits for it.

    Args:
        deployment: as the API server returned it.
    """
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
        "uid": deployment["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def template_hash(template: Object) -> str:
    """Return what differs whenever a pod template does."""
    text = json.dumps(template, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def _checked_name(key: Key) -> str:
    _checked_namespace(key)
    return key.safe_deployment_name()


def _checked_namespace(key: Key) -> str:
    key.safe_deployment_name()
    if not is_label(key.namespace):
        raise InvalidKey(key.workspace_id, f"its namespace would be {key.namespace!r}, which is not a DNS-1123 label")
    return key.namespace


def _metadata(key: Key, name: str, labels: Mapping[str, str], owner: Object | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": key.namespace,
        "labels": dict(labels),
        "annotations": {WORKSPACE: key.workspace_id},
        **({"ownerReferences": [dict(owner)]} if owner else {}),
    }


def _shared_metadata(key: Key, *, is_own: bool) -> dict[str, Any]:
    """Return what is said of an object that outlives notebook servers, and may serve more than one workspace."""
    if not is_own:
        return {"labels": {MANAGED_BY: MANAGER}}
    return {"labels": workspace_labels(key.workspace_id), "annotations": {WORKSPACE: key.workspace_id}}


def _opaque(metadata: dict[str, Any], values: Mapping[str, str]) -> dict[str, Any]:
    encoded = {name: base64.b64encode(value.encode()).decode() for name, value in values.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": encoded}


def _is_object(document: Any) -> bool:
    if not isinstance(document, Mapping) or not isinstance(document.get("metadata"), Mapping):
        return False
    return all(
        isinstance(part, str) for part in (*map(document.get, ("apiVersion", "kind")), document["metadata"].get("name"))
    )
