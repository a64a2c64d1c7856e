"""What a setting's value must be beyond its type: ranges, forms, and what a value may not contain.

Pure. Knows settings by name and judges values that already have their types; it converts nothing and finds no defaults.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from proxy.naming import fill, placeholders
from proxy.profiles import read_profiles
from proxy.settings_auth_rules import auth_problems
from proxy.settings_types import OFF, format_value, parse_listen
from proxy.workspace import is_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

LONGEST: Final = timedelta(days=3650)
"""What is longer is a mistake of units."""
_VARIABLE: Final = re.compile(r"[!-<>-~]+")  # POSIX 8.1, less what no shell can show
_QUANTITY: Final = (
    re.compile(r"[0-9]+(\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?"),
    "a Kubernetes quantity above zero, such as 500m, 2 or 4Gi",
)
_CONTAINERS: Final = frozenset({"containers", "initContainers"})
_POD_LISTS: Final = _CONTAINERS | {
    "volumes",
    "tolerations",
    "imagePullSecrets",
    "topologySpreadConstraints",
    "hostAliases",
}
_CONTAINER_LISTS: Final = frozenset({"env", "envFrom", "volumeMounts", "volumeDevices", "ports"})
_MAX_ID: Final = 2**31 - 1  # what Kubernetes takes for a user or group
_AT_ONCE: Final = (
    "reap_concurrency", "max_concurrent_starts", "max_queued", "access_log_sample",
    "max_starts_per_user", "max_running_per_user",
    "max_requests_per_user", "max_connections_per_user",
)  # fmt: skip
_MOST_AT_ONCE: Final = 100_000
_MIN_SECRET_LENGTH: Final = 16
_HEADER_BYTES: Final = (4096, 1_048_576)  # what every server takes, and what none needs
_MAX_CONNECTIONS: Final = 1_000_000
_LONGEST_STALL: Final = timedelta(days=1)
_SEGMENT: Final = r"(?!\.{1,2}(?:/|$))(?:[A-Za-z0-9._-]|\{workspace_id(?:_short)?\})+"
_SUBDOMAIN: Final = r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?"
_FORMS: Final = {
    **dict.fromkeys(("cpu_request", "cpu_limit", "memory_request", "memory_limit", "ephemeral_storage"), _QUANTITY),
    "image": (re.compile(r"[!-~]+"), "an image reference without spaces"),
    "ready_path": (
        re.compile(r'(?!/)[!-"$-~]+'),
        "a path relative to the base URL, such as `api`, without spaces or '#'",
    ),
    "workspace_pvc_size": (re.compile(rf"(?:{_QUANTITY[0].pattern})?"), _QUANTITY[1]),
    "workspace_pvc_storage_class": (re.compile(rf"(?:{_SUBDOMAIN})?"), "a storage class's name"),
    "workspace_mount_path": (
        re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._-]+)+"),
        "an absolute path of letters, digits, '.', '_' and '-', without `.` and `..`",
    ),
    "workspace_sub_path": (
        re.compile(rf"(?:{_SEGMENT}(?:/{_SEGMENT})*)?"),
        "a relative path of letters, digits, '.', '_', '-' and placeholders, without `.` and `..`",
    ),
    "cluster_domain": (re.compile(_SUBDOMAIN), "a DNS name such as cluster.local"),
    "workspace_pvc_name": (
        re.compile(r"([a-z0-9.-]|\{workspace_id(_short)?\})+"),
        "lower-case letters, digits, '-', '.', `{workspace_id}` and `{workspace_id_short}`",
    ),
}


def problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the name of each setting whose value is not allowed, and what is allowed.

    Args:
        values: every setting by its name, each of its own type.
    """
    for name, value in values.items():
        if isinstance(value, timedelta) and not timedelta() < value <= LONGEST:
            yield name, f"a duration above zero, at most {format_value(LONGEST)}"
        form, allowed = _FORMS.get(name, (None, ""))
        if form is not None and not form.fullmatch(value):
            yield name, allowed
    for name in _AT_ONCE:
        if not 0 < values[name] <= _MOST_AT_ONCE:
            yield name, f"a whole number from 1 to {_MOST_AT_ONCE}"
    yield from _client_problems(values)
    is_open = values["insecure_no_auth"] or values["auth"] != "none"
    yield from _address_problems(values["listen"], is_open=is_open)
    yield from _ops_problems(values["ops_listen"])
    yield from auth_problems(values)
    yield from _tls_problems(values)
    yield from _kubernetes_problems(values)
    try:
        read_profiles(values["profiles"])
    except ValueError as error:
        yield "profiles", str(error)
    yield from _process_problems(values["notebook_command"], values["local_root"], values["extra_env_vars"])


