"""`auth: jwt`: who asks is who a signed token says they are.

Each token is verified once, and remembered until it expires or the keys change; only what was verified is remembered,
in a fixed number of places. Why a token is refused is said in words of our own: nothing of it is repeated.
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

import jwt
from aiohttp import web
from multidict import istr

from proxy.auth.claims import user_of
from proxy.auth.cookies import path_of
from proxy.auth.presented import check_form, token_of
from proxy.errors import Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.auth.keys import KeySet
    from proxy.auth.user import User
    from proxy.clock import Clock
    from proxy.target import Target

_COOKIE: Final = istr("Cookie")
_PRESENTED: Final = web.RequestKey("presented-token", tuple[str, str | None])
_REMEMBERED: Final = 4096
_SKEW: Final = 60  # seconds by which an issuer's clock may be ahead of ours
_UNREADABLE: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
_REASONS: Final = {
    jwt.ExpiredSignatureError: "The credential has expired.",
    jwt.ImmatureSignatureError: "The credential does not hold yet.",
    jwt.InvalidAudienceError: "The credential is for somebody else (its audience).",
    jwt.InvalidIssuerError: "The credential is not from whom credentials are taken (its issuer).",
    jwt.MissingRequiredClaimError: "The credential lacks a claim that it needs, such as `exp`.",
}
_BAD: Final = "The credential is not valid."


class UnknownKey(Unauthenticated):
    """No key is known that could have signed this: new ones may have to be fetched."""

    def __init__(self) -> None:
        super().__init__(_BAD)


class Verifier:
    """Verifies tokens.

    Args:
        keys: with these.
        algorithms: those that are accepted at all.
        issuer: what `iss` must be; empty for anything.
        audience: what `aud` must be, or contain; empty where a token must have none.
        clock: tells what has expired.
    """

    def __init__(self, keys: KeySet, algorithms: Sequence[str], issuer: str, audience: str, clock: Clock) -> None:
        self._keys = keys
        self._algorithms = frozenset(algorithms)
        self._issuer = issuer or None
        self._audience = audience or None
        self._clock = clock

    def verify(self, token: str) -> User:
        """Return whom a token names.

        Raises:
            UnknownKey: no known key can have signed it.
            Unauthenticated: it does not hold.
        """
        check_form(token)
        try:
            header = jwt.get_unverified_header(token)
        except _UNREADABLE:
            raise Unauthenticated(_BAD) from None
        algorithm, key_id = header.get("alg"), header.get("kid")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise Unauthenticated(_BAD)
        candidates = self._keys.candidates(algorithm, key_id)
        if not candidates:
            raise UnknownKey
        for key in candidates:
            try:
                claims = self._decode(token, key.material, algorithm)
            except jwt.InvalidSignatureError:
                continue
            except _UNREADABLE as error:
                raise Unauthenticated(_REASONS.get(type(error), _BAD)) from None
            return self._user(claims)
        raise UnknownKey if key_id is None else Unauthenticated(_BAD)

    def _decode(self, token: str, material: Any, algorithm: str) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            material,
            algorithms=[algorithm],
            audience=self._audience,
            issuer=self._issuer,
            leeway=_SKEW,  # for `iat` and `nbf`; `exp` is judged again, without it
            options={"require": ["exp", "sub"], "enforce_minimum_key_length": True},
        )
        return claims

    def _user(self, claims: dict[str, Any]) -> User:
        try:
            user = user_of(claims)
        except (ValueError, TypeError, OverflowError) as error:
            raise Unauthenticated(f"The credential is not of the form that is needed: {error}.") from None
        if not self._clock.now().timestamp() < user.expires:
            raise Unauthenticated(_REASONS[jwt.ExpiredSignatureError])
        return user


class Renewable(Protocol):
    """Where keys come from, if they can change."""

    async def renew(self) -> None:
        """Look whether there are new keys, unless that has just been done."""


class Tokens:
    """Finds out who asks by the token that they present.

    Args:
        verifier: verifies it.
        keys: tells when what was verified does not hold any more.
        is_https: tells whether the browser speaks https.
        clock: tells what has expired.
        source: where unknown keys may be had; None where there are no others.
    """

    def __init__(
        self,
        verifier: Verifier,
        keys: KeySet,
        is_https: Callable[[web.BaseRequest], bool],
        clock: Clock,
        source: Renewable | None = None,
    ) -> None:
        self._verifier = verifier
        self._is_https = is_https
        self._clock = clock
        self._source = source
        self._next_look = -inf
        self._offset = 0.0
        self._verified: dict[str, User] = {}
        keys.observe(self._verified.clear)

    def known(self, request: web.BaseRequest, target: Target) -> User | None:
        """Return who asks if their token was verified before, and still holds."""
        try:
            token = self._token(request, target)
        except Unauthenticated:
            return None
        return None if token is None else self._recall(token)

    async def identify(self, request: web.BaseRequest, target: Target) -> User:
        """Return who asks. Waits only where a key is not known that may be had.

        Raises:
            Unauthenticated: there is no token, or none that holds.
            KeysUnavailable: there are no keys at all yet.
        """
        token = self._token(request, target)
        if token is None:
            raise Unauthenticated
        user = self._recall(token)
        if user is None:
            try:
                user = self._verifier.verify(token)
            except UnknownKey:
                if self._source is None:
                    raise
                await self._source.renew()
                user = self._verifier.verify(token)
            self._remember(token, user)
        return user

    def _token(self, request: web.BaseRequest, target: Target) -> str | None:
        """Return the token that is presented.

        What a request's headers present does not change, but with the path to which cookies belong: it is looked for
        once, for the express way asks with the same request again and again. Whether it holds is asked each time.
        """
        path = path_of(target)
        if not target.tokens:
            try:
                looked_at, token = request[_PRESENTED]
            except KeyError:
                pass
            else:
                if looked_at == path:
                    return token
        headers = request.headers
        token = token_of(headers, target, is_https=_COOKIE in headers and self._is_https(request))
        if not target.tokens:
            request[_PRESENTED] = path, token
        return token

    def _recall(self, token: str) -> User | None:
        user = self._verified.get(token)
        if user is None or self._now() < user.expires:
            return user
        del self._verified[token]
        return None

    def _now(self) -> float:
        """Return seconds since the epoch; the wall clock, which costs more, is looked at once a second."""
        tick = self._clock.monotonic()
        if tick >= self._next_look:
            self._next_look = tick + 1
            self._offset = self._clock.now().timestamp() - tick
        return tick + self._offset

    def _remember(self, token: str, user: User) -> None:
        if len(self._verified) >= _REMEMBERED:
            del self._verified[next(iter(self._verified))]
        self._verified[token] = user
