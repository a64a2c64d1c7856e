"""The certificate that the listener shows, where it speaks TLS itself; its files may change while it serves.

A new pair holds for new connections; those that are open keep theirs. TLS 1.2 or newer, and HTTP/1.1 alone.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from proxy.errors import ConfigError

if TYPE_CHECKING:
    from proxy.fresh import Fresh


class Certificate:
    """A certificate and its key, as they are now.

    Args:
        cert: a PEM file of the certificate and those that lead to an authority's.
        key: a PEM file of its private key, not encrypted.
    """

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert = cert
        self._key = key

    context: ssl.SSLContext
    """For new connections; not there before `read`."""

    def read(self) -> None:
        """Take the files as they are.

        Raises:
            ValueError: they are no such pair; `context` is as it was.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._cert, self._key, password=_refuse_encrypted)
        except OSError as error:  # also of TLS
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            raise ValueError(f"{self._cert} and {self._key}: {str(reason).replace('_', ' ').lower()}") from error
        self.context = context


def _refuse_encrypted() -> NoReturn:
    """Stand where the library would ask a terminal for a password."""
    raise ValueError("the key is encrypted, and nobody is here to tell its password")


def read_certificate(cert: str, key: str, fresh: Fresh) -> Certificate | None:
    """Return the certificate that two settings name, which is read again when it changes; None where they are empty.

    Raises:
        ConfigError: it cannot be used.
    """
    if not cert:
        return None
    found = Certificate(Path(cert), Path(key))
    try:
        fresh.watch("the certificate", (Path(cert), Path(key)), found.read)
    except ValueError as error:
        raise ConfigError(f"tls_cert, tls_key: {error}") from error
    return found
