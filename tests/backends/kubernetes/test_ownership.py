"""Whose an object is."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from proxy.backends.kubernetes.manifests import build_deployment, build_secret, build_service
from proxy.backends.kubernetes.ownership import WORKSPACE, is_of_another, is_ours
from proxy.config import Config
from proxy.workspace import Key

KEY = Key("demo", "notebooks")
OURS = build_deployment(KEY, Config())


def changed(part: str, name: str, value: str | None) -> dict[str, Any]:
    found = copy.deepcopy(OURS)
    if value is None:
        del found["metadata"][part][name]
    else:
        found["metadata"][part][name] = value
    return found


def test_what_is_built_is_ours() -> None:
    pod = OURS["spec"]["template"]
    owned = build_secret(KEY, None, "t", {"uid": "u"}), build_service(KEY)

    assert all(is_ours(found, KEY) for found in (OURS, pod, *owned))


@pytest.mark.parametrize(
    ("part", "name"), [("labels", "managed-by"), ("labels", "workspace-id"), ("annotations", WORKSPACE)]
)
@pytest.mark.parametrize("value", [None, "other", ""])
def test_label_and_annotation_must_all_say_so(part: str, name: str, value: str | None) -> None:
    assert not is_ours(changed(part, name, value), KEY)


@pytest.mark.parametrize("found", [{}, {"metadata": {}}, {"metadata": {"labels": None, "annotations": None}}])
def test_an_object_without_marks_is_nobodys(found: dict[str, Any]) -> None:
    assert not is_ours(found, KEY)
    assert not is_of_another(found, "demo")


def test_an_object_of_another_workspace_is_told_by_label_or_annotation() -> None:
    assert not is_of_another(OURS, "demo")
    assert is_of_another(OURS, "demo2")
    assert is_of_another({"metadata": {"labels": {"workspace-id": "demo"}}}, "demo2")
    assert is_of_another({"metadata": {"annotations": {WORKSPACE: "demo"}}}, "demo2")
