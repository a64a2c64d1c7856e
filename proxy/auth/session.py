"""What the proxy signs itself for `routing: host`: tickets, which lead to a workspace's host, and sessions, held there.

Both name one user and one workspace, and are worth nothing for any other, nor as a credential anywhere else: they are
signed with keys that are derived for them alone. Nothing is kept: every replica that has the secret reads them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from fnmatch import fnmatchcase
from math import inf
from typing import TYPE_CHECKING, Any, Final

import jwt

from proxy.auth.user import User

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from proxy.clock import Clock

TICKET_SECONDS: Final = 30
_ALGORITHM: Final = "HS256"
_LABEL: Final = b"notebook-proxy workspace host v1 "
_REMEMBERED: Final = 4096
_UNREADABLE: Final = (jwt.PyJWTError, ValueError, TypeError, KeyError, OverflowError, RecursionError)


class Sessions:
    """Signs and reads tickets and sessions. One per door.

    Args:
        secrets: what holds now, the one that is signed with first; each is only ever used to derive keys.
        ttl: how long a session lasts whose user's credential does not say until when it holds.
        clock: tells what has expired.
    """

    def __init__(self, secrets: Callable[[], Sequence[str]], ttl: timedelta, clock: Clock) -> None:
        self._secrets = secrets
        self._ttl = ttl.total_seconds()
        self._clock = clock
        self._seen: dict[tuple[str, str], tuple[User, int]] = {}
        self._seen_with: tuple[str, ...] = ()

    def ticket(self, user: User, workspace_id: str, browser: str, times: int = 0) -> str:
        """Return a ticket that opens a workspace's host to the browser that holds `browser`, for half a minute.

        Args:
            user: who comes.
            workspace_id: whose host.
            browser: the fingerprint of what the browser holds there (see `fingerprint_of`).
            times: how often the browser has signed out.
        """
        now = self._clock.now().timestamp()
        claims = {**_claims(user, workspace_id, times), "browser": browser, "until": self._end(user, now)}
        return self._sign("ticket", {**claims, "exp": now + TICKET_SECONDS})

    def exchange(self, ticket: str, workspace_id: str, browser: str) -> tuple[str, float] | None:
        """Return a session for a ticket, and the seconds that it lasts; None where the ticket does not hold here.

        Args:
            ticket: as it came.
            workspace_id: whose host it came to.
            browser: the fingerprint of what the browser holds; a ticket of another browser's is worth nothing.
        """
        now = self._clock.now().timestamp()
        claims = self._read("ticket", ticket, workspace_id)
        if claims is None or not hmac.compare_digest(str(claims.get("browser")).encode(), browser.encode()):
            return None
        try:
            until = float(claims["until"])
            kept = {key: claims[key] for key in ("sub", "ws", "named")}
            session = self._sign("session", {**kept, "out": claims.get("out", 0), "exp": until})
        except (KeyError, TypeError, ValueError):
            return None
        return session, until - now

    def grant(self, user: User, workspace_id: str, times: int = 0) -> tuple[str, float]:
        """Return a session for somebody who has shown a credential at the workspace's host itself; and its seconds."""
        now = self._clock.now().timestamp()
        until = self._end(user, now)
        return self._sign("session", {**_claims(user, workspace_id, times), "exp": until}), until - now

    def user_of(self, session: str, workspace_id: str, times: int = 0) -> User | None:
        """Return whose session this is; None where it does not hold for this workspace, or not any more.

        Args:
            session: as it came.
            workspace_id: whose host it came to.
            times: how often the browser has signed out; a session from before that does not hold.
        """
        secrets = tuple(self._secrets())
        if secrets != self._seen_with:
            self._seen.clear()
            self._seen_with = secrets
        user, given = self._seen.get((session, workspace_id), (None, 0))
        if user is not None:
            if self._clock.now().timestamp() < user.expires:
                return user if given == times else None
            del self._seen[session, workspace_id]
            return None
        claims = self._read("session", session, workspace_id)
        if claims is None:
            return None
        user = User(claims["sub"], (workspace_id,) if claims.get("named") is True else (), float(claims["exp"]))
        if len(self._seen) >= _REMEMBERED:
            del self._seen[next(iter(self._seen))]
        given = claims.get("out", 0)
        self._seen[session, workspace_id] = user, given
        return user if given == times else None

    def _end(self, user: User, now: float) -> float:
        return now + self._ttl if user.expires == inf else user.expires

    def _sign(self, kind: str, claims: dict[str, Any]) -> str:
        return jwt.encode({**claims, "aud": kind}, _derived(self._secrets()[0], kind), algorithm=_ALGORITHM)

    def _read(self, kind: str, token: str, workspace_id: str) -> dict[str, Any] | None:
        """Return the claims of what is ours, of this kind, for this workspace, and still holds."""
        for secret in self._secrets():
            try:
                claims: dict[str, Any] = jwt.decode(
                    token,
                    _derived(secret, kind),
                    algorithms=[_ALGORITHM],
                    audience=kind,
                    options={"require": ["exp", "sub", "aud"], "verify_exp": False},
                )
                holds = claims["ws"] == workspace_id and self._clock.now().timestamp() < float(claims["exp"])
            except jwt.InvalidSignatureError:
                continue
            except _UNREADABLE:
                return None
            return claims if holds else None
        return None


def _claims(user: User, workspace_id: str, times: int) -> dict[str, Any]:
    """Return who comes, and where; and whether their own credential names it: else each request is authorised anew."""
    is_named = any(fnmatchcase(workspace_id, pattern) for pattern in user.workspaces)
    return {"sub": user.name, "ws": workspace_id, "named": is_named, "out": times}


def fingerprint_of(state: str) -> str:
    """Return what may be shown of a value that only a browser holds: nobody finds the value from it."""
    digest = hashlib.sha256(_LABEL + state.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _derived(secret: str, kind: str) -> bytes:
    return hmac.digest(secret.encode(), _LABEL + kind.encode(), "sha256")
