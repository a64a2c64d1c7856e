"""The keys that tokens are verified with, as they are now: one or several, old and new.

A key says itself which algorithms it is for, so that no token chooses how it is verified. Nothing here waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SMALLEST_RSA: Final = 2048  # bits: RFC 7518 section 3.3
MOST: Final = 64
"""Keys at once: without a key id, each may have to be tried."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key.

    Args:
        algorithm: the one that it is for.
        material: as the library takes it.
        key_id: what a token that was signed with it says in `kid`; None where it need not say anything.
    """

    algorithm: str
    material: Any
    key_id: str | None = None

    def __repr__(self) -> str:
        return f"VerificationKey({self.algorithm}, key_id={self.key_id!r})"


class KeySet:
    """The keys that hold now. Whoever has verified something with them is told when they change.

    Args:
        keys: the first ones.
    """

    def __init__(self, keys: Iterable[VerificationKey] = ()) -> None:
        self._keys = tuple(keys)
        self._observers: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def observe(self, observer: Callable[[], None]) -> None:
        """Call this whenever the keys have changed: what was verified before may not hold any more."""
        self._observers.append(observer)

    def replace(self, keys: Iterable[VerificationKey]) -> None:
        """Let these hold from now on, and no others: the new one and, for a while, the old one."""
        keys = tuple(keys)
        if [_identity(key) for key in keys] == [_identity(key) for key in self._keys]:
            return
        self._keys = keys
        for observer in self._observers:
            observer()

    def candidates(self, algorithm: str, key_id: str | None) -> list[VerificationKey]:
        """Return the keys that may have signed a token with this algorithm and key id."""
        fitting = [key for key in self._keys if key.algorithm == algorithm]
        if key_id is None:
            return fitting
        return [key for key in fitting if key.key_id in (None, key_id)]


def secret_keys(secrets: Iterable[str]) -> list[VerificationKey]:
    """Return keys for HS256."""
    return [VerificationKey("HS256", secret.encode()) for secret in secrets]


def public_keys(pem: str) -> list[VerificationKey]:
    """Return the keys of one or more PEM blocks, one behind the other.

    Raises:
        ValueError: there is none, or one that cannot be used.
    """
    end = "-----END PUBLIC KEY-----"
    blocks = [block.strip() + f"\n{end}\n" for block in pem.split(end)[:-1]]
    if not blocks or pem.rsplit(end, maxsplit=1)[-1].strip():
        raise ValueError("PEM blocks that begin with -----BEGIN PUBLIC KEY-----")
    return [VerificationKey(algorithm_of(key), key) for key in (_load(block) for block in blocks)]


def algorithm_of(key: object) -> str:
    """Return the one algorithm that a public key is for here.

    Raises:
        ValueError: none is, or the key is too weak.
    """
    match key:
        case RSAPublicKey():
            if key.key_size < _SMALLEST_RSA:
                raise ValueError(f"an RSA key of at least {_SMALLEST_RSA} bits")
            return "RS256"
        case EllipticCurvePublicKey():
            if isinstance(key.curve, SECP256R1):
                return "ES256"
        case Ed25519PublicKey():
            return "EdDSA"
    raise ValueError("an RSA, P-256 or Ed25519 public key")


def _load(block: str) -> object:
    try:
        return load_pem_public_key(block.encode())
    except Exception as error:
        raise ValueError("PEM of an RSA, P-256 or Ed25519 public key") from error


def _identity(key: VerificationKey) -> tuple[object, ...]:
    """Return what two equal keys have in common."""
    material = key.material
    if isinstance(material, RSAPublicKey | EllipticCurvePublicKey):
        material = material.public_numbers()
    elif isinstance(material, Ed25519PublicKey):
        material = material.public_bytes_raw()
    return key.algorithm, key.key_id, material
