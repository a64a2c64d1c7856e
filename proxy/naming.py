"""Names made from a workspace's id: what `{workspace_id}` and its kin stand for, and the namespace of a workspace.

Also what the backends and the relay agree on to name a user. Pure. A placeholder is replaced literally and in one pass:
what is put in is not looked at again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.errors import InvalidKey
from proxy.workspace import MAX_ID, Key, is_label

if TYPE_CHECKING:
    from collections.abc import Mapping

_PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
SHORT_LENGTH: Final = 8
USER_HEADER: Final = "X-Forwarded-User"
"""In which a notebook server is told who asks."""
IDENTITY_VARIABLE: Final = "NOTEBOOK_IDENTITY_HEADER"
"""Names that header to the notebook server's configuration, where it is to take its users from there."""
_LONGEST_HOST: Final = 253  # RFC 1035 section 2.3.4, without the dot at the end


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with each `{name}` that has a value replaced by it; all else stays as it is."""
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)


def placeholders(workspace_id: str) -> dict[str, str]:
    """Return what every template may contain: `workspace_id` and `workspace_id_short`, its first 8 characters."""
    return {"workspace_id": workspace_id, "workspace_id_short": workspace_id[:SHORT_LENGTH]}


def is_template(text: str) -> bool:
    """Tell whether `text` differs from workspace to workspace."""
    return fill(text, placeholders("a")) != text


def namespace_of(template: str, workspace_id: str) -> str:
    """Return the namespace of a workspace.

    Args:
        template: the setting `namespace`: a name, or a template such as `agent-ws-{workspace_id_short}`.
        workspace_id: any text.

    Raises:
        InvalidKey: the id cannot name a workspace, or what comes out is not a DNS-1123 label.
    """
    Key(workspace_id, template).safe_deployment_name()
    namespace = fill(template, placeholders(workspace_id))
    if not is_label(namespace):
        raise InvalidKey(workspace_id, f"its namespace would be {namespace!r}, which is not a DNS-1123 label")
    return namespace


def is_base_domain(text: str) -> bool:
    """Tell whether workspaces' hosts can lie below this name: it is no address, and has room for the longest id."""
    labels = text.split(".")
    has_room = MAX_ID + 1 + len(text) <= _LONGEST_HOST
    return all(is_label(label) for label in labels) and has_room and not labels[-1].isdecimal()
