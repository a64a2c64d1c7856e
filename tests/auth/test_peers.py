"""Who says that a browser speaks https, and is believed."""

from __future__ import annotations

from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest
from multidict import CIMultiDict

from proxy.auth.peers import https, trust

TRUSTED = trust((ip_network("10.0.0.0/8"),))


def request(peer: str, *protos: str) -> Any:
    protocol = SimpleNamespace(peername=(peer, 1))
    return SimpleNamespace(protocol=protocol, headers=CIMultiDict([("X-Forwarded-Proto", proto) for proto in protos]))


@pytest.mark.parametrize(
    ("peer", "protos", "plain", "tls"),
    [
        ("10.0.0.1", (), False, True),
        ("10.0.0.1", ("https",), True, True),
        ("10.0.0.1", ("HTTPS",), True, True),
        ("10.0.0.1", ("http",), False, False),
        ("10.0.0.1", ("http", "https"), True, True),
        ("10.0.0.1", ("https, http",), False, False),
        ("10.0.0.1", ("httpsx",), False, False),
        ("::ffff:10.0.0.1", ("https",), True, True),
        ("11.0.0.1", ("https",), False, True),
        ("11.0.0.1", ("http",), False, True),
        ("somewhere", ("https",), False, True),
    ],
)
def test_a_trusted_proxy_says_what_the_browser_speaks_else_it_is_what_is_spoken_here(
    peer: str, protos: tuple[str, ...], plain: bool, tls: bool
) -> None:
    assert https(TRUSTED)(request(peer, *protos)) is plain
    assert https(TRUSTED, is_tls=True)(request(peer, *protos)) is tls
