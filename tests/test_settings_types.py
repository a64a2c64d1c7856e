"""How text becomes a value and a value text."""

from __future__ import annotations

import contextlib
import math
from datetime import date, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from proxy.settings_types import (
    Command,
    LogLevel,
    Networks,
    OptionalDuration,
    Quantity,
    StringMap,
    Switch,
    Text,
    format_value,
    parse_duration,
    parse_listen,
)
from proxy.settings_yaml import read_yaml

if TYPE_CHECKING:
    from decimal import Decimal

DAY = 86_400


def read(kind: Any, value: Any) -> Any:
    return TypeAdapter(kind).validate_python(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4h", 14_400),
        ("5m", 300),
        ("90s", 90),
        ("2d", 2 * DAY),
        ("1h30m", 5_400),
        ("1.5h", 5_400),
        ("0.25s", 0.25),
        (" 90s ", 90),
        ("90", 90),
        ("0.5", 0.5),
        ("0", 0),
        ("-5", -5),
        (90, 90),
        (0.5, 0.5),
        (timedelta(minutes=2), 120),
    ],
)
def test_a_duration_is_read(text: object, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        *("", "h", "4 h", "4H", "h4", "4h ago", "-4h", "1e3", "1_000", "\u0663h", ".5h", "5.", "inf", "nan", "off"),
        *("9" * 400, "9" * 5_000 + "s", "9" * 25 + "d", "1e-06s"),
        *(math.nan, math.inf, -math.inf, 1e300, 10**400, True, None, [], {}, object(), b"4h"),
    ],
)
def test_what_is_no_duration_is_refused_with_what_is_allowed(value: object) -> None:
    with pytest.raises(ValueError, match="a duration such as 4h, 5m, 90s or a number of seconds"):
        parse_duration(value)


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=10_000)))
def test_a_duration_that_is_written_reads_the_same(value: timedelta) -> None:
    assert parse_duration(format_value(value)) == value


@given(st.integers(0, 10**6), st.sampled_from([("d", DAY), ("h", 3_600), ("m", 60), ("s", 1)]))
def test_units_are_what_they_are(number: int, unit: tuple[str, int]) -> None:
    assert parse_duration(f"{number}{unit[0]}") == timedelta(seconds=number * unit[1])


@given(st.decimals(0, 10**6, places=6))
def test_a_fraction_is_exact_to_the_microsecond(seconds: Decimal) -> None:
    assert parse_duration(f"{seconds:f}s") == timedelta(microseconds=int(seconds * 10**6))


@given(st.text() | st.integers() | st.floats() | st.none() | st.binary() | st.lists(st.integers()))
def test_a_duration_is_read_or_refused_and_nothing_else(value: object) -> None:
    with contextlib.suppress(ValueError):
        assert isinstance(parse_duration(value), timedelta)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(hours=4), "4h"),
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=90), "90m"),
        (timedelta(), "0s"),
        (timedelta(microseconds=1), "0.000001s"),
        (timedelta(days=14, microseconds=500_000), "1209600.5s"),
        (timedelta(seconds=-5), "-5s"),
        (None, "off"),
        (True, "on"),
        (False, "off"),
        ((), ""),
        ({}, ""),
        (("a b", "c"), "'a b' c"),
        ((ip_network("10.0.0.0/8"), ip_network("::1")), "10.0.0.0/8,::1/128"),
        ({"A": "é"}, '{"A": "é"}'),
        ("text", "text"),
    ],
)
def test_a_value_is_written_as_a_person_would(value: object, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize("value", ["off", "OFF", " off ", False, None])
def test_off_is_no_duration_at_all_where_that_is_allowed(value: object) -> None:
    assert read(OptionalDuration, value) is None


def test_a_duration_that_may_be_off_says_so() -> None:
    assert read(OptionalDuration, "90s") == timedelta(seconds=90)

    with pytest.raises(ValidationError, match="number of seconds, or off"):
        read(OptionalDuration, "never")


@pytest.mark.parametrize(("value", "expected"), [(word, True) for word in ("on", "ON", " true", "yes", "1", 1, True)])
def test_a_switch_is_on(value: object, expected: bool) -> None:
    assert read(Switch, value) is expected


@pytest.mark.parametrize("value", ["off", "False", "no", "0", 0, False])
def test_a_switch_is_off(value: object) -> None:
    assert read(Switch, value) is False


@pytest.mark.parametrize("value", ["maybe", "", 2, [], None])
def test_what_is_no_switch_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="on or off"):
        read(Switch, value)


def test_a_command_is_split_as_a_shell_splits() -> None:
    assert read(Command, "ide --root '{root}/a b' \"\" x\\ y") == ("ide", "--root", "{root}/a b", "", "x y")


def test_a_command_is_a_list_of_words() -> None:
    assert read(Command, ["ide", "a b", 80, "$HOME"]) == ("ide", "a b", "80", "$HOME")


