"""What a verified token says: who somebody is, and which workspaces are theirs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from proxy.auth.user import User
from proxy.workspace import is_label

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_NAME: Final = 255
_MOST_WORKSPACES: Final = 1000


def check_name(name: object) -> str:
    """Return a user's name, if it is one that can be shown, compared and sent in a header.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a user's name must be text of 1 to {_LONGEST_NAME} printable characters")
    if name != name.strip():
        raise ValueError("a user's name must not begin or end with a space")
    return name


def user_of(claims: Mapping[str, Any]) -> User:
    """Return the user that a token's claims describe.

    `sub` names them; `workspaces` is a pattern, or a list of patterns, of the ids that are theirs, and `workspace_id`
    is one id.

    Raises:
        ValueError: a claim is missing, or is not of its form; says which.
    """
    try:
        name = check_name(claims.get("sub"))
    except ValueError as error:
        raise ValueError(f"`sub`: {error}") from None
    patterns = claims.get("workspaces", [])
    if isinstance(patterns, str):
        patterns = [patterns]
    if not isinstance(patterns, list) or len(patterns) > _MOST_WORKSPACES:
        raise ValueError(f"`workspaces` must be a list of at most {_MOST_WORKSPACES} ids or patterns")
    if not all(isinstance(pattern, str) and pattern for pattern in patterns):
        raise ValueError("`workspaces` must hold ids or patterns of them")
    one = claims.get("workspace_id")
    if one is not None:
        if not isinstance(one, str) or not is_label(one):
            raise ValueError("`workspace_id` must be the id of a workspace")
        patterns = [*patterns, one]
    return User(name, tuple(patterns), float(claims["exp"]))
