"""The names of claims that KubeSpawner has made: its own answers, written down, and what must hold for any name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.jupyterhub_names import escaped, safe
from proxy.workspace import is_label

# What KubeSpawner 7.1 returns: safe_slug and escape_slug.
KNOWN = [
    ("alice", "alice", "alice"),
    ("Alice", "alice---3bc51062", "-41lice"),
    ("alice@example.org", "alice-example-org---7a64adf2", "alice-40example-2eorg"),
    ("a--b", "a-b---90827a2e", "a-2d-2db"),
    ("1abc", "x-1abc---57cb980e", "1abc"),
    ("x" * 60, "x" * 60, "x" * 60),
    ("日本", "x---cf2abf0c", "-e6-97-a5-e6-9c-ac"),
    ("user.name", "user-name---c69f268f", "user-2ename"),
    ("-", "x---3973e022", "-2d"),
    ("bob-", "bob---671cc3ed", "bob-2d"),
    ("a" * 70, "aaaaaaaaaaaaaaaaaaaaa---6bd5e503", "a" * 70),
    ("jo_yan", "jo-yan---c564ffa4", "jo-5fyan"),
]


@pytest.mark.parametrize(("name", "slug", "legacy"), KNOWN)
def test_names_are_those_that_kubespawner_gave(name: str, slug: str, legacy: str) -> None:
    assert (safe(name), escaped(name)) == (slug, legacy)


@given(st.text(min_size=1))
def test_every_name_has_a_label(name: str) -> None:
    assert is_label(safe(name))


@given(st.sets(st.text(min_size=1, max_size=8), min_size=2, max_size=2))
def test_two_names_never_share_an_escaped_one(names: set[str]) -> None:
    assert len({escaped(name) for name in names}) == 2
