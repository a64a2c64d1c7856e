"""From Zero to JupyterHub: its Helm values, translated into settings of this proxy. Pure.

What has no counterpart is named, never dropped in silence. People's claims stay, and the addresses they know:
`workspace_pvc_name`, `workspace_template` and `jupyterhub_paths` see to that.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from proxy.migration.pods import memory, overlay, text
from proxy.migration.profiles import profiles_of
from proxy.migration.shapes import listed, mapping, seconds
from proxy.migration.values import Values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_USER: Final = re.compile(r"\{(?:escaped_)?user_server\}|\{username\}(?:--)?\{servername\}|\{username\}")
# What KubeSpawner fills in elsewhere, and nobody does here.
_HUBS: Final = re.compile(
    r"\{(?:(?:un)?escaped_)?(?:username|servername|user_server)\}|\{(?:userid|hubnamespace|namespace|pod_name|pvc_name)\}"
)
# What the proxy does by itself, or what only a hub can mean: nothing is lost with it.
_MOOT: Final = (
    "singleuser.cmd", "singleuser.defaultUrl", "singleuser.startTimeout", "singleuser.events",
    "singleuser.cloudMetadata", "singleuser.networkPolicy.enabled", "cull.users", "cull.adminUsers",
    "cull.concurrency", "cull.removeNamedServers", "hub.config.KubeSpawner.slug_scheme",
)  # fmt: skip
_ADMINS: Final = "hub.config.Authenticator.admin_users"
_ELSEWHERE: Final = (
    ("hub.", "there is no hub; who may enter is said by `auth`"),
    ("ingress.", "take an overlay of deploy/"),
    ("proxy.", "there is no configurable-http-proxy; TLS is the ingress's, or tls_cert and tls_key"),
    ("scheduling.", "pod_overlay adds tolerations, affinity and priority"),
    ("prePuller.", "a DaemonSet of your own can pull images ahead"),
    ("singleuser.networkPolicy.", "deploy/base/network-policies.yaml has notebooks'"),
    ("singleuser.", "has no counterpart; pod_overlay adds what a Pod can have"),
)


@dataclass(slots=True)
class Translation:
    """What became of the values.

    Attributes:
        settings: of this proxy, by name.
        left: one line for each value that has no counterpart, with what to do instead.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)


def translate(tree: Mapping[str, Any]) -> Translation:
    """Return settings that do what these values do, as far as there are such.

    Args:
        tree: what stands in `values.yaml`; the chart's own defaults hold for what does not.

    Raises:
        ValueError: they are no values of the chart; it says which, and what is allowed.
    """
    values = Values(tree)
    for name in ("singleuser", "hub", "cull"):
        mapping(tree.get(name), name)
    left: list[str] = []
    scheme = text(values.take("hub.config.KubeSpawner.slug_scheme")) or "safe"
    settings = {
        "backend": "kubernetes",
        "auth": "jwt",
        "workspace_template": "{jupyterhub_escaped}" if scheme == "escape" else "{jupyterhub_slug}",
        "jupyterhub_paths": "on",
        **_image(values, left),
        **_resources(values),
        **_storage(values, left),
        **_cull(values),
        **_identity(values),
        "admin_users": listed(values.take(_ADMINS), _ADMINS),
    }
    settings["pod_overlay"] = overlay(values)
    offered, default, notes = profiles_of(values.take("singleuser.profileList") or [])
    settings["profiles"] = offered
    if default:
        notes += _prefer(default, offered, settings)
    for name in _MOOT:
        values.take(name)
    left += [*notes, *(f"{name}: {_advice(name)}" for name in values.left())]
    told = {name: _of_workspaces(value) for name, value in settings.items() if value not in (None, "", {}, [])}
    left += [f"{name}: {text!r}: nobody fills that in" for name, value in told.items() for text in _unfilled(value)]
    return Translation(told, left)


