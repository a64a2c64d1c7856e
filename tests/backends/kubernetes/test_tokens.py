"""Tokens: the same from the same, and nothing of one from another."""

from __future__ import annotations

import hashlib
import hmac

from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.kubernetes.tokens import derive_token, key_id

SECRET = "correct horse battery staple"
LABELS = st.from_regex(r"[a-z0-9-]{1,54}", fullmatch=True)


def test_a_token_is_an_hmac_of_id_and_nonce() -> None:
    expected = hmac.digest(SECRET.encode(), b"token\ndemo\n0123abcd", "sha256").hex()

    assert derive_token(SECRET, "demo", "0123abcd") == expected
    assert derive_token(SECRET, "demo", "0123abcd") == VECTOR


def test_the_key_id_names_a_secret_and_is_not_its_digest() -> None:
    assert key_id(SECRET) == hmac.digest(SECRET.encode(), b"key-id", "sha256").hex()[:8]
    assert key_id(SECRET) != key_id(SECRET + "!")
    assert not hashlib.sha256(SECRET.encode()).hexdigest().startswith(key_id(SECRET))


@given(st.tuples(LABELS, LABELS), st.tuples(LABELS, LABELS))
def test_tokens_differ_by_workspace_and_by_start(first: tuple[str, str], second: tuple[str, str]) -> None:
    assert (derive_token(SECRET, *first) == derive_token(SECRET, *second)) is (first == second)


def test_a_token_fits_a_header_whatever_the_secret_is() -> None:
    assert len(derive_token("ключ 🔑", "demo", "n")) == 64


VECTOR = "affdf5cc73db0976dcc67c8f2906a12f3bb4981872b206a800d8500e4cb2b591"
