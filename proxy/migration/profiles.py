"""KubeSpawner's `profileList` as this proxy's `profiles`. Pure.

A profile with options becomes one profile for each combination of their choices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, Final, TypeAlias

from proxy.migration.pods import of_override
from proxy.migration.shapes import mapping
from proxy.workspace import MAX_LABEL

MOST: Final = 100
"""Combinations of one profile's options; what has more is a form, and not a list."""
_UNREADABLE: Final = re.compile(r"[^a-z0-9]+")

Choice: TypeAlias = tuple[str, str, Mapping[str, Any], bool]  # slug, name for people, override, is it the default


def profiles_of(found: Any) -> tuple[dict[str, Any], str, list[str]]:
    """Return the profiles by name, the name of the default one (or nothing), and what has no counterpart.

    Raises:
        ValueError: it is no list of profiles, or holds too many combinations.
    """
    if not isinstance(found, list) or not all(isinstance(profile, Mapping) for profile in found):
        raise ValueError("singleuser.profileList must be a list of mappings")
    profiles: dict[str, Any] = {}
    default = ""
    left: list[str] = []
    for profile in found:
        left += [f"singleuser.profileList: {name}: has no counterpart" for name in _free_text(profile)]
        for slug, description, override, is_default in _combinations(profile):
            changes, unknown = of_override(override)
            name = _free(slug, profiles)
            profiles[name] = {"description": description, **changes}
            left += [f"singleuser.profileList: {name}: {each}: has no counterpart" for each in unknown]
            if is_default and not default:
                default = name
    return profiles, default, list(dict.fromkeys(left))


def _combinations(profile: Mapping[str, Any]) -> Iterator[Choice]:
    """Yield one profile for each combination of choices, the default first in line where the chart has it so."""
    title = str(profile.get("display_name") or profile.get("slug") or "profile")
    slug = _slug(str(profile.get("slug") or title))
    base = dict(mapping(profile.get("kubespawner_override"), f"profileList: {slug}: kubespawner_override"))
    told = str(profile.get("description") or "")
    options = [_choices(option) for option in _options(profile).values()]
    count = 1
    for choices in options:
        count *= len(choices)
    if count > MOST:
        raise ValueError(f"singleuser.profileList: {slug}: {count} combinations of options; at most {MOST} are listed")
    for chosen in product(*options):
        override, names, slugs = dict(base), [], [slug]
        for part, name, change, _ in chosen:
            override |= change
            names.append(name)
            slugs.append(part)
        is_default = profile.get("default") in (True, "true") and all(choice[3] for choice in chosen)
        description = ": ".join(filter(None, [title, ", ".join(names)]))
        yield "-".join(slugs), f"{description} ({told})" if told else description, override, is_default


def _options(profile: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = mapping(profile.get("profile_options"), "profileList: profile_options")
    return {name: mapping(option, f"profileList: {name}") for name, option in found.items()}


def _free_text(profile: Mapping[str, Any]) -> Iterator[str]:
    """Yield the name of each option that lets people write what they want instead of choosing."""
    for name, option in _options(profile).items():
        if mapping(option.get("unlisted_choice"), f"profileList: {name}: unlisted_choice").get("enabled"):
            yield f"{profile.get('display_name')}: {name}: unlisted_choice"


def _choices(option: Mapping[str, Any]) -> list[Choice]:
    """Return the choices of an option; what is free text has none."""
    choices = mapping(option.get("choices"), "profileList: choices")
    found = [
        (
            _slug(str(slug)),
            str(choice.get("display_name") or slug),
            mapping(choice.get("kubespawner_override"), f"profileList: {slug}: kubespawner_override"),
            choice.get("default") in (True, "true"),
        )
        for slug, choice in ((slug, mapping(given, f"profileList: {slug}")) for slug, given in choices.items())
    ]
    if found and not any(choice[3] for choice in found):
        slug, name, change, _ = found[0]  # as KubeSpawner does
        found[0] = (slug, name, change, True)
    return found or [("any", "", {}, True)]


def _slug(name: str) -> str:
    return _UNREADABLE.sub("-", name.lower()).strip("-") or "profile"


def _free(slug: str, taken: Mapping[str, Any]) -> str:
    """Return a label that no other profile has."""
    short = slug[: MAX_LABEL - 4].rstrip("-")
    names = (short, *(f"{short}-{number}" for number in range(2, MOST * 10)))
    return next(name for name in names if name not in taken)
