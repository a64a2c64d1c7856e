"""Certificates of one use for tests, made by `openssl`."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")
_NAMES: Final = "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:*.localhost"
# Clients that verify strictly (Python 3.13 on) want an authority to say that it may sign.
_USAGE: Final = ("keyUsage=critical,digitalSignature,keyCertSign", "basicConstraints=critical,CA:TRUE")


@dataclass(frozen=True)
class Pair:
    """A certificate for this machine that is its own authority, and its key."""

    cert: Path
    key: Path

    def trusting(self) -> ssl.SSLContext:
        """Return what a client verifies it with."""
        return ssl.create_default_context(cafile=self.cert)

    def put(self, cert: Path, key: Path) -> None:
        """Write it over other files."""
        cert.write_bytes(self.cert.read_bytes())
        key.write_bytes(self.key.read_bytes())


def make_pair(directory: Path, name: str = "tls", password: str = "") -> Pair:
    """Return a new pair; with a password its key is encrypted."""
    pair = Pair(directory / f"{name}.crt", directory / f"{name}.key")
    protection = ["-passout", f"pass:{password}"] if password else ["-nodes"]
    extensions = [word for extension in (_NAMES, *_USAGE) for word in ("-addext", extension)]
    command = ["openssl", "req", "-x509", *_CURVE, *protection, "-keyout", str(pair.key), "-out", str(pair.cert)]
    subprocess.run([*command, "-subj", f"/CN={name}", *extensions], check=True, capture_output=True)
    return pair