@pytest.mark.parametrize("value", ["a 'b", "a\\", [True], [None], [["a"]], {"a": 1}, 3])
def test_what_is_no_command_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="one shell-like string"):
        read(Command, value)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_a_command_that_is_written_reads_the_same(words: list[str]) -> None:
    assert read(Command, format_value(tuple(words))) == tuple(words)


@pytest.mark.parametrize(
    "value", ["10.0.0.0/8, ::1", "10.0.0.0/8 ::1", ["10.0.0.0/8", "::1/128"], ("10.0.0.0/8", "::1")]
)
def test_networks_are_read(value: object) -> None:
    assert read(Networks, value) == (ip_network("10.0.0.0/8"), ip_network("::1/128"))


@pytest.mark.parametrize("value", ["10.0.0.0/33", "10.0.0.1/8", "host", [10], 10, True, {"10.0.0.0/8": 1}, [None]])
def test_what_are_no_networks_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="networks such as"):
        read(Networks, value)


def test_a_mapping_is_read_from_text_and_every_value_stays_what_it_is() -> None:
    text = "{A: 'b c', VERSION: 1.10, MODE: 0755, SWITCH: off, AT: 1:30, DAY: 2026-99-01, NO: yes, EMPTY: }"

    assert read(StringMap, text) == {
        "A": "b c",
        "VERSION": "1.10",
        "MODE": "0755",
        "SWITCH": "off",
        "AT": "1:30",
        "DAY": "2026-99-01",
        "NO": "yes",
        "EMPTY": "",
    }


@pytest.mark.parametrize(
    "value",
    [
        "A=b",
        "[A]",
        "{A: [1]}",
        "{A: {B: c}}",
        "{A",
        "{[1]: a}",
        "[" * 5_000,
        {1: "a"},
        {"A": None},
        {"A": True},
        3,
        "\0",
    ],
)
def test_what_is_no_mapping_is_refused(value: object) -> None:
    with pytest.raises(ValidationError, match="a mapping of names to text"):
        read(StringMap, value)


@given(st.dictionaries(st.text("ABC_", min_size=1), st.text(st.characters(codec="ascii", exclude_categories=["C"]))))
def test_a_mapping_that_is_written_reads_the_same(value: dict[str, str]) -> None:
    assert read(StringMap, format_value(value) or "{}") == value


@pytest.mark.parametrize(("value", "text"), [("500m", "500m"), (2, "2"), (0.5, "0.5"), (" 4Gi ", "4Gi")])
def test_a_quantity_is_text(value: object, text: str) -> None:
    assert read(Quantity, value) == text


@pytest.mark.parametrize("value", [0, 0.0, "0", "0m", "0.0Gi", "00"])
def test_a_quantity_of_zero_is_empty(value: object) -> None:
    assert read(Quantity, value) == ""


@pytest.mark.parametrize("value", [True, [1], None, b"1", date(2026, 1, 1)])
def test_what_cannot_be_text_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        read(Quantity, value)
    with pytest.raises(ValidationError):
        read(Text, value)


def test_numbers_are_text_where_text_is_wanted() -> None:
    assert read(Text, 8000) == "8000"


def test_a_log_level_may_be_shouted() -> None:
    assert read(LogLevel, " INFO") == "info"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8000", ("127.0.0.1", 8000)),
        ("[::1]:0", ("::1", 0)),
        ("Localhost:80", ("localhost", 80)),
        (":65535", ("0.0.0.0", 65535)),
        (" 8000 ", ("127.0.0.1", 8000)),
    ],
)
def test_an_address_is_read(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", "host", "host:80", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:0x50"),
        *(
            "::1",
            "::1:8000",
            "[::1]",
            "[127.0.0.1]:80",
            "[::1:80",
            "[::1%lo]:80",
            "127.0.0.1:8 0",
            "\u0661:\u0662",
            "127.1:80",
        ),
        *("http://127.0.0.1:80", "127.0.0.1:80/", "unix:/run/x", "127.0.0.1:000080"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="an IP address \\(or localhost\\) and a port"):
        parse_listen(text)


@given(st.ip_addresses(), st.integers(0, 65_535))
def test_every_address_is_read_as_it_is_written_in_a_url(address: Any, port: int) -> None:
    shown = f"[{address}]" if address.version == 6 else str(address)

    assert parse_listen(f"{shown}:{port}") == (str(address), port)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\udcff", "\0", "[" * 5_000, "*unknown", "a: 1\n\tb: 2"])
def test_what_is_not_yaml_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_yaml(text)

    assert len(str(caught.value).splitlines()) == 1


@given(st.text())
def test_yaml_becomes_text_lists_and_mappings_or_an_error(text: str) -> None:
    try:
        found = read_yaml(text)
    except ValueError:
        return
    assert found is None or isinstance(found, str | list | dict)
