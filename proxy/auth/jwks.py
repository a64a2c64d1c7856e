"""Keys that an issuer publishes (RFC 7517): fetched, kept, and fetched again before they are stale.

At most one fetch is in flight, and one in so many seconds, whoever asks. What fails leaves the last good keys in their
place. No redirect is followed, no proxy variable read, and no more is taken than a set of keys may have.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import TYPE_CHECKING, Any, Final, Self

import jwt
from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar

from proxy.auth.keys import MOST, KeySet, VerificationKey, algorithm_of
from proxy.errors import KeysUnavailable
from proxy.vitals import Vitals

if TYPE_CHECKING:
    from proxy.clock import Clock

logger = logging.getLogger(__name__)

_EXPECTED: Final = "the keys of its tokens' issuer"
_LARGEST: Final = 256 * 1024
_DEADLINE: Final = 5.0  # seconds for a whole fetch
_FRESH: Final = 600.0  # seconds until keys are fetched again; a key that was withdrawn holds no longer than that
_GAP: Final = 30.0  # seconds at least between two fetches, whatever key ids strangers think of
_FIRST_GAP: Final = 5.0  # the same while there are no keys at all
_KINDS: Final = frozenset({"RSA", "EC", "OKP"})  # never "oct": a secret that is published is none


class _Unusable(Exception):
    """What came is no set of keys."""


class Jwks:
    """Keeps a key set as an issuer publishes it. Use as `async with`; fetches as long as that lasts.

    Args:
        url: where they are.
        keys: what is kept.
        clock: what time is measured by.
        vitals: waits for the first ones, and misses who fetches them.
    """

    def __init__(self, url: str, keys: KeySet, clock: Clock, vitals: Vitals | None = None) -> None:
        self._url = url
        self._keys = keys
        self._clock = clock
        self._vitals = vitals or Vitals()
        self._tried: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._is_fresh = False
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._session = ClientSession(timeout=ClientTimeout(total=_DEADLINE), cookie_jar=DummyCookieJar())
        self._stack.push_async_callback(self._session.close)
        self._stack.push_async_callback(self._end)
        if not self._keys:
            self._vitals.expect(_EXPECTED)
        self._keeper = asyncio.create_task(self._keep(), name="jwks")
        self._vitals.follow(self._keeper)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def renew(self) -> None:
        """Look whether there are new keys, unless that has just been done. Cancelling a caller ends no fetch.

        Raises:
            KeysUnavailable: there are still none at all.
        """
        if self._fetching is None and not self._is_too_soon():
            self._fetching = asyncio.create_task(self._fetch(), name="jwks fetch")
        if self._fetching is not None:
            await asyncio.wait([self._fetching])
        if not self._keys:
            raise KeysUnavailable

    def _is_too_soon(self) -> bool:
        gap = _GAP if self._keys else _FIRST_GAP
        return self._tried is not None and self._clock.monotonic() - self._tried < gap

    async def _keep(self) -> None:
        """Fetch for ever, sooner after a failure."""
        while True:
            with contextlib.suppress(KeysUnavailable):
                await self.renew()
            await self._clock.sleep(self._pause())

    def _pause(self) -> float:
        return _FRESH if self._is_fresh else _GAP if self._keys else _FIRST_GAP

    async def _fetch(self) -> None:
        self._is_fresh = False
        try:
            keys = keys_of(await self._download())
        except (ClientError, TimeoutError, OSError, _Unusable) as error:
            reason = str(error) if isinstance(error, _Unusable) else type(error).__name__
            logger.warning("keys not fetched, the last ones are kept: keys=%d reason=%s", len(self._keys), reason)
        else:
            self._is_fresh = True
            self._keys.replace(keys)
            self._vitals.met(_EXPECTED)
        finally:
            self._tried = self._clock.monotonic()
            self._fetching = None

    async def _download(self) -> bytes:
        headers = {"Accept": "application/jwk-set+json, application/json"}
        async with self._session.get(self._url, allow_redirects=False, headers=headers) as response:
            if response.status != 200:  # noqa: PLR2004 - nothing else is a set of keys
                raise _Unusable(f"the answer was {response.status}")
            document = b""
            async for piece in response.content.iter_any():
                document += piece
                if len(document) > _LARGEST:
                    raise _Unusable(f"the answer has more than {_LARGEST} bytes")
            return document

    async def _end(self) -> None:
        for task in (self._keeper, self._fetching):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def keys_of(document: bytes) -> list[VerificationKey]:
    """Return the keys of a set that are for signatures of ours; others are passed over (RFC 7517 section 5).

    Raises:
        _Unusable: there is none.
    """
    try:
        entries = json.loads(document)["keys"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _Unusable("the answer is no set of keys") from None
    if not isinstance(entries, list):
        raise _Unusable("the answer is no set of keys")
    found = [key for entry in entries[:MOST] if (key := _key_of(entry)) is not None]
    if not found:
        raise _Unusable("the answer has no key that can be used")
    return found


def _key_of(entry: Any) -> VerificationKey | None:
    if not isinstance(entry, dict) or entry.get("kty") not in _KINDS or entry.get("use", "sig") != "sig":
        return None
    operations = entry.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        material = jwt.PyJWK(entry).key
        algorithm = algorithm_of(material)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError):
        return None
    key_id = entry.get("kid")
    if entry.get("alg", algorithm) != algorithm or not isinstance(key_id, str | None):
        return None
    return VerificationKey(algorithm, material, key_id)