def _client_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    least, most = _HEADER_BYTES
    if not least <= values["max_header_bytes"] <= most:
        yield "max_header_bytes", f"a whole number from {least} to {most}"
    if not 0 <= values["max_connections"] <= _MAX_CONNECTIONS:
        yield "max_connections", f"a whole number up to {_MAX_CONNECTIONS}; 0 is as many as fit"
    if values["client_stall_timeout"] > _LONGEST_STALL:
        yield "client_stall_timeout", f"a duration above zero, at most {format_value(_LONGEST_STALL)}"


def _ops_problems(listen: str) -> Iterator[tuple[str, str]]:
    try:
        if listen != OFF:
            parse_listen(listen)
    except ValueError as error:
        yield "ops_listen", f"{error}; or off"


def _tls_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if "\0" in values[name]:
            yield name, "a path without NUL characters"
        if values[name] and not values[other]:
            yield name, f"left out, or given together with {other}"


def _kubernetes_problems(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not is_label(fill(values["namespace"], placeholders("a"))):
        yield (
            "namespace",
            "a DNS-1123 label of at most 63 characters, but for `{workspace_id}` and `{workspace_id_short}`",
        )
    if values["proxy_namespace"] and not is_label(values["proxy_namespace"]):
        yield "proxy_namespace", "a DNS-1123 label of at most 63 characters"
    for name in ("run_as_user", "fs_group"):
        if not 0 < values[name] <= _MAX_ID:
            yield name, f"a whole number from 1 to {_MAX_ID}"
    yield from _overlay_problems(values["pod_overlay"])
    if values["namespace_manifests"] and not values["create_namespace"]:
        yield "namespace_manifests", "left out unless create_namespace is on"
    for name in ("namespace_manifests", "kubeconfig"):
        if "\0" in values[name]:
            yield name, "a path without NUL characters"
    secret = values["notebook_secret"].get_secret_value()
    if secret and len(secret) < _MIN_SECRET_LENGTH:
        yield "notebook_secret", f"at least {_MIN_SECRET_LENGTH} characters, such as `openssl rand -hex 32` prints"


def _overlay_problems(overlay: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if not overlay.keys() <= {"metadata", "spec"} or not all(isinstance(part, dict) for part in overlay.values()):
        yield "pod_overlay", "a mapping with `metadata`, `spec` or both, each a mapping"
    elif name := next(_no_lists(overlay.get("spec", {})), ""):
        yield "pod_overlay", f"a part of a Pod, in which `{name}` is a list of mappings"


def _no_lists(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield the name of each field that must be a list of mappings (Kubernetes API: PodSpec, Container) and is none."""
    for name in _POD_LISTS & spec.keys():
        found = spec[name]
        if found is not None and not _is_list(found):
            yield name
        elif name in _CONTAINERS:
            for container in found or ():
                given = {part for part in _CONTAINER_LISTS & container.keys() if container[part] is not None}
                yield from (part for part in given if not _is_list(container[part]))


def _is_list(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(each, dict) for each in found)


def _address_problems(listen: str, *, is_open: bool) -> Iterator[tuple[str, str]]:
    try:
        host, _ = parse_listen(listen)
    except ValueError as error:
        yield "listen", str(error)
        return
    if not is_open and host != "localhost" and not ipaddress.ip_address(host).is_loopback:
        yield "listen", "a loopback address (127.0.0.1, [::1]) without authentication, unless insecure_no_auth is on"


def _process_problems(
    command: tuple[str, ...], root: Path, environment: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Find what no process can be started with: execve(2) takes strings that end at the first NUL."""
    if command and (not command[0] or "\0" in "".join(command)):
        yield "notebook_command", "a program and its arguments, without NUL characters"
    if "\0" in str(root):
        yield "local_root", "a path without NUL characters"
    if any(not _VARIABLE.fullmatch(name) or "\0" in value for name, value in environment.items()):
        yield "extra_env_vars", "names without spaces or '=', and values without NUL characters"
