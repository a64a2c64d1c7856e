"""Which headers cross the proxy, and in what form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadResponse
from proxy.relay.headers import RawHeaders, forwarded_lines, request_lines, values_of
from proxy.relay.headers import response_lines as lines_of
from proxy.relay.location import Place

OURS = b"Authorization: token ours\r\nX-Forwarded-For: 127.0.0.1\r\n"
CONNECTION = [b"Connection", b"Keep-Alive", b"Proxy-Authenticate", b"Proxy-Authorization", b"Proxy-Connection"]
CONNECTION += [b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade", b"HTTP2-Settings"]
SET_BY_US = [b"Authorization", b"Forwarded", b"X-Forwarded-For", b"X-Forwarded-Host", b"X-Forwarded-Port"]
SET_BY_US += [b"X-Forwarded-Prefix", b"X-Forwarded-Proto", b"X-Forwarded-Scheme", b"X-Forwarded-Server"]
SET_BY_US += [b"X-Forwarded-Ssl", b"X-Real-Ip", b"X-Scheme", b"Expect", b"X-Forwarded-User", b"Remote-User"]
NAMES = st.sampled_from([*CONNECTION, *SET_BY_US, b"Cookie", b"Host", b"Content-Length", b"X-A", b"X-B", b"x-a"])
VALUES = st.binary(max_size=8).map(lambda value: value.translate(None, b"\r\n\x00"))
HEADERS = st.lists(st.tuples(NAMES, VALUES | st.lists(NAMES, max_size=3).map(b" , ".join)), max_size=8)


SECRETS = [b"a=1", b"notebook-proxy=eyJ", b"a=1; __Host-notebook-proxy-site=eyJ; b=2", b""]
PLACE = Place(b"/ws/demo/", (b"localhost:8000",), (b"127.0.0.1:9999",))


def response_lines(headers: RawHeaders, *, status: int = 200, without_length: bool = False) -> bytes:
    return lines_of(headers, PLACE, status=status, without_length=without_length)


def spellings(names: list[bytes]) -> list[bytes]:
    return [form for name in names for form in (name, name.lower(), name.upper())]


@pytest.mark.parametrize("name", spellings(CONNECTION + SET_BY_US))
def test_what_is_the_connections_or_ours_to_say_is_dropped_from_a_request(name: bytes) -> None:
    lines = request_lines([(b"X-A", b"1"), (name, b"theirs"), (b"X-B", b"2")], OURS)

    assert lines == b"X-A: 1\r\nX-B: 2\r\n" + OURS


@pytest.mark.parametrize("name", [b"X_Forwarded_For", b"x_forwarded-FOR", b"X_Real_IP", b"Proxy_Connection"])
@pytest.mark.parametrize("more", [b"Transfer_Encoding", b"x_scheme", b"Content_Length", b"content_length"])
def test_look_alikes_with_underscores_are_dropped(name: bytes, more: bytes) -> None:
    lines = request_lines([(name, b"evil"), (more, b"5"), (b"X_Own", b"kept")], OURS)

    assert lines == b"X_Own: kept\r\n" + OURS


def test_every_repetition_is_dropped() -> None:
    lines = request_lines([(b"X-Forwarded-For", b"1"), (b"x-forwarded-for", b"2"), (b"Authorization", b"3")], OURS)

    assert lines == OURS


@pytest.mark.parametrize("value", [b"X-A", b"close, x-a", b"x-A,close", b" \tX-A\t ,", b",,x-a,,"])
def test_what_connection_names_is_dropped(value: bytes) -> None:
    headers = [(b"X-A", b"1"), (b"Connection", value), (b"X-B", b"2"), (b"x-a", b"3")]

    assert request_lines(headers, OURS) == b"X-B: 2\r\n" + OURS
    assert response_lines(headers) == b"X-B: 2\r\n"


def test_what_any_of_several_connection_headers_names_is_dropped() -> None:
    headers = [(b"connection", b"X-A"), (b"X-A", b"1"), (b"X-B", b"2"), (b"X-C", b"3"), (b"CONNECTION", b"x-b")]

    assert request_lines(headers, b"") == b"X-C: 3\r\n"


def test_host_and_length_cannot_be_named_away() -> None:
    headers = [(b"Connection", b"Host, content-length, HOST"), (b"Host", b"a"), (b"Content-Length", b"5")]

    assert request_lines(headers, b"") == b"Host: a\r\nContent-Length: 5\r\n"
    assert response_lines(headers) == b"Host: a\r\nContent-Length: 5\r\n"


def test_ours_cannot_be_named_away_and_come_last() -> None:
    headers = [(b"Connection", b"Authorization, X-Forwarded-For"), (b"X-A", b"1")]

    assert request_lines(headers, OURS) == b"X-A: 1\r\n" + OURS


def test_order_spelling_repetition_and_bytes_are_kept() -> None:
    headers = [
        (b"hOsT", b"localhost"),
        (b"Cookie", b"a=1; b=\xff\x80"),
        (b"cookie", b"c=2"),
        (b"X-Empty", b""),
        (b"X-Spaces", b"a  b\t"),
        (b"Origin", b"null"),
        (b"Sec-WebSocket-Key", b"x=="),
        (b"X-A", b"2"),
        (b"X-A", b"1"),
    ]
    expected = b"".join(name + b": " + value + b"\r\n" for name, value in headers)

    assert request_lines(headers, b"") == expected
    assert response_lines(headers) == expected


@pytest.mark.parametrize("name", spellings(CONNECTION))
def test_what_is_the_connections_to_say_is_dropped_from_a_response(name: bytes) -> None:
    assert response_lines([(b"X-A", b"1"), (name, b"x")]) == b"X-A: 1\r\n"


def test_a_response_keeps_its_own_headers_whatever_the_request_may_not_send() -> None:
    headers = [(b"X-Auth-Request-User", b"1"), (b"X-Forwarded-For", b"1"), (b"X_A", b"2")]

    assert response_lines(headers) == b"X-Auth-Request-User: 1\r\nX-Forwarded-For: 1\r\nX_A: 2\r\n"


def test_length_is_left_out_of_a_response_on_demand() -> None:
    headers = [(b"content-LENGTH", b"5"), (b"X-A", b"1")]

    assert response_lines(headers, without_length=True) == b"X-A: 1\r\n"
    assert response_lines(headers) == b"content-LENGTH: 5\r\nX-A: 1\r\n"


def test_values_come_in_order_whatever_their_spelling() -> None:
    headers = [(b"X-A", b"2"), (b"X-B", b"3"), (b"x-a", b"1")]

    assert values_of(headers, b"x-a") == [b"2", b"1"]
    assert values_of(headers, b"x-c") == []


@given(HEADERS)
def test_request_and_response_lines_agree_with_the_rule_read_aloud(headers: list[tuple[bytes, bytes]]) -> None:
    named = {
        part.strip().lower() for name, value in headers if name.lower() == b"connection" for part in value.split(b",")
    }
    named -= {b"host", b"content-length"}
    hop = {name.lower() for name in CONNECTION} | named
    ours = {name.lower() for name in SET_BY_US}

    def join(dropped: set[bytes]) -> bytes:
        return b"".join(b"%b: %b\r\n" % (name, value) for name, value in headers if name.lower() not in dropped)

    assert request_lines(headers, OURS) == join(hop | ours) + OURS
    assert response_lines(headers) == join(hop)


TOLD = st.sampled_from(["X-Forwarded-User", "X-Auth-Request-Email", "Remote-User", "Authorization", "Cookie", "X-Own"])
SENT = st.lists(st.tuples(TOLD, st.sampled_from("-_.~"), st.booleans(), st.sampled_from(SECRETS)), max_size=8)


@given(SENT, st.lists(TOLD, max_size=3))
def test_whatever_a_client_sends_no_word_of_who_it_is_and_no_credential_passes(
    sent: list[tuple[str, str, bool, bytes]], named: list[str]
) -> None:
    headers = [(b"Connection", ", ".join(named).encode())]
    for name, separator, is_upper, value in sent:
        spelled = name.replace("-", separator).upper() if is_upper else name.replace("-", separator)
        headers.append((spelled.encode(), value if name in ("Cookie", "X-Own") else b"root"))

    passed = request_lines(headers, b"X-Forwarded-User: alice\r\n")

    lines = passed.split(b"\r\n")[:-1]
    assert [line for line in lines if b"root" in line or (b"eyJ" in line and not line.upper().startswith(b"X"))] == []
    assert lines[-1] == b"X-Forwarded-User: alice"
    assert all(
        line.partition(b": ")[0].lower() in (b"cookie", b"x-own", b"x_own", b"x.own", b"x~own") for line in lines[:-1]
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"Set-Cookie", b"sEt-cOOkie", b"Location", b"Clear-Site-Data", b"X-Own", b"Connection"]),
            st.sampled_from(
                [b"a=1; Domain=x; Path=/", b"notebook-proxy=x", b"/x", b"//x", b"http://x/", b"Location", b"*"]
            ),
        ),
        max_size=6,
    )
)
def test_whatever_a_notebook_sends_a_browser_learns_of_its_own_workspace_alone(
    headers: list[tuple[bytes, bytes]],
) -> None:
    try:
        passed = response_lines(headers, status=302)
    except BadResponse:
        passed = response_lines(headers, status=200)

    for line in passed.split(b"\r\n")[:-1]:
        name, _, value = line.partition(b": ")
        assert name.lower() in (b"set-cookie", b"location", b"x-own")
        assert name.lower() != b"set-cookie" or (b"Path=/ws/demo/" in value and b"Domain" not in value)
        assert name.lower() != b"set-cookie" or b"notebook-proxy" not in value
        assert name.lower() != b"location" or not value.startswith((b"//", b"http"))


def test_forwarded_lines_tell_what_the_proxy_sees() -> None:
    lines = forwarded_lines("192.0.2.1", "http", "localhost:8000")

    assert lines == (b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: localhost:8000\r\n")


def test_forwarded_lines_keep_what_a_trusted_proxy_says() -> None:
    believed = [
        (b"X-Forwarded-For", b"203.0.113.9"),
        (b"x-forwarded-for", b"10.0.0.1, 10.0.0.2"),
        (b"X-Forwarded-Proto", b"http"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"evil.example"),
        (b"X-Forwarded-Host", b"hub.example"),
        (b"X_Forwarded_For", b"6.6.6.6"),
    ]

    lines = forwarded_lines("10.0.0.3", "http", "localhost", believed=believed)

    assert lines == (
        b"X-Forwarded-For: 203.0.113.9, 10.0.0.1, 10.0.0.2, 10.0.0.3\r\n"
        b"X-Forwarded-Proto: https\r\nX-Forwarded-Host: hub.example\r\n"
    )


def test_forwarded_lines_fill_in_what_a_trusted_proxy_leaves_out() -> None:
    lines = forwarded_lines("::1", "https", "hub.example", believed=[(b"X-Other", b"1")])

    assert lines == b"X-Forwarded-For: ::1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: hub.example\r\n"


@given(st.binary(min_size=1).map(lambda value: value.translate(None, b"\r\n\x00")))
def test_a_host_of_any_bytes_is_told_as_it_was_sent(sent: bytes) -> None:
    lines = forwarded_lines("::1", "http", sent.decode("utf-8", "surrogateescape"))

    assert lines.endswith(b"\r\nX-Forwarded-Host: " + sent + b"\r\n")


def test_what_the_handle_sets_replaces_the_clients_own_in_any_spelling() -> None:
    lines = request_lines(
        [(b"X-Key", b"theirs"), (b"x-KEY", b"too"), (b"X-Keys", b"kept")],
        b"X-Key: ours\r\n",
        replaced=frozenset({b"x-key"}),
    )

    assert lines == b"X-Keys: kept\r\nX-Key: ours\r\n"
