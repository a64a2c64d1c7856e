"""The table of faults names tests and metrics that exist, and no fault is without either."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.metrics_list import METRICS, PREFIX
from tests.test_threat_model import names_in

TEXT = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
FAULTS = [
    line.strip("| ").split(" | ")
    for line in TEXT.splitlines()
    if line.startswith("| ") and not line.startswith(("| fault", "| ---"))
]
NAMED = sorted(set(re.findall(r"`([\w/]+\.py)::(\w+)`", TEXT)))
KNOWN = {metric.exposed.removeprefix(PREFIX) for metric in METRICS}


def test_there_are_faults() -> None:
    assert len(FAULTS) >= 15


@pytest.mark.parametrize(("file", "test"), NAMED, ids=lambda value: value.rpartition("/")[2])
def test_every_named_test_exists_and_is_run(file: str, test: str) -> None:
    assert test in names_in(file)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault[0])
def test_no_fault_is_without_an_outcome_a_test_and_a_metric(fault: list[str]) -> None:
    name, outcome, tests, metrics = fault

    assert name.strip()
    assert outcome.strip()
    assert re.findall(r"`[\w/]+\.py::test_\w+`", tests)
    assert set(found := re.findall(r"`(\w+)`", metrics)) <= KNOWN
    assert found


def test_every_test_of_a_fault_is_in_the_table() -> None:
    here = Path(__file__).parent
    files = [path.name for path in here.glob("test_*.py") if path.name != Path(__file__).name]
    tests = {(f"faults/{file}", test) for file in files for test in names_in(f"faults/{file}")}

    assert tests <= set(NAMED)
