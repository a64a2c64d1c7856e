"""Makes tokens, for development and scripts: as an issuer would that shares `jwt_secret` with the proxy. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jwt

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta


def mint(
    secret: str,
    user: str,
    workspaces: Sequence[str],
    *,
    now: datetime,
    ttl: timedelta,
    issuer: str = "",
    audience: str = "",
) -> str:
    """Return a signed token (HS256) that names a user and their workspaces, and holds for so long."""
    claims: dict[str, Any] = {"sub": user, "workspaces": list(workspaces), "iat": now, "exp": now + ttl}
    claims |= {name: value for name, value in (("iss", issuer), ("aud", audience)) if value}
    return jwt.encode(claims, secret, algorithm="HS256")
