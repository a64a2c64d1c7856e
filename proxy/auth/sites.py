"""Which pages may act here: our own, and those of origins that the operator names.

The token that the proxy adds switches the notebook server's own `_xsrf` and `Origin` checks off, so they are made here,
before anything is started. A cookie goes along whoever has sent a browser: that it came is no sign that our own page
asks, and `SameSite` does not keep sibling hosts apart. So who acts must show where it comes from. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from multidict import istr

from proxy.auth.origins import SAFE_METHODS, is_same_host
from proxy.errors import CrossOrigin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from multidict import MultiMapping

_SITE, _MODE = istr("Sec-Fetch-Site"), istr("Sec-Fetch-Mode")
_ORIGIN, _AUTHORIZATION = istr("Origin"), istr("Authorization")
_OUR_SITE: Final = frozenset({"same-origin", "none"})  # none: the person themselves, by a bookmark or a typed address
_LABEL: Final = "[0-9a-z_-]+"


class Sites:
    """Judges where requests come from.

    Args:
        allowed: origins whose pages may act as ours may; see the setting `allowed_origins`.
        must_show: whether a request that acts must say where it comes from, or bring its credential along by itself.
            Off where nobody needs a credential: then nothing goes along that another site could use.
    """

    def __init__(self, allowed: Iterable[str] = (), *, must_show: bool = False) -> None:
        patterns = [re.escape(_as_written(origin)).replace(r"\*", _LABEL) for origin in allowed]
        self._allowed = re.compile("|".join(patterns)) if patterns else None
        self._must_show = must_show

    def check(
        self, method: str, headers: MultiMapping[str], host: str, *, is_upgrade: bool, is_https: bool = False
    ) -> None:
        """Return if a request may come from where it does.

        Args:
            method: the request's.
            headers: the client's. What a browser says of itself no page can change.
            host: the `Host` header.
            is_upgrade: it asks for a websocket. Browsers send no Fetch Metadata with that.
            is_https: it is known that the browser speaks https.

        Raises:
            CrossOrigin: a page of another site asks, or an act does not show whose it is.
        """
        site, origins = headers.get(_SITE), headers.getall(_ORIGIN, ())
        is_act = is_upgrade or method not in SAFE_METHODS
        if not is_act:
            if site is not None and site not in _OUR_SITE and headers.get(_MODE) != "navigate":
                self._check_stranger(origins, "Sec-Fetch-Site")
            return
        if origins and not (len(origins) == 1 and is_same_host(origins[0], host, is_https=is_https)):
            self._check_stranger(origins, "its Origin is not this host")
        elif site is not None:
            if site not in _OUR_SITE:
                self._check_stranger(origins, "Sec-Fetch-Site")
        elif self._must_show and not origins and not _has_bearer(headers):
            raise CrossOrigin(
                "This request does not show where it comes from, and nothing was done. Browsers say so by themselves; "
                "a program sends its token as `Authorization: Bearer`, or the address that it talks to as `Origin`."
            )

    def _check_stranger(self, origins: Sequence[str], sign: str) -> None:
        """Return if a page that is not ours is of an origin that may act."""
        if self._allowed is None or len(origins) != 1 or not self._allowed.fullmatch(_as_written(origins[0])):
            raise CrossOrigin(f"A page of another site sent this request ({sign}). Nothing was done.")


def _has_bearer(headers: MultiMapping[str]) -> bool:
    return headers.get(_AUTHORIZATION, "")[:7].lower() == "bearer "


def _as_written(origin: str) -> str:
    """Return an origin as browsers write it (RFC 6454 section 6.1)."""
    origin = origin.lower()
    return origin.removesuffix(":443" if origin.startswith("https:") else ":80")
