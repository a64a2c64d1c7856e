"""Label and field selectors, as in a list's query and in a Deployment's or a Service's spec. Pure functions.

The grammar is that of https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.cluster.answers import bad_request
from tests.cluster.resources import Obj

Predicate = Callable[[Obj], bool]
_SET = re.compile(r"^(?P<key>\S+)\s+(?P<op>in|notin)\s*\((?P<values>[^)]*)\)$")
_EQUALITY = re.compile(r"^(?P<key>[^\s=!]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s=!]*)$")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^(]*\))")


def match_labels(wanted: dict[str, str], labels: dict[str, str]) -> bool:
    """Tell whether every wanted label is there with its value."""
    return all(labels.get(key) == value for key, value in wanted.items())


def match_selector(selector: Obj, labels: dict[str, str]) -> bool:
    """Tell whether labels fit a spec's selector (`matchLabels` and `matchExpressions`)."""
    if not match_labels(selector.get("matchLabels") or {}, labels):
        return False
    for expression in selector.get("matchExpressions") or []:
        key, operator, values = expression["key"], expression["operator"], expression.get("values") or []
        holds = {
            "In": labels.get(key) in values,
            "NotIn": labels.get(key) not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not holds[operator]:
            return False
    return True


def parse_label_selector(text: str) -> Predicate:
    """Return what tells whether an object fits a query's `labelSelector`.

    Raises:
        ApiError: 400, it cannot be read.
    """
    tests = [_parse_requirement(part.strip()) for part in _COMMA_OUTSIDE_PARENTHESES.split(text) if part.strip()]
    return lambda obj: all(test(obj["metadata"].get("labels") or {}) for test in tests)


def _parse_requirement(text: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.match(text):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUALITY.match(text):
        key, value = found["key"], found["value"]
        if found["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if re.fullmatch(r"!\s*[^\s=!(),]+", text):
        absent = text[1:].strip()
        return lambda labels: absent not in labels
    if re.fullmatch(r"[^\s=!(),]+", text):
        return lambda labels: text in labels
    raise bad_request(f"unable to parse requirement: found '{text}'")


def parse_field_selector(text: str) -> Predicate:
    """Return what tells whether an object fits a query's `fieldSelector`; a field that is not there counts as empty.

    Raises:
        ApiError: 400, it cannot be read.
    """
    tests: list[tuple[list[str], str, bool]] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _EQUALITY.match(part)
        if not found:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        tests.append((found["key"].split("."), found["value"], found["op"] != "!="))
    return lambda obj: all((_field(obj, path) == value) is equal for path, value, equal in tests)


def _field(obj: Obj, path: list[str]) -> str:
    value: object = obj
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return "" if value is None else str(value)
