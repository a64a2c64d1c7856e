"""Whose `X-Forwarded-*` and identity headers are believed: the networks of `trusted_proxies`."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from multidict import istr

from proxy.relay.downstream import peer_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Network, IPv6Network

    from aiohttp import web

_PROTO = istr("X-Forwarded-Proto")


def trust(networks: Sequence[IPv4Network | IPv6Network]) -> Callable[[str], bool]:
    """Return a predicate: is this peer's address in one of the networks?"""
    if not networks:
        return lambda _: False

    @lru_cache(maxsize=4096)
    def is_trusted(peer: str) -> bool:
        try:
            address = ip_address(peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in networks)

    return is_trusted


def says_https(request: web.BaseRequest) -> bool:
    """Tell whether anybody says that the browser speaks https: enough to ask more of the browser, never less."""
    return _PROTO in request.headers and _is_https(request)


def _is_https(request: web.BaseRequest) -> bool:
    return request.headers.getall(_PROTO)[-1].rpartition(",")[2].strip().lower() == "https"


def https(is_trusted: Callable[[str], bool], *, is_tls: bool = False) -> Callable[[web.BaseRequest], bool]:
    """Return a predicate: does the browser speak https, as a trusted proxy says, or else as it is spoken here?"""

    def is_https(request: web.BaseRequest) -> bool:
        if _PROTO not in request.headers or not is_trusted(peer_of(request)):
            return is_tls
        return _is_https(request)

    return is_https
