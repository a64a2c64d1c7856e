"""Keys, handles and the table of transitions."""

from __future__ import annotations

import dataclasses
import itertools
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from proxy.errors import InvalidKey
from proxy.workspace import MAX_ID, TRANSITIONS, Event, Handle, IllegalTransition, Key, Phase, is_label, transition

ALPHABET = string.ascii_lowercase + string.digits


def oracle(text: str) -> bool:
    """RFC 1123 section 2.1 read aloud, without a regular expression."""
    if not 1 <= len(text) <= 63:
        return False
    if text[0] not in ALPHABET or text[-1] not in ALPHABET:
        return False
    return all(character in ALPHABET + "-" for character in text)


ALMOST_LABELS = st.text(alphabet=ALPHABET + "-" * 5 + "A_.%/ \n\u0660é", max_size=66)


@given(ALMOST_LABELS | st.text(alphabet=ALPHABET + "-", min_size=52, max_size=66) | st.text())
def test_label_rule_agrees_with_the_oracle(text: str) -> None:
    assert is_label(text) == oracle(text)


@pytest.mark.parametrize("text", ["a\n", "\na", "a-", "-a", "-", "", "A", "a_b", "a.b", "é", "\u0660", "a" * 64])
def test_what_looks_like_a_label_is_refused(text: str) -> None:
    assert not is_label(text)


@given(ALMOST_LABELS)
def test_a_key_is_accepted_exactly_if_its_deployment_name_is_a_label(text: str) -> None:
    key = Key(text, "default")

    if oracle(text) and len(text) <= MAX_ID:
        assert key.safe_deployment_name() == f"notebook-{text}"
    else:
        with pytest.raises(InvalidKey):
            key.safe_deployment_name()


def test_longest_id_fills_63_characters_with_its_prefix() -> None:
    assert len(Key("a" * MAX_ID, "default").safe_deployment_name()) == 63

    with pytest.raises(InvalidKey):
        Key("a" * (MAX_ID + 1), "default").safe_deployment_name()


def test_invalid_key_quotes_the_id_and_says_the_rule() -> None:
    with pytest.raises(InvalidKey) as caught:
        Key("Not/an id\n", "default").safe_deployment_name()

    assert repr("Not/an id\n") in str(caught.value)
    assert "DNS-1123 label" in str(caught.value)
    assert "54 characters" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.workspace_id == "Not/an id\n"


def test_invalid_key_shows_a_long_id_cut_off() -> None:
    error = InvalidKey("x" * 10_000, "the rule")

    assert len(str(error)) < 200
    assert error.workspace_id == "x" * 10_000


def test_keys_are_equal_and_hash_by_id_and_namespace() -> None:
    assert {Key("a", "x"): 1}[Key("a", "x")] == 1
    assert Key("a", "x") != Key("a", "y")
    assert Key("a", "x") != Key("b", "x")


def test_a_key_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):  # it is a tuple, which says so in these words
        Key("a", "x").workspace_id = "b"  # type: ignore[misc]


def test_deployment_name_is_not_checked() -> None:
    assert Key("Not valid", "x").deployment_name == "notebook-Not valid"


HEADERS = {"Authorization": "token s3cret", "X-Other": "also-s3cret"}


def test_repr_of_a_handle_shows_header_names_and_no_value() -> None:
    handle = Handle(URL("http://127.0.0.1:8888"), HEADERS)

    for shown in (repr(handle), str(handle), f"{handle}", repr([handle])):
        assert "Authorization" in shown
        assert "127.0.0.1:8888" in shown
        assert "s3cret" not in shown


def test_a_handle_parses_its_url_and_knows_address_and_header_lines() -> None:
    handle = Handle("http://[::1]:99/ws/demo/", HEADERS)  # type: ignore[arg-type]

    assert handle.service_url == URL("http://[::1]:99/ws/demo/")
    assert handle.address == ("::1", 99)
    assert handle.header_lines == b"Authorization: token s3cret\r\nX-Other: also-s3cret\r\n"


def test_port_of_a_handle_without_one_is_80() -> None:
    assert Handle(URL("http://notebook-demo.default.svc")).address == ("notebook-demo.default.svc", 80)


@pytest.mark.parametrize(
    "url", ["", "/ws/demo/", "https://h:1", "ws://h:1", "h:1", "//h:1", "http:///x", "http://u:p@h"]
)
def test_a_handle_refuses_what_is_no_plain_http_url(url: str) -> None:
    with pytest.raises(ValueError, match="absolute http URL") as caught:
        Handle(URL(url))

    assert "p@" not in str(caught.value)


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\n", "a\r", "a\0", "\udcff", "☃"])
def test_a_handle_refuses_a_header_that_would_be_another(value: str) -> None:
    with pytest.raises(ValueError, match="headers"):
        Handle(URL("http://h:1"), {"Authorization": value})


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "é"])
def test_a_handle_refuses_a_header_name_that_is_no_token(name: str) -> None:
    with pytest.raises(ValueError, match="headers"):
        Handle(URL("http://h:1"), {name: "x"})


def test_a_handle_is_frozen_and_so_are_its_headers() -> None:
    given_headers = dict(HEADERS)
    handle = Handle(URL("http://h:1"), given_headers)
    given_headers["Authorization"] = "changed"

    with pytest.raises(dataclasses.FrozenInstanceError):
        handle.service_url = URL("http://other")  # type: ignore[misc]
    with pytest.raises(TypeError):
        handle.headers["Authorization"] = "changed"  # type: ignore[index]
    assert handle.headers["Authorization"] == "token s3cret"


def test_equal_handles_hash_alike_and_headers_count() -> None:
    first, second = (Handle(URL("http://h:1"), HEADERS) for _ in range(2))

    assert first == second
    assert hash(first) == hash(second)
    assert len({first, second}) == 1
    assert first != Handle(URL("http://h:1"), {})


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, Event)))
def test_only_what_the_table_has_can_happen(phase: Phase, event: Event) -> None:
    if (phase, event) in TRANSITIONS:
        assert transition(phase, event) is TRANSITIONS[phase, event]
    else:
        with pytest.raises(IllegalTransition, match=f"{event.name} in {phase.name}"):
            transition(phase, event)


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TRANSITIONS[Phase.STOPPED, Event.READY] = Phase.RUNNING  # type: ignore[index]


def test_only_what_starts_or_is_found_runs_and_only_a_stop_leads_to_stopping() -> None:
    into_running = {before for before, after in TRANSITIONS.items() if after is Phase.RUNNING}
    into_stopping = {event for (_, event), after in TRANSITIONS.items() if after is Phase.STOPPING}

    assert into_running == {
        (Phase.STARTING, Event.READY),
        (Phase.STOPPED, Event.FOUND),
        (Phase.STOPPING, Event.STUCK),
    }
    assert into_stopping == {Event.STOP}


@pytest.mark.parametrize("start", list(Phase))
def test_every_phase_leads_to_every_other(start: Phase) -> None:
    reached = {start}
    while new := {after for (before, _), after in TRANSITIONS.items() if before in reached} - reached:
        reached |= new

    assert reached == set(Phase)
