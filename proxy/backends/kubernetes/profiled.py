"""The settings with which a workspace of a profile starts, and its Deployment.

Pure. A profile's `pod_overlay` is merged over the operator's; each of its other settings takes the operator's place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.backends.kubernetes import ownership
from proxy.backends.kubernetes.manifests import build_deployment
from proxy.backends.kubernetes.overlay import merge
from proxy.config import Config
from proxy.profiles import OVERLAY, read_profiles

if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from proxy.notes import Notes
    from proxy.workspace import Key

    Object: TypeAlias = dict[str, Any]


def with_profile(config: Config, notes: Notes) -> tuple[Config, str]:
    """Return the settings for a workspace, and the profile's name; as they are, and none, where none is chosen.

    One that is not offered (any more) is none: a workspace must start, whatever its owner once chose.
    """
    profile = read_profiles(config.profiles).get(notes.settings.profile or "")
    if profile is None:
        return config, ""
    held = {name: getattr(config, name) for name in Config.model_fields}
    changes = dict(profile.changes)
    if OVERLAY in changes:
        changes[OVERLAY] = merge(config.pod_overlay, changes[OVERLAY])
    return Config(**{**held, **changes}).with_defaults(), profile.name


def build_profiled(key: Key, config: Config, notes: Notes) -> Object:
    """Return the Deployment of a workspace with the profile that it has chosen. Its pods say which template is theirs.

    Raises:
        InvalidKey: see `build_deployment`.
    """
    config, profile = with_profile(config, notes)
    body = build_deployment(key, config)
    annotations = body["metadata"]["annotations"]
    annotations[ownership.PROFILE] = profile
    body["spec"]["template"]["metadata"]["annotations"][ownership.TEMPLATE_HASH] = annotations[ownership.TEMPLATE_HASH]
    return body
