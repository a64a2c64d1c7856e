"""What a verified token says, and what it must not say."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.auth.claims import check_name, user_of
from proxy.auth.user import User


@pytest.mark.parametrize(
    ("claims", "workspaces"),
    [
        ({}, ()),
        ({"workspaces": []}, ()),
        ({"workspaces": ["a", "team-*"]}, ("a", "team-*")),
        ({"workspaces": "team-*"}, ("team-*",)),
        ({"workspace_id": "demo"}, ("demo",)),
        ({"workspaces": ["a"], "workspace_id": "demo"}, ("a", "demo")),
    ],
)
def test_claims_name_the_user_and_the_workspaces(claims: dict[str, Any], workspaces: tuple[str, ...]) -> None:
    assert user_of({"sub": "alice", "exp": 5, **claims}) == User("alice", workspaces, 5.0)


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": None}, {"sub": ""}, {"sub": 7}, {"sub": ["a"]}, {"sub": "a\nb"}, {"sub": "a\x00"}, {"sub": " a"},
        {"sub": "a\u202eb"}, {"sub": "a\ud800"}, {"sub": "x" * 256},
        {"workspaces": 7}, {"workspaces": {"a": 1}}, {"workspaces": [7]}, {"workspaces": [""]},
        {"workspaces": ["a", None]},
        {"workspaces": ["a"] * 1001}, {"workspaces": None},
        {"workspace_id": "*"}, {"workspace_id": "a/b"}, {"workspace_id": ""}, {"workspace_id": ["a"]},
        {"workspace_id": 1},
    ],
)  # fmt: skip
def test_claims_of_another_form_are_refused(claims: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        user_of({"sub": "alice", "exp": 5, **claims})


@given(st.text())
def test_a_name_that_passes_can_be_sent_in_a_header(name: str) -> None:
    try:
        check_name(name)
    except ValueError:
        return

    assert not set(name.encode()) & {0, 10, 13}
    assert name == name.strip()
