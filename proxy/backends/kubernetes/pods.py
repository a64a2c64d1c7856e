"""The pod of a notebook server: what runs in it, with which rights, on which volumes.

Pure. Keeps to the restricted Pod Security Standard
(https://kubernetes.io/docs/concepts/security/pod-security-standards/) unless `pod_overlay` says otherwise. Kubernetes
probes nothing: the proxy itself finds out, sooner, whether Jupyter answers.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from proxy.backends.kubernetes.overlay import fill_all, merge
from proxy.backends.kubernetes.ownership import WORKSPACE, labels_of
from proxy.naming import IDENTITY_VARIABLE, USER_HEADER, fill, placeholders
from proxy.target import PREFIX

if TYPE_CHECKING:
    from proxy.config import Config
    from proxy.workspace import Key

CONTAINER: Final = "notebook"
PORT: Final = 8888
TOKEN_FIELD: Final = "token"  # noqa: S105 - a field's name
_SCRATCH: Final = "/tmp"  # noqa: S108 - the container's own  # nosec B108
# Kubernetes expands $(NAME) in commands and environment values, and makes $$ one $: what is meant literally is escaped.
_EXPANDED: Final = re.compile(r"\$(?=[$(])")
# `jupyter` itself, not the images' start scripts: those change users, which needs root, and read other variables. The
# stock images have it on PATH. The token comes from JUPYTER_TOKEN; allow_remote_access and trust_xheaders, since
# requests carry the browser's Host through the proxy.
_JUPYTER: Final = (
    "jupyter",
    "lab",
    "--no-browser",
    "--ServerApp.ip=0.0.0.0",
    "--ServerApp.port={port}",
    "--ServerApp.port_retries=0",
    "--ServerApp.base_url={base_url}",
    "--ServerApp.root_dir={root}",
    "--ServerApp.allow_remote_access=True",
    "--ServerApp.trust_xheaders=True",
)


def build_template(key: Key, config: Config, *, secret: str, claim: str) -> dict[str, Any]:
    """Return the pod template of a workspace's Deployment.

    Args:
        key: a key that names a workspace.
        config: the settings.
        secret: name of the Secret that holds the token.
        claim: name of the PersistentVolumeClaim.
    """
    template = {
        "metadata": {
            "annotations": {
                # Scaling nodes down must not kill kernels.
                "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                "karpenter.sh/do-not-disrupt": "true",
            }
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": max(1, math.ceil(config.stop_grace.total_seconds())),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": config.run_as_user,
                "runAsGroup": config.fs_group,
                "fsGroup": config.fs_group,
                "fsGroupChangePolicy": "OnRootMismatch",  # else each start would walk the whole volume
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(key, config, secret)],
            "volumes": [
                {"name": "workspace", "persistentVolumeClaim": {"claimName": claim}},
                {"name": "scratch", "emptyDir": {}},  # counts towards the limit of ephemeral storage
            ],
        },
    }
    overlay = fill_all(config.pod_overlay, placeholders(key.workspace_id))
    # Whose pod it is, no overlay decides: the Deployment would not find it.
    identity = {"metadata": {"labels": labels_of(key), "annotations": {WORKSPACE: key.workspace_id}}}
    merged: dict[str, Any] = merge(merge(template, overlay), identity)
    return merged


def _container(key: Key, config: Config, secret: str) -> dict[str, Any]:
    sub_path = fill(config.workspace_sub_path, placeholders(key.workspace_id))
    return {
        "name": CONTAINER,
        "image": config.image,
        "imagePullPolicy": config.image_pull_policy,
        "command": command_of(key, config),
        "workingDir": config.workspace_mount_path,
        "env": _environment(key, config, secret),
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {
            "requests": {"cpu": config.cpu_request, "memory": config.memory_request},
            "limits": {
                "cpu": config.cpu_limit,
                "memory": config.memory_limit,
                "ephemeral-storage": config.ephemeral_storage,
            },
        },
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {
                "name": "workspace",
                "mountPath": config.workspace_mount_path,
                **({"subPath": sub_path} if sub_path else {}),
            },
            {"name": "scratch", "mountPath": _SCRATCH},
        ],
    }


def command_of(key: Key, config: Config) -> list[str]:
    """Return the container's command. `{token}` becomes a reference to the environment: the Secret alone holds it."""
    values = {
        **placeholders(key.workspace_id),
        "port": str(PORT),
        "base_url": f"{PREFIX}{key.workspace_id}/",
        "root": config.workspace_mount_path,
        "token": "$(JUPYTER_TOKEN)",
    }
    return [fill(_literal(word), values) for word in config.notebook_command or _JUPYTER]


def _environment(key: Key, config: Config, secret: str) -> list[dict[str, Any]]:
    """Return the environment. The operator's variables may replace HOME and the runtime directory, not the token."""
    values = placeholders(key.workspace_id)
    plain = {
        "HOME": config.workspace_mount_path,  # settings, keys and `pip install --user` outlive the pod
        "JUPYTER_RUNTIME_DIR": f"{_SCRATCH}/jupyter-runtime",  # connection files of dead kernels do not
        **{name: _literal(fill(value, values)) for name, value in config.extra_env_vars.items()},
    }
    if config.notebook_identity:
        plain[IDENTITY_VARIABLE] = USER_HEADER
    plain.pop("JUPYTER_TOKEN", None)
    token = {"name": "JUPYTER_TOKEN", "valueFrom": {"secretKeyRef": {"name": secret, "key": TOKEN_FIELD}}}
    return [token, *({"name": name, "value": value} for name, value in plain.items())]


def _literal(text: str) -> str:
    return _EXPANDED.sub("$$", text)
