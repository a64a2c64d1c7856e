"""Keys: what can be one, and which are tried."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from proxy.auth.keys import KeySet, public_keys, secret_keys
from tests.auth.tokens import pem, private

PUBLIC = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
def test_a_public_key_is_for_one_algorithm(algorithm: str) -> None:
    assert [key.algorithm for key in public_keys(pem(algorithm))] == [algorithm]


def test_several_public_keys_may_stand_one_behind_the_other() -> None:
    found = public_keys(f"\n{pem('RS256')}\n\n{pem('EdDSA')}{pem('ES256')}  ")

    assert [key.algorithm for key in found] == ["RS256", "EdDSA", "ES256"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no key",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        private("ES256").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
        rsa.generate_private_key(65537, 1024).public_key().public_bytes(*PUBLIC).decode(),
        ec.generate_private_key(ec.SECP384R1()).public_key().public_bytes(*PUBLIC).decode(),
        pem("ES256") + "more",
    ],
    ids=["nothing", "no key", "broken", "private", "weak", "of another curve", "with more behind it"],
)
def test_what_is_no_public_key_that_can_be_used_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"key|PEM"):
        public_keys(text)


def test_who_verified_with_keys_is_told_when_they_change_and_only_then() -> None:
    keys, told = KeySet(public_keys(pem("RS256"))), []
    keys.observe(lambda: told.append(len(keys)))

    keys.replace(public_keys(pem("RS256")))
    assert told == []
    keys.replace(public_keys(pem("RS256") + pem("EdDSA")))
    keys.replace(secret_keys(["x" * 32]))

    assert told == [2, 1]
