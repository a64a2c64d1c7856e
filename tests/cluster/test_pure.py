"""Patches, quantities, paths: the parts without I/O."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster.answers import ApiError
from tests.cluster.container import expand, localise
from tests.cluster.patches import json_patch, merge_patch, strategic_merge_patch
from tests.cluster.quota import quantity
from tests.cluster.requests import parse_target
from tests.cluster.resources import NAMESPACES, PODS, SECRETS, Obj
from tests.cluster.selectors import match_selector, parse_label_selector
from tests.cluster.store import Compacted, Store


def secret(name: str, **fields: object) -> Obj:
    return {"metadata": {"name": name, "namespace": "n", "uid": name}, **fields}


def test_a_merge_patch_replaces_lists_and_removes_what_is_null() -> None:
    assert merge_patch({"a": [1, 2], "b": {"c": 1, "d": 2}}, {"a": [3], "b": {"c": None}}) == {"a": [3], "b": {"d": 2}}


def test_a_patch_leaves_its_target_alone() -> None:
    target = {"a": {"b": [{"name": "x"}]}}

    strategic_merge_patch(target, {"a": {"b": None}})
    merge_patch(target, {"a": None})
    json_patch(target, [{"op": "remove", "path": "/a/b"}])

    assert target == {"a": {"b": [{"name": "x"}]}}


def test_a_strategic_merge_patch_deletes_by_name() -> None:
    target = {"volumes": [{"name": "a"}, {"name": "b"}]}

    patched = strategic_merge_patch(target, {"volumes": [{"name": "a", "$patch": "delete"}, {"name": "c"}]})

    assert patched == {"volumes": [{"name": "b"}, {"name": "c"}]}


def test_a_strategic_merge_patch_adds_finalizers_without_doubling() -> None:
    assert strategic_merge_patch({"finalizers": ["a"]}, {"finalizers": ["a", "b"]}) == {"finalizers": ["a", "b"]}


def test_a_json_patch_reads_escaped_paths_and_appends() -> None:
    target = {"annotations": {"notebook-proxy/x": "1"}, "list": [1]}
    operations: list[Obj] = [
        {"op": "replace", "path": "/annotations/notebook-proxy~1x", "value": "2"},
        {"op": "add", "path": "/list/-", "value": 2},
        {"op": "move", "from": "/list", "path": "/moved"},
    ]

    assert json_patch(target, operations) == {"annotations": {"notebook-proxy/x": "2"}, "moved": [1, 2]}


@pytest.mark.parametrize("path", ["/nope/x", "/list/7"])
def test_a_json_patch_to_nowhere_is_refused(path: str) -> None:
    with pytest.raises(ApiError) as refused:
        json_patch({"list": []}, [{"op": "replace", "path": path, "value": 1}])

    assert refused.value.code == 422


@pytest.mark.parametrize(("text", "amount"), [("500m", "0.5"), ("2", "2"), ("1Ki", "1024"), ("1M", "1000000")])
def test_a_quantity_is_read(text: str, amount: str) -> None:
    assert str(quantity(text).normalize() + 0) == amount or float(quantity(text)) == float(amount)


def test_a_selector_of_a_spec_may_have_expressions() -> None:
    selector = {"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "In", "values": ["2"]}]}

    assert match_selector(selector, {"a": "1", "b": "2"})
    assert not match_selector(selector, {"a": "1"})


def test_a_selector_that_cannot_be_read_is_a_bad_request() -> None:
    with pytest.raises(ApiError) as refused:
        parse_label_selector("a=b=c d")

    assert refused.value.code == 400


def test_paths_are_read_in_the_words_of_rbac() -> None:
    target = parse_target("GET", "/api/v1/namespaces/n/pods/p/log", {})
    assert (target.verb, target.resource, target.plural, target.namespace) == ("get", PODS, "pods/log", "n")

    target = parse_target("GET", "/api/v1/pods", {"watch": "1"})
    assert (target.verb, target.namespace) == ("watch", "")

    target = parse_target("DELETE", "/api/v1/namespaces/n", {})
    assert (target.verb, target.resource, target.name) == ("delete", NAMESPACES, "n")


def test_paths_of_the_container_become_local_where_they_begin_a_word() -> None:
    mounts = {"/workspace": Path("/local/w"), "/workspace/.home": Path("/local/h")}

    assert localise("--root=/workspace/x", mounts) == "--root=/local/w/x"
    assert localise("/workspace/.home", mounts) == "/local/h"
    assert localise("cd /workspace && ls", mounts) == "cd /local/w && ls"
    assert localise("/workspaces /ws/workspace", mounts) == "/workspaces /ws/workspace"


def test_references_are_expanded_as_kubernetes_does() -> None:
    assert expand("--token=$(TOKEN) $(OTHER) $HOME", {"TOKEN": "x"}) == "--token=x $(OTHER) $HOME"


def test_a_snapshot_is_as_things_were() -> None:
    store = Store()
    store.put(SECRETS, secret("a", data=1))
    then = store.version
    store.put(SECRETS, secret("a", data=2))
    store.put(SECRETS, secret("b"))
    store.remove(SECRETS, secret("a", data=2))

    assert [(obj["metadata"]["name"], obj["data"]) for obj in store.snapshot(SECRETS, then)] == [("a", 1)]
    assert [obj["metadata"]["name"] for obj in store.items(SECRETS)] == ["b"]


def test_what_was_compacted_is_refused() -> None:
    store = Store()
    store.put(SECRETS, secret("a"))
    store.compact()

    assert store.changes_after(store.version) == []
    with pytest.raises(Compacted):
        store.changes_after(store.version - 1)
    with pytest.raises(Compacted):
        store.snapshot(SECRETS, store.version - 1)
