"""What a pod gets from the rest of the cluster: its environment's values, and its volumes as local directories."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from tests.cluster import resources
from tests.cluster.container import expand
from tests.cluster.resources import Obj, Resource, name_of, namespace_of

if TYPE_CHECKING:
    from tests.cluster.store import Store


class ConfigError(Exception):
    """The container cannot be configured: the message is the kubelet's."""


class MountError(Exception):
    """A volume cannot be mounted, or attached: the message is the kubelet's, `reason` its event's."""

    def __init__(self, message: str, reason: str = "FailedMount") -> None:
        super().__init__(message)
        self.reason = reason


def environment_of(store: Store, pod: Obj, container: Obj, address: str) -> dict[str, str]:
    """Return the container's environment.

    Raises:
        ConfigError: a Secret, a ConfigMap or a key in it is not there.
    """
    env = {"HOSTNAME": name_of(pod)}
    for source in container.get("envFrom", []):
        for field, resource in (("secretRef", resources.SECRETS), ("configMapRef", resources.CONFIG_MAPS)):
            if ref := source.get(field):
                values = _values(store, resource, namespace_of(pod), ref["name"])
                if values is None and not ref.get("optional"):
                    raise ConfigError(_missing(resource, ref["name"]))
                env |= {source.get("prefix", "") + key: value for key, value in (values or {}).items()}
    for variable in container.get("env", []):
        value = _value(store, pod, variable, address)
        if value is not None:
            env[variable["name"]] = expand(value, env)
    return env


def _value(store: Store, pod: Obj, variable: Obj, address: str) -> str | None:
    source = variable.get("valueFrom")
    if not source:
        return str(variable.get("value", ""))
    if field := source.get("fieldRef"):
        facts = {
            "status.podIP": address,
            "spec.nodeName": pod["spec"].get("nodeName", ""),
            "status.hostIP": "127.0.0.1",
        }
        facts |= {f"metadata.{key}": str(pod["metadata"].get(key, "")) for key in ("name", "namespace", "uid")}
        return str(facts.get(field["fieldPath"], ""))
    for field, resource in (("secretKeyRef", resources.SECRETS), ("configMapKeyRef", resources.CONFIG_MAPS)):
        if ref := source.get(field):
            values = _values(store, resource, namespace_of(pod), ref["name"])
            if values is not None and ref["key"] in values:
                return values[str(ref["key"])]
            if ref.get("optional"):
                return None
            if values is None:
                raise ConfigError(_missing(resource, ref["name"]))
            where = f"{resource.kind} {namespace_of(pod)}/{ref['name']}"
            raise ConfigError(f"couldn't find key {ref['key']} in {where}")
    return ""


def _missing(resource: Resource, name: str) -> str:
    return f'{resource.kind.lower()} "{name}" not found'


def _values(store: Store, resource: Resource, namespace: str, name: str) -> dict[str, str] | None:
    found = store.get(resource, namespace, name)
    if found is None:
        return None
    values: dict[str, str] = found.get("data") or {}
    if resource == resources.SECRETS:
        return {key: base64.b64decode(value).decode() for key, value in values.items()}
    return values


class Volumes:
    """Directories for claims, which outlive pods, and which node each claim is attached to."""

    def __init__(self, store: Store, root: Path) -> None:
        self.root = root
        self._store = store
        self._attached: dict[tuple[str, str], tuple[str, set[str]]] = {}

    def claim_directory(self, namespace: str, claim: str) -> Path:
        """Return where the files of a claim are."""
        directory = self.root / "claims" / namespace / claim
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def mount(self, pod: Obj, directory: Path) -> dict[str, Path]:
        """Return the local directory (or file) of each mount path of the pod's first container.

        Raises:
            MountError: a volume's source is missing, or attached to another node.
        """
        sources = {volume["name"]: self._source(pod, volume, directory) for volume in pod["spec"].get("volumes", [])}
        mounts: dict[str, Path] = {}
        for mount in pod["spec"]["containers"][0].get("volumeMounts", []):
            local: Path = sources[mount["name"]]
            if sub_path := mount.get("subPath"):
                local /= sub_path
                if not local.exists():
                    local.mkdir(parents=True)
            mounts[mount["mountPath"]] = local
        return mounts

    def _source(self, pod: Obj, volume: Obj, directory: Path) -> Path:
        name, namespace = volume["name"], namespace_of(pod)
        if claim := volume.get("persistentVolumeClaim"):
            self._attach(pod, claim["claimName"])
            return self.claim_directory(namespace, claim["claimName"])
        local = directory / "volumes" / name
        local.mkdir(parents=True, exist_ok=True)
        for field, key, resource in (
            ("secret", "secretName", resources.SECRETS),
            ("configMap", "name", resources.CONFIG_MAPS),
        ):
            if source := volume.get(field):
                values = _values(self._store, resource, namespace, source[key])
                if values is None and not source.get("optional"):
                    missing = _missing(resource, source[key])
                    raise MountError(f'MountVolume.SetUp failed for volume "{name}" : {missing}')
                for file, content in (values or {}).items():
                    (local / file).write_text(content)
        return Path(local)

    def _attach(self, pod: Obj, claim: str) -> None:
        key, node = (namespace_of(pod), claim), pod["spec"]["nodeName"]
        found = self._store.get(resources.CLAIMS, *key)
        if found is None:
            raise MountError(f'persistentvolumeclaim "{claim}" not found')
        there, users = self._attached.get(key, (node, set()))
        if users and there != node and "ReadWriteMany" not in found["spec"].get("accessModes", []):
            volume = found["spec"].get("volumeName", claim)
            message = (
                f'Multi-Attach error for volume "{volume}" Volume is already used by pod(s) {", ".join(sorted(users))}'
            )
            raise MountError(message, "FailedAttachVolume")
        self._attached[key] = (node, {*users, name_of(pod)})

    def release(self, pod: Obj) -> None:
        """Detach what the pod used."""
        for key, (node, users) in tuple(self._attached.items()):
            if key[0] == namespace_of(pod):
                self._attached[key] = (node, users - {name_of(pod)})
