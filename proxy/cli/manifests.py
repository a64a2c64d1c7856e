"""`notebook-proxy manifests ID`: the objects that the proxy would create in a cluster for a workspace, as YAML.

Nothing is asked of a cluster. Tokens are masked, and so is what settings put into the environment of a notebook server.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.cli.client import add_id, checked_id
from proxy.cli.config import MASK
from proxy.cli.exits import Exit, Failed
from proxy.cli.flags import add_settings_command, settings_of
from proxy.cli.terminal import clean, ending, write_json
from proxy.errors import InvalidKey
from proxy.naming import namespace_of
from proxy.notes import Notes
from proxy.profiles import read_profiles
from proxy.workspace import Key
from proxy.workspace_settings import WorkspaceSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.cli.terminal import Commands
    from proxy.config import Config

_BY_CLUSTER: Final = "given-by-the-cluster"
_POD_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")


def add(commands: Commands) -> None:
    """Add the command to the parser of all."""
    parser = add_settings_command(
        commands, "manifests", "print what the proxy would create in a cluster for a workspace; nothing is asked of one"
    )
    add_id(parser)
    parser.add_argument("--profile", default="", metavar="NAME", help="as if the workspace had chosen this profile")
    parser.add_argument(
        "--output", "-o", choices=("yaml", "json"), default="yaml", help="form of what is printed (default: yaml)"
    )
    parser.set_defaults(run=run)


@ending
def run(given: dict[str, Any]) -> int:
    """Print them, in the order in which they are created."""
    name = checked_id(given)
    form, profile = given.pop("output"), given.pop("profile")
    del given["id"]
    config, _ = settings_of(given)
    if profile and profile not in read_profiles(config.profiles):
        offered = ", ".join(read_profiles(config.profiles)) or "none"
        raise Failed(f"--profile {profile!r} is not offered; those that are: {offered}.", Exit.USAGE)
    try:
        found = list(objects_of(Key(name, namespace_of(config.namespace, name)), config, profile))
    except InvalidKey as error:
        raise Failed(str(error), Exit.USAGE) from None
    if form == "json":
        write_json({"apiVersion": "v1", "kind": "List", "items": found})
        return Exit.DONE
    import yaml  # noqa: PLC0415 - of use here alone

    text = yaml.safe_dump_all(found, sort_keys=False, explicit_start=True, allow_unicode=False)
    sys.stdout.write(f"# What notebook-proxy would create for workspace {name}. {MASK} is masked.\n{clean(text)}")
    return Exit.DONE


def objects_of(key: Key, config: Config, profile: str = "") -> Iterator[dict[str, Any]]:
    """Yield the objects of a workspace in the order in which they are created, with secrets masked.

    Raises:
        InvalidKey: one of them would have a name that Kubernetes does not take.
        Failed: `namespace_manifests` cannot be used.
    """
    from proxy.backends.kubernetes import manifests  # noqa: PLC0415 - of use here alone
    from proxy.backends.kubernetes.profiled import build_profiled  # noqa: PLC0415 - the same

    if config.create_namespace:
        yield manifests.build_namespace(key, config)
        yield from _namespace_objects(key, config)
    if config.workspace_pvc_size:
        yield manifests.build_pvc(key, config)
    deployment = build_profiled(key, config, Notes(WorkspaceSettings(profile=profile or None)))
    plain = config.model_copy(update={"extra_env_vars": {}, "pod_overlay": {}, "profiles": {}})
    yield _without_values(deployment, build_profiled(key, plain, Notes()))
    owner = manifests.owner_reference({"metadata": {**deployment["metadata"], "uid": _BY_CLUSTER}})
    yield _without_data(manifests.build_secret(key, config, "", owner))
    yield manifests.build_service(key, config, owner=owner)


def _namespace_objects(key: Key, config: Config) -> Iterator[dict[str, Any]]:
    from proxy.backends.kubernetes.manifests import build_namespace_objects  # noqa: PLC0415 - of use here alone

    if not config.namespace_manifests:
        return
    try:
        text = Path(config.namespace_manifests).read_text(encoding="utf-8")
        found = build_namespace_objects(key, text)
    except (OSError, ValueError) as error:
        raise Failed(f"namespace_manifests cannot be used: {error}", Exit.USAGE) from None
    yield from (_without_data(body) for _, _, body in found)


def _without_data(body: dict[str, Any]) -> dict[str, Any]:
    """Return an object, a Secret without what it holds."""
    if body["kind"] != "Secret":
        return body
    held: dict[str, Any] = {
        part: dict.fromkeys(body[part] or (), MASK) for part in ("data", "stringData") if part in body
    }
    return {**body, **held}


def _without_values(deployment: dict[str, Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Deployment without the values of environment variables that the one without settings does not have."""
    ours = {
        (each["name"], each["value"])
        for container in plain["spec"]["template"]["spec"]["containers"]
        for each in container["env"]
        if "value" in each
    }
    body = copy.deepcopy(deployment)
    spec = body["spec"]["template"]["spec"]
    for container in (each for part in _POD_LISTS for each in spec.get(part) or ()):
        for variable in container.get("env") or ():
            if "value" in variable and (variable["name"], variable["value"]) not in ours:
                variable["value"] = MASK
    return body
