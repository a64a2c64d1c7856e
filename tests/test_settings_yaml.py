"""YAML as Kubernetes and people read it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.settings_yaml import read_typed_documents, read_typed_yaml

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("0.5", 0.5),
        ("true", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("on", "on"),
        ("No", "No"),
        ("010", "010"),
        ("1:30", "1:30"),
        ("2026-01-01", "2026-01-01"),
        ("1e3", "1e3"),
        ("0x1f", "0x1f"),
        (".inf", ".inf"),
        ("4Gi", "4Gi"),
        ("1_000", "1_000"),
        ("{a: , b: [1, x]}", {"a": None, "b": [1, "x"]}),
    ],
)
def test_scalars_are_what_json_would_make_of_them(text: str, value: object) -> None:
    found = read_typed_yaml(text)

    assert found == value
    assert type(found) is type(value)


@given(JSON)
def test_what_is_dumped_reads_the_same(value: object) -> None:
    assert read_typed_yaml(yaml.safe_dump(value)) == value


def test_a_stream_has_documents() -> None:
    assert read_typed_documents("a: 1\n---\nb: 2\n---\n") == [{"a": 1}, {"b": 2}, None]
    assert read_typed_documents("") == []


@pytest.mark.parametrize("text", ["a: [", "a: 1\n---\nb: 2", "!!python/object/apply:os.getpid []", "[" * 3_000, "\x00"])
def test_what_cannot_be_read_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_typed_yaml(text)

    assert len(str(caught.value).splitlines()) == 1
