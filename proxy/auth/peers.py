"""Whose `X-Forwarded-*` and identity headers are believed: the networks of `trusted_proxies`. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from ipaddress import IPv4Network, IPv6Network


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
