"""A user's name or e-mail as part of a workspace's id: `{user_slug}` in `workspace_template`. Pure.

A name that is a plain label stays as it is. Any other becomes what of it can be read and a digest of all of it, in a
form that no plain label may have, so that no two names have one slug, whatever names people give themselves.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from proxy import jupyterhub_names
from proxy.naming import fill
from proxy.workspace import MAX_ID, is_label

PLACEHOLDER: Final = "user_slug"
_DIGEST_LENGTH: Final = 20  # of base 32: 100 bits, so that nobody finds a name with somebody else's
LEAST_ROOM: Final = _DIGEST_LENGTH + 4  # a template must leave as much: two letters that can be read, at least
_DIGEST: Final = re.compile(rf"(?:.*-)?[a-z2-7]{{{_DIGEST_LENGTH}}}")
_RESERVED: Final = "--"  # RFC 5891 section 4.2.3.1: a browser takes `xn--` for punycode
_OF_JUPYTERHUB: Final = {
    "{jupyterhub_slug}": jupyterhub_names.safe,
    "{jupyterhub_escaped}": jupyterhub_names.escaped,
}
"""Whole templates: ids are the slugs that JupyterHub gave to users' claims."""
_UNREADABLE: Final = re.compile(r"[^a-z0-9]+")


def room_of(template: str) -> int:
    """Return how many characters a template leaves to a slug; none or less where it has no place for one."""
    if fill(template, {PLACEHOLDER: ""}) == template:
        return 0
    return MAX_ID - len(fill(template, {PLACEHOLDER: ""}))


def slug_of(name: str, room: int = MAX_ID) -> str:
    """Return a DNS-1123 label that stands for this name and for no other.

    Args:
        name: any text but none; upper and lower case are different names.
        room: how long it may be, at least `LEAST_ROOM`. One name has one slug for each room.
    """
    assert name
    assert room >= LEAST_ROOM
    if is_label(name) and len(name) <= room and not _DIGEST.fullmatch(name) and _RESERVED not in name:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).digest()
    code = base64.b32encode(digest).decode().lower()[:_DIGEST_LENGTH]
    readable = _UNREADABLE.sub("-", name.lower()).strip("-")[: room - _DIGEST_LENGTH - 1].strip("-")
    return f"{readable}-{code}" if readable else code


def workspace_of_user(template: str, name: str) -> str:
    """Return the id of the workspace that a template gives to a user.

    Args:
        template: the setting `workspace_template`: with `{user_slug}` once, or one of JupyterHub's.
        name: the user's.
    """
    scheme = _OF_JUPYTERHUB.get(template)
    if scheme is not None:
        found = scheme(name)
        return found if is_label(found) and len(found) <= MAX_ID else _unlike_jupyterhubs(name)
    return fill(template, {PLACEHOLDER: slug_of(name, room_of(template))})


def _unlike_jupyterhubs(name: str) -> str:
    """Return an id for a name whose slug from JupyterHub can be none: of a form that no slug of JupyterHub's has.

    Of two hyphens in a row, `safe` has three, before a digest of 8 characters, and `escaped` has none.
    """
    digest = base64.b32encode(hashlib.sha256(name.encode(errors="surrogatepass")).digest())
    readable = _UNREADABLE.sub("-", name.lower()).strip("-")[: MAX_ID - _DIGEST_LENGTH - 2].strip("-")
    return f"{readable or 'x'}--{digest.decode().lower()[:_DIGEST_LENGTH]}"


def is_usable(template: str) -> bool:
    """Tell whether a template gives each user an id of their own, whatever their name."""
    if template in _OF_JUPYTERHUB:
        return True
    mark = "{" + PLACEHOLDER + "}"
    return (
        template.count(mark) == 1
        and room_of(template) >= LEAST_ROOM
        and is_label(template.replace(mark, "a"))
        and _RESERVED not in template
    )
