"""Profiles: named images, resources and pod overlays that the operator offers, of which a workspace starts with one.

Pure. A profile changes settings of the Kubernetes backend for one workspace; `pod_overlay` is merged over the
operator's, everything else takes its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy.workspace import is_label

DESCRIPTION: Final = "description"
OVERLAY: Final = "pod_overlay"
SETTINGS: Final = (
    "image",
    "image_pull_policy",
    "cpu_request",
    "cpu_limit",
    "memory_request",
    "memory_limit",
    "ephemeral_storage",
    OVERLAY,
)
RULE: Final = f"a mapping of names to profiles, each a mapping of {DESCRIPTION}, {', '.join(SETTINGS)}"


@dataclass(frozen=True, slots=True)
class Profile:
    """What the operator offers.

    Args:
        name: a DNS-1123 label.
        description: for people; may be empty.
        changes: settings, by name, that it replaces.
    """

    name: str
    description: str
    changes: Mapping[str, Any]


def read_profiles(tree: Mapping[str, Any]) -> dict[str, Profile]:
    """Return the setting `profiles`, by name.

    Raises:
        ValueError: what is allowed.
    """
    found = {}
    for name, body in tree.items():
        if not is_label(name) or not isinstance(body, Mapping):
            raise ValueError(RULE)
        changes = {key.replace("-", "_"): value for key, value in body.items()}
        description = changes.pop(DESCRIPTION, "")
        if not isinstance(description, str) or not changes.keys() <= set(SETTINGS):
            raise ValueError(RULE)
        found[name] = Profile(name, description, changes)
    return found
