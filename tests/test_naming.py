"""Names that are made from a workspace's id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidKey
from proxy.naming import fill, is_template, namespace_of, placeholders
from proxy.workspace import is_label


def test_placeholders_are_replaced_in_one_pass() -> None:
    assert fill("{a}-{b}-{c}-{a", {"a": "{b}", "b": "2"}) == "{b}-2-{c}-{a"


@given(st.text(), st.dictionaries(st.text("ab"), st.text()))
def test_text_without_placeholders_stays(text: str, values: dict[str, str]) -> None:
    assert fill(text.replace("{", ""), values) == text.replace("{", "")


@given(st.text(), st.text(), st.text())
def test_what_is_put_in_stays_as_it_is(before: str, value: str, after: str) -> None:
    before, after = before.replace("{", ""), after.replace("{", "")

    assert fill(f"{before}{{x}}{after}", {"x": value}) == before + value + after


def test_the_short_id_is_the_first_eight_characters() -> None:
    assert placeholders("0123456789") == {"workspace_id": "0123456789", "workspace_id_short": "01234567"}
    assert placeholders("abc")["workspace_id_short"] == "abc"


@pytest.mark.parametrize(
    ("template", "namespace"),
    [
        ("default", "default"),
        ("agent-ws-{workspace_id_short}", "agent-ws-5f0c1a2b"),
        ("{workspace_id}", "5f0c1a2b-9d"),
    ],
)
def test_the_namespace_is_fixed_or_made_from_the_id(template: str, namespace: str) -> None:
    assert namespace_of(template, "5f0c1a2b-9d") == namespace
    assert is_template(template) is (namespace != template)


@pytest.mark.parametrize("workspace_id", ["", "A", "a_b", "../x", "a" * 55])
def test_an_id_that_names_no_workspace_has_no_namespace(workspace_id: str) -> None:
    with pytest.raises(InvalidKey, match="an id is a DNS-1123 label"):
        namespace_of("default", workspace_id)


@pytest.mark.parametrize(
    ("template", "workspace_id"),
    [("ws-{workspace_id_short}", "abcdefg-x"), ("a-long-prefix-{workspace_id}", "a" * 54), ("ws-{other}", "a")],
)
def test_a_namespace_that_is_no_label_is_refused(template: str, workspace_id: str) -> None:
    with pytest.raises(InvalidKey, match="its namespace would be"):
        namespace_of(template, workspace_id)


@given(st.from_regex(r"[a-z0-9-]{1,54}", fullmatch=True), st.sampled_from(["d", "ws-{workspace_id_short}"]))
def test_every_namespace_is_a_label(workspace_id: str, template: str) -> None:
    try:
        namespace = namespace_of(template, workspace_id)
    except InvalidKey:
        return

    assert is_label(namespace)
