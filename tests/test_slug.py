"""Slugs: a label for every name, and never one for two."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from proxy.slug import LEAST_ROOM, is_usable, room_of, slug_of, workspace_of_user
from proxy.workspace import MAX_ID, Key, is_label

NAMES = st.text(min_size=1, max_size=80) | st.emails() | st.text(string.ascii_lowercase + "-27", min_size=1)
ROOMS = st.integers(LEAST_ROOM, MAX_ID)


@given(name=NAMES, room=ROOMS)
@example(name="\ud800", room=LEAST_ROOM)
@example(name="-", room=LEAST_ROOM)
@example(name="a" * 200, room=LEAST_ROOM)
def test_every_name_has_a_label_that_fits(name: str, room: int) -> None:
    slug = slug_of(name, room)

    assert is_label(slug)
    assert len(slug) <= room
    assert "--" not in slug


@given(name=NAMES, other=NAMES, room=ROOMS)
def test_two_names_never_have_one_slug(name: str, other: str, room: int) -> None:
    if name != other:
        assert slug_of(name, room) != slug_of(other, room)


@given(name=NAMES, room=ROOMS)
def test_nobody_gets_a_slug_by_naming_themselves_after_it(name: str, room: int) -> None:
    slug = slug_of(name, room)

    assert slug == name or slug_of(slug, room) != slug


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("alice", "alice"),
        ("a-7", "a-7"),
        ("Alice", "alice-hpcrayuxhrcy2wtpfwgw"),
        ("alice@example.org", "alice-example-org-"),
        ("xn--abc", "xn-abc-"),
        ("王", ""),
        ("a" * 54, "a" * 54),
        ("a" * 55, "a" * 33 + "-"),
        ("a" * 20, "a" * 20 + "-"),
        ("x-" + "a" * 20, "x-" + "a" * 20 + "-"),
    ],
)
def test_what_can_be_read_of_a_name_stays(name: str, slug: str) -> None:
    found = slug_of(name)

    assert found == slug or (found.startswith(slug) and len(found) - len(slug) == 20)


def test_a_slug_never_changes() -> None:
    """A user's files are where their slug leads."""
    assert slug_of("alice@example.org") == "alice-example-org-pjsk34uhg7vja4m4xxyl"
    assert slug_of("alice@example.org", LEAST_ROOM) == "ali-pjsk34uhg7vja4m4xxyl"


@given(name=NAMES, rest=st.sampled_from(["{user_slug}", "ws-{user_slug}", "{user_slug}-lab", "u{user_slug}x"]))
def test_a_template_gives_an_id_of_their_own(name: str, rest: str) -> None:
    assert is_usable(rest)

    Key(workspace_of_user(rest, name), "default").safe_deployment_name()


@pytest.mark.parametrize(
    "template",
    ["", "lab", "{user_slug", "{user_slug}{user_slug}", "-{user_slug}", "{user_slug}_", "A{user_slug}",
     "x" * 31 + "{user_slug}", "{workspace_id}-{user_slug}", "{user_slug}-{", "xn--{user_slug}", "{user_slug}--x"],
)  # fmt: skip
def test_a_template_that_cannot_is_told(template: str) -> None:
    assert not is_usable(template)


def test_room_is_what_the_rest_of_a_template_leaves() -> None:
    assert room_of("ws-{user_slug}") == MAX_ID - 3
    assert is_usable("x" * (MAX_ID - LEAST_ROOM) + "{user_slug}")
    assert not is_usable("x" * (MAX_ID - LEAST_ROOM + 1) + "{user_slug}")


@pytest.mark.parametrize(
    ("template", "name", "workspace_id"),
    [
        ("{jupyterhub_slug}", "alice", "alice"),
        ("{jupyterhub_slug}", "alice@example.org", "alice-example-org---7a64adf2"),
        ("{jupyterhub_escaped}", "alice@example.org", "alice-40example-2eorg"),
        ("{jupyterhub_escaped}", "Alice", "alice--hpcrayuxhrcy2wtpfwgw"),  # `-41lice` is no label
        ("{jupyterhub_slug}", "a" * 60, "a" * 32 + "--"),
    ],
)
def test_templates_of_jupyterhub_give_the_ids_of_its_claims(template: str, name: str, workspace_id: str) -> None:
    assert is_usable(template)

    found = workspace_of_user(template, name)

    assert found == workspace_id or (found.startswith(workspace_id) and len(found) - len(workspace_id) == 20)


@given(
    names=st.sets(NAMES, min_size=2, max_size=2),
    template=st.sampled_from(["{jupyterhub_slug}", "{jupyterhub_escaped}"]),
)
def test_two_names_never_share_an_id_of_jupyterhubs(names: set[str], template: str) -> None:
    ids = {workspace_of_user(template, name) for name in names}

    assert len(ids) == 2
    for each in ids:
        Key(each, "default").safe_deployment_name()


def test_a_name_cannot_be_chosen_that_has_the_id_of_one_that_jupyterhub_could_not_name() -> None:
    for template in ("{jupyterhub_slug}", "{jupyterhub_escaped}"):
        theirs = workspace_of_user(template, "A" * 60)

        assert workspace_of_user(template, theirs) != theirs