def _of_workspaces(value: Any) -> Any:
    """Return a copy in which every text names the workspace where it named a user's server."""
    if isinstance(value, dict):
        return {name: _of_workspaces(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_of_workspaces(each) for each in value]
    return _of_workspace(value) if isinstance(value, str) else value


def _unfilled(value: Any) -> Iterator[str]:
    """Yield every text in which KubeSpawner would fill in what is not known here."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _unfilled(each)
    elif isinstance(value, str) and _HUBS.search(value):
        yield value


def _prefer(name: str, offered: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """Let a workspace that has chosen nothing start as the default profile says; return what that leaves open.

    Every other profile then says for itself what it had from `singleuser` before.
    """
    notes = []
    for setting, value in offered[name].items():
        if setting == "description":
            continue
        if setting == "pod_overlay":  # the others would inherit it
            notes.append(f"singleuser.profileList: {name}: its pod_overlay holds for who chooses it, not by default")
            continue
        before, settings[setting] = settings.get(setting), value
        for other, profile in offered.items():
            if setting in profile:
                continue
            if before in (None, ""):
                notes.append(f"singleuser.profileList: {other}: had no {setting}, and has {name}'s now; give it one")
            else:
                profile[setting] = before
    return notes


def _image(values: Values, left: list[str]) -> dict[str, Any]:
    name, tag = text(values.take("singleuser.image.name")), text(values.take("singleuser.image.tag"))
    found: dict[str, Any] = {"image_pull_policy": values.take("singleuser.image.pullPolicy")}
    if name:
        found["image"] = f"{name}:{tag}" if tag else name
    else:
        left.append("singleuser.image: the chart has an image of its own where nothing is said; `image` has another")
    return found


def _resources(values: Values) -> dict[str, Any]:
    """Translate what a server may take. Where the chart says nothing, this proxy's own defaults hold."""
    take = values.take
    return {
        "cpu_limit": text(take("singleuser.cpu.limit")),
        "cpu_request": text(take("singleuser.cpu.guarantee")),
        "memory_limit": memory(take("singleuser.memory.limit"), "singleuser.memory.limit"),
        # The chart's own default: what it reserves unless it is told otherwise.
        "memory_request": memory(take("singleuser.memory.guarantee", "1G"), "singleuser.memory.guarantee"),
    }


def _storage(values: Values, left: list[str]) -> dict[str, Any]:
    """Translate where people's files are."""
    at = "singleuser.storage."
    kind = text(values.take(f"{at}type", "dynamic"))
    found: dict[str, Any] = {"workspace_mount_path": values.take(f"{at}homeMountPath", "/home/jovyan")}
    if kind == "dynamic":
        name = values.take(f"{at}dynamic.pvcNameTemplate", "claim-{user_server}")
        found["workspace_pvc_name"] = _of_workspace(name)
        found["workspace_pvc_size"] = text(values.take(f"{at}capacity", "10Gi"))
        found["workspace_pvc_storage_class"] = text(values.take(f"{at}dynamic.storageClass"))
    elif kind == "static":
        found["workspace_pvc_name"] = text(values.take(f"{at}static.pvcName"))
        found["workspace_sub_path"] = _of_workspace(values.take(f"{at}static.subPath", "{username}"))
    else:
        left.append(f"{at}type: {kind!r}: here every workspace has a volume; workspace_pvc_size makes one")
    return found


def _of_workspace(template: Any) -> str:
    return _USER.sub("{workspace_id}", text(template))


def _cull(values: Values) -> dict[str, Any]:
    """Translate when servers are stopped; the chart counts seconds."""
    take = values.take
    if text(take("cull.enabled", "true")) == "false":
        take("cull.timeout"), take("cull.every"), take("cull.maxAge")
        return {"reaper": "off"}
    idle = seconds(take("cull.timeout", 3600), "cull.timeout")
    every = seconds(take("cull.every", 600), "cull.every")
    oldest = seconds(take("cull.maxAge", 0), "cull.maxAge")
    return {
        "idle_ttl": f"{idle}s",
        "reap_interval": f"{every or idle // 2}s",  # as the hub's culler has it
        "max_age": f"{oldest}s" if oldest else None,
    }


def _identity(values: Values) -> dict[str, Any]:
    """Translate who the server runs as, and what it finds in its environment."""
    environment = values.take("singleuser.extraEnv")
    if isinstance(environment, list):
        entries = [mapping(entry, "singleuser.extraEnv") for entry in environment]
        environment = {text(entry.get("name")): entry.get("value") for entry in entries}
    environment = mapping(environment, "singleuser.extraEnv")
    plain = {name: text(value) for name, value in environment.items() if isinstance(value, str | int | float)}
    for name in environment.keys() - plain.keys():
        values.leave(f"singleuser.extraEnv.{name}")
    return {
        "run_as_user": text(values.take("singleuser.uid", "1000")),
        "fs_group": text(values.take("singleuser.fsGid", "100")),
        "extra_env_vars": plain,
    }


def _advice(name: str) -> str:
    return next((advice for start, advice in _ELSEWHERE if name.startswith(start)), "belongs to the chart alone")
