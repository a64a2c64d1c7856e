"""The settings of the Kubernetes backend; a part of `config.Config`, which alone is used.

Declares, and judges nothing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import SecretStr
from pydantic_settings import BaseSettings, NoDecode

from proxy.settings_page import KUBERNETES
from proxy.settings_types import Count, Duration, Quantity, Secret, Switch, Text, Tree, setting


class KubernetesSettings(BaseSettings):
    """What the Kubernetes backend reads."""

    image: Text = setting(
        "quay.io/jupyter/minimal-notebook:latest", KUBERNETES, "notebook image; pin it to a tag or digest of your own"
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = setting(
        "IfNotPresent", KUBERNETES, "when the image is pulled"
    )
    cpu_request: Quantity = setting("500m", KUBERNETES, "CPU that is reserved")
    cpu_limit: Quantity = setting("2", KUBERNETES, "CPU that may be used")
    memory_request: Quantity = setting("1Gi", KUBERNETES, "memory that is reserved")
    memory_limit: Quantity = setting("4Gi", KUBERNETES, "memory that may be used")
    ephemeral_storage: Quantity = setting("5Gi", KUBERNETES, "scratch disk that may be used")
    workspace_pvc_name: Text = setting(
        "ws-{workspace_id}",
        KUBERNETES,
        "name of a workspace's PersistentVolumeClaim, with `{workspace_id}` and `{workspace_id_short}`",
    )
    workspace_pvc_size: Quantity = setting(
        "", KUBERNETES, "size of a PersistentVolumeClaim that is made where one is missing; none makes none"
    )
    workspace_pvc_storage_class: Text = setting(
        "", KUBERNETES, "storage class of a PersistentVolumeClaim that is made; none is the cluster's default"
    )
    workspace_mount_path: Text = setting(
        "/workspace", KUBERNETES, "where the volume is in the container; HOME and Jupyter's root directory"
    )
    workspace_sub_path: Text = setting(
        "",
        KUBERNETES,
        "directory of the volume that is mounted instead of the whole, with `{workspace_id}` and "
        "`{workspace_id_short}`",
    )
    run_as_user: Count = setting(1000, KUBERNETES, "user id of the notebook server")
    fs_group: Count = setting(100, KUBERNETES, "group id of the notebook server and of its files")
    pod_overlay: Annotated[Tree, NoDecode] = setting(
        {},
        KUBERNETES,
        "parts of a Pod (`metadata`, `spec`) that are merged into every notebook's: mappings by key, lists of named "
        "things by name, null deletes; text may contain `{workspace_id}` and `{workspace_id_short}`",
        is_private=True,
    )
    profiles: Annotated[Tree, NoDecode] = setting(
        {},
        KUBERNETES,
        "what workspaces may choose to start with: names, each with a `description` and with `image`, "
        "`image_pull_policy`, `cpu_request`, `cpu_limit`, `memory_request`, `memory_limit`, `ephemeral_storage` or "
        "`pod_overlay` of its own",
        is_private=True,
    )
    create_namespace: Switch = setting(
        default=False, group=KUBERNETES, description="whether a missing namespace is made"
    )
    namespace_manifests: Text = setting(
        "",
        KUBERNETES,
        "YAML file of objects that are made in each namespace that is made, such as a NetworkPolicy; with the same "
        "placeholders",
    )
    cluster_domain: Text = setting("cluster.local", KUBERNETES, "domain of the cluster's Services")
    kubeconfig: Text = setting("", KUBERNETES, "kubeconfig file; none is the service account, inside a cluster")
    kube_context: Text = setting("", KUBERNETES, "context of the kubeconfig file; none is its current one")
    proxy_namespace: Text = setting(
        "", KUBERNETES, "namespace of the proxy's own Secret; none is the one in which the proxy runs"
    )
    terminating_timeout: Duration = setting(
        timedelta(minutes=2), KUBERNETES, "how long a start waits for what is left of the one before"
    )
    notebook_secret: Secret = setting(
        SecretStr(""),
        KUBERNETES,
        "what notebooks' tokens are derived from, at least 16 characters; none is made at first start and kept in a "
        "Secret",
        is_private=True,
    )
