"""Where the addresses that JupyterHub's users have bookmarked lead now. Pure.

They lead on and let nobody in: whoever follows is asked at the workspace who they are, as for any other address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable

_USER: Final = "/user/"
_OWN: Final = "/hub/user-redirect/"
_HUB: Final = ("/hub", "/hub/", "/hub/home", "/hub/spawn", "/hub/token", "/hub/admin")


def lead_on(path: str, workspace_of: Callable[[str], str | None]) -> str | None:
    """Return the path here that a path of JupyterHub's stands for; None if it is none, or leads to nobody.

    Args:
        path: as it was sent, without its query.
        workspace_of: the id that the template gives a user's name.
    """
    if path.startswith(_OWN):
        return f"/my/{path[len(_OWN) :]}"
    if path in _HUB or path.startswith("/hub/spawn/"):
        return "/"
    if not path.startswith(_USER):
        return None
    written, slash, rest = path[len(_USER) :].partition("/")
    found = workspace_of(unquote(written, errors="surrogateescape"))
    return None if found is None else f"/ws/{found}/{rest if slash else ''}"
