"""Merging: mappings by key, lists of named things by name, null deletes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.backends.kubernetes.overlay import fill_all, merge

NAMES = st.sampled_from(["name", "a", "b", "volumeMounts"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("ab{}", max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=10,
)
TREES = st.dictionaries(NAMES, JSON, max_size=3)


@pytest.mark.parametrize(
    ("base", "overlay", "merged"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
        ({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
        ({}, {"a": {"b": None, "c": 1}}, {"a": {"c": 1}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": [{"name": "x", "v": 1}]}, {"a": [{"name": "x", "w": 2}]}, {"a": [{"name": "x", "v": 1, "w": 2}]}),
        ({"a": [{"name": "x"}]}, {"a": [{"name": "y"}]}, {"a": [{"name": "x"}, {"name": "y"}]}),
        ({"a": [{"name": "x", "v": 1}]}, {"a": [{"name": "x", "v": None}]}, {"a": [{"name": "x"}]}),
        ({"a": [{"name": "x"}]}, {"a": [{"key": "y"}]}, {"a": [{"key": "y"}]}),
        ({"a": [{"name": "x"}]}, {"a": []}, {"a": [{"name": "x"}]}),
        ({"a": [{"name": "x"}]}, {"a": None}, {}),
        ({"a": {"b": 1}}, {"a": "text"}, {"a": "text"}),
        ({"a": [{"name": "x"}, {"name": "x"}]}, {"a": [{"name": "x", "v": 1}]}, {"a": [{"name": "x", "v": 1}]}),
    ],
)
def test_what_is_merged(base: Any, overlay: Any, merged: Any) -> None:
    assert merge(base, overlay) == merged


@given(TREES, TREES)
def test_neither_side_is_changed_nor_shared_with_what_comes_out(base: Any, overlay: Any) -> None:
    before = copy.deepcopy((base, overlay))

    merge(base, overlay)

    assert (base, overlay) == before


@given(TREES)
def test_an_empty_overlay_changes_nothing(base: Any) -> None:
    assert merge(base, {}) == base


@given(TREES, TREES)
def test_merging_twice_is_merging_once(base: Any, overlay: Any) -> None:
    once = merge(base, overlay)

    assert merge(once, overlay) == once


def test_placeholders_of_every_text_are_replaced_and_names_of_fields_stay() -> None:
    given_ = {"{a}": ["{a}", {"b": "x{a}{c}"}, 1, None, True]}

    assert fill_all(given_, {"a": "{c}", "c": "!"}) == {"{a}": ["{c}", {"b": "x{c}!"}, 1, None, True]}


@given(JSON)
def test_without_values_nothing_is_replaced(value: Any) -> None:
    assert fill_all(value, {}) == value
