"""What a proxy that runs looks like from here: name, certificate, clock, version, and whether it lets one in."""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import time
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from proxy.cli.client import Away
from proxy.cli.doctor.finding import Finding, State, of_date
from proxy.cli.exits import Exit, Failed
from proxy.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.cli.client import Client

_SOON: Final = 14.0  # days before a certificate's end
_DAY: Final = 86_400.0


def look(client: Client) -> Iterator[Finding]:
    """Look at a proxy; what cannot be asked is left out."""
    parts = urlsplit(client.server)
    host = parts.hostname or ""
    named = _name(host)
    yield named
    if named.state is State.WRONG:
        return
    try:
        answer = client.ask("GET", "/api/openapi.json")
    except Failed as error:
        is_away = error.status is not Exit.REFUSED
        if is_away:
            yield Finding("proxy", State.WRONG, str(error))
            return
        yield from _transport(client, host)
        yield Finding("access", State.WRONG, str(error), _ADVICE)
        return
    yield from _transport(client, host)
    yield from _proxy(answer.body, answer.headers.get("Date"), client)


_ADVICE: Final = "Put a token in NOTEBOOK_PROXY_TOKEN, or in the file that --token-file names."


def _name(host: str) -> Finding:
    """Resolve the host, as the connection will."""
    try:
        found = sorted({str(each[4][0]) for each in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})
    except OSError as error:
        return Finding(
            "DNS",
            State.WRONG,
            f"{host} has no address: {error.strerror}.",
            "Look at the spelling, at the DNS record, and at /etc/resolv.conf of this machine.",
        )
    return Finding("DNS", State.OK, f"{host} is {', '.join(found)}.")


def _transport(client: Client, host: str) -> Iterator[Finding]:
    """Look at the certificate, or at the want of one."""
    certificate = client.certificate()
    if certificate is None:
        if _is_loopback(host):
            yield Finding("TLS", State.OK, "None, and none is needed on loopback.")
            return
        state = State.WRONG if client.token else State.WARNING
        words = "None: everyone on the way can read and change what passes, the token too."
        yield Finding("TLS", state, words, "Let an ingress, or tls_cert and tls_key, speak TLS, and use https://.")
        return
    left = (ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()) / _DAY
    words = f"The certificate is trusted, is for {host}, and lasts for {left:.0f} days."
    if left < _SOON:
        yield Finding("TLS", State.WARNING, words, "Renew it; if it should renew itself, look why it has not.")
    else:
        yield Finding("TLS", State.OK, words)


def _proxy(body: bytes, date: str | None, client: Client) -> Iterator[Finding]:
    """Look at what answered."""
    try:
        version = str(json.loads(body)["info"]["version"])
    except (ValueError, KeyError, TypeError):
        yield Finding("proxy", State.WRONG, "What answers there is no notebook-proxy.", "Name another with --server.")
        return
    if version == __version__:
        yield Finding("proxy", State.OK, f"notebook-proxy {version} answers.")
    else:
        words = f"notebook-proxy {version} answers; this command is of {__version__}."
        yield Finding("proxy", State.WARNING, words, "Use the same version of both.")
    yield of_date("clock", date or "")
    try:
        client.get("/api/workspaces?limit=1")
    except Away as error:
        yield Finding("proxy", State.WRONG, str(error))
    except Failed as error:
        yield Finding("access", State.WRONG, str(error), _ADVICE)
    else:
        yield Finding("access", State.OK, "It lets you in" + (" with this token." if client.token else "."))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
