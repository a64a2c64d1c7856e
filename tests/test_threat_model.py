"""The threat model names tests that exist, and no threat is without one."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "threat-model.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)))
THREATS = [
    line.split(" | ")
    for section in TEXT.partition("## Threats")[2].partition("## Out of scope")[0].split("\n### ")[1:]
    for line in section.splitlines()
    if line.startswith("| ") and not line.startswith(("| threat", "| ---"))
]


@cache
def names_in(name: str) -> frozenset[str]:
    tree = ast.parse((TESTS / name).read_text(encoding="utf-8"))
    found = {
        node.name: {ast.unparse(decorator) for decorator in node.decorator_list}
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
    return frozenset(name for name, decorators in found.items() if not any("skip" in text for text in decorators))


def test_there_are_threats() -> None:
    assert len(THREATS) >= 40
    assert len(NAMED) >= 60


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda value: value.rpartition("/")[2])
def test_every_named_test_exists_and_is_run(file: str, test: str) -> None:
    assert test in names_in(file)


@pytest.mark.parametrize("threat", THREATS, ids=lambda threat: threat[0][2:60])
def test_no_threat_is_without_what_stops_it_and_a_test(threat: list[str]) -> None:
    assert len(threat) == 3
    assert threat[1].strip()
    assert re.search(r"`[\w/]+\.py::test_\w+`", threat[2])


def test_the_readme_leads_to_it() -> None:
    assert "docs/threat-model.md" in (TESTS.parent / "README.md").read_text(encoding="utf-8")
