"""What those who oversee may ask of every workspace: to see it, and to stop it. Pure.

Never to enter, start or change it. Says nothing of who that is, nor whether there is anything at the path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxy.target import Target

_RESERVED: Final = "_proxy"  # below /ws/<id>/, the proxy's own
_API: Final = "/api/workspaces/"
_LOOKING: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SHOWN: Final = frozenset({"", "status", "events", "settings"})


def is_oversight(target: Target, method: str) -> bool:
    """Tell whether a request about one workspace only looks at it, or stops it."""
    if target.workspace_id is not None:
        first, _, name = target.below.partition("/")
        if first != _RESERVED or target.is_bare:
            return False
    elif target.path.startswith(_API):
        workspace_id, _, name = target.path[len(_API) :].partition("/")
        if method == "DELETE":
            return bool(workspace_id) and not name
    else:
        return False
    if name == "stop":
        return method in ("POST", "OPTIONS")
    return name in _SHOWN and method in _LOOKING
