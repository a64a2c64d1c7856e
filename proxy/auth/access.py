"""Which workspaces a user may open.

Says no to whatever nothing allows, and the same no whether or not the workspace exists. Starts nothing.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from proxy.errors import Forbidden

if TYPE_CHECKING:
    from proxy.auth.user import User


class Access:
    """Judges by what a user's credential names."""

    def admits(self, user: User, workspace_id: str, method: str) -> bool | None:
        """Tell whether a user may send a request of this method to a workspace; None: only `authorise` can tell."""
        del method
        theirs = user.workspaces
        return "*" in theirs or any(fnmatchcase(workspace_id, pattern) for pattern in theirs)

    async def authorise(self, user: User, workspace_id: str, method: str) -> None:
        """Return if a user may.

        Raises:
            Forbidden: they may not.
        """
        if not self.admits(user, workspace_id, method):
            raise Forbidden
