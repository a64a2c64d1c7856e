"""Tokens as an issuer would make them, good and bad; the keys are made once."""

from __future__ import annotations

import time
from functools import cache
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET: Final = "a-secret-for-tests-of-32-characters!"
OTHER_SECRET: Final = "another-secret-for-tests-of-32-chars"
HOUR: Final = 3600


def claims_of(user: str = "alice", *workspaces: str, **more: Any) -> dict[str, Any]:
    """Return claims that hold for an hour; `None` leaves one out."""
    found = {"sub": user, "workspaces": list(workspaces), "exp": int(time.time()) + HOUR, **more}
    return {name: value for name, value in found.items() if value is not None}


def token(user: str = "alice", *workspaces: str, secret: str = SECRET, **more: Any) -> str:
    """Return a token that is signed with a secret."""
    return jwt.encode(claims_of(user, *workspaces, **more), secret, algorithm="HS256")


@cache
def private(algorithm: str, number: int = 0) -> Any:
    """Return a private key; with another number, another one."""
    match algorithm:
        case "RS256":
            return rsa.generate_private_key(65537, 2048)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ed25519.Ed25519PrivateKey.generate()


def signed(algorithm: str, user: str = "alice", *workspaces: str, number: int = 0, kid: str = "", **more: Any) -> str:
    """Return a token that is signed with a private key."""
    headers = {"kid": kid} if kid else None
    return jwt.encode(
        claims_of(user, *workspaces, **more), private(algorithm, number), algorithm=algorithm, headers=headers
    )


def pem(algorithm: str, number: int = 0) -> str:
    """Return the public key."""
    public = private(algorithm, number).public_key()
    text: bytes = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return text.decode()


def jwk(algorithm: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """Return the public key as a member of a JWK set."""
    kinds: dict[str, Any] = {
        "RS256": jwt.algorithms.RSAAlgorithm,
        "ES256": jwt.algorithms.ECAlgorithm,
        "EdDSA": jwt.algorithms.OKPAlgorithm,
    }
    found = kinds[algorithm].to_jwk(private(algorithm, number).public_key(), as_dict=True)
    return {**found, "use": "sig", **more}
