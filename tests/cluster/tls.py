"""A certificate authority of one use, and the server's certificate, made by `openssl`."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def make_server_context(directory: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """Return a TLS context for 127.0.0.1, and for more names, and the path of the authority's certificate."""
    key, certificate = directory / "server.key", directory / "server.crt"
    alternatives = ",".join(["IP:127.0.0.1", "DNS:localhost", *(f"DNS:{name}" for name in names)])
    subject = ["-subj", "/CN=kubernetes", "-addext", f"subjectAltName={alternatives}"]
    # Clients that verify strictly (Python 3.13 on) want a CA to say that it may sign, and to name its key.
    usage = [
        "-addext",
        "keyUsage=critical,digitalSignature,keyCertSign",
        "-addext",
        "basicConstraints=critical,CA:TRUE",
    ]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command = ["openssl", "req", "-x509", *curve, "-keyout", str(key), "-out", str(certificate), *subject, *usage]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context, certificate
