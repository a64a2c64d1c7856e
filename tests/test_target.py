"""The request target: what passes byte for byte, and what is refused."""

from __future__ import annotations

import posixpath
import re
import string
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequest, InvalidKey
from proxy.target import Target, parse_target

HOST = "localhost:8000"

PIECES = [
    ".", "..", "%2e", "%2E", "%252e", "%25252e", "/", "//", "%2F", "%252f", "%5c", "%255C", "\\", ";", ";x", "%3b",
    "%253B", "a", "demo", "%20", "%00", "%2500", "%", "%%", "%zz", "%2", "%25", "?", "#", "&", "+", "~", "%c3%a9",
    "ws", "%77s",
]  # fmt: skip
SEGMENT_PIECES = st.sampled_from(PIECES)
TAILS = st.lists(SEGMENT_PIECES, max_size=8).map("".join)
NAMES = [
    "token", "%74oken", "t%6Fken", "tok%65n", "%74%6f%6b%65%6e", "Token", "tokens", "mytoken", "token+", "%2574oken",
    "a", "", "token%00", "%", "x;token", "to%20ken",
]  # fmt: skip
QUERY_NAMES = st.sampled_from(NAMES)
QUERY_VALUES = st.sampled_from(["", "=", "=1", "=token", "=a=b", "=%26", "=+", "=;", "=/../?"])
QUERY_PARTS = st.lists(st.tuples(QUERY_NAMES, QUERY_VALUES).map("".join), max_size=6)


def read(raw: str) -> Target:
    return parse_target(raw, HOST)


def is_token(part: str) -> bool:
    """Whether a server that decodes would call this parameter `token`; told without the module's own code."""
    name = re.sub("%([0-9A-Fa-f]{2})", lambda found: chr(int(found[1], 16)), part.split("=", 1)[0].replace("+", " "))
    return name == "token"


PASSING = [
    "/ws/demo/", "/ws/demo/lab", "/ws/demo/files/a%2Fb", "/ws/demo/files/a%2fb%40c@d", "/ws/demo//double//slash//",
    "/ws/demo/a+b;c=1,d:e!$'()*~_", "/ws/demo/...", "/ws/demo/.hidden/..x/x../a.b/.%41", "/ws/demo/%25/100%",
    "/ws/demo/%zz%", "/ws/demo/%C3%A9%ff", "/ws/demo/?", "/ws/demo/??", "/ws/demo/?a=&b&=c&&",
    "/ws/demo/?q=a+b%20c;d=%2F..%2F/../", "/ws/demo/?path=..%2f..&x=\\", "/ws/demo/%7Eme/a%3Fb%23c", "//ws/demo/",
    "/",
]  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    PASSING,
)
def test_what_is_not_ambiguous_passes_byte_for_byte(raw: str) -> None:
    target = read(raw)

    assert target.wire == raw.encode()


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("token=abc", None),
        ("token", None),
        ("token=", None),
        ("token=1&token=2&token", None),
        ("%74oken=abc", None),
        ("t%6Fken", None),
        ("%74%6f%6b%65%6e=x", None),
        ("a=1&token=abc&b=2", "a=1&b=2"),
        ("token=abc&a=1", "a=1"),
        ("a=1&token=abc", "a=1"),
        ("a=1&tok%65n=abc&&b=%2F+;", "a=1&&b=%2F+;"),
        ("&token=x&", "&"),
        ("token=a=b&c", "c"),
    ],
)
def test_token_is_removed_in_every_spelling_and_nothing_else(query: str, left: str | None) -> None:
    target = read(f"/ws/demo/lab?{query}")

    assert target.query == left
    assert target.wire == (b"/ws/demo/lab" if left is None else b"/ws/demo/lab?" + left.encode())


OTHER_NAMES = [
    "Token=1", "TOKEN=1", "tokens=1", "mytoken=1", "a=token", "a=token=1", "token+=1", "+token=1", "token%20=1",
    "%2574oken=1", "x_token", "token[]=1", "token%00=1", "?token=1", "a;token=1", "%FFtoken=1",
]  # fmt: skip


@pytest.mark.parametrize(
    "query",
    OTHER_NAMES,
)
def test_what_is_not_named_token_stays(query: str) -> None:
    assert read(f"/ws/demo/?{query}").query == query


@given(QUERY_PARTS)
def test_the_query_keeps_exactly_the_parameters_that_no_server_reads_as_token(parts: list[str]) -> None:
    query = "&".join(parts)

    found = read(f"/ws/demo/?{query}").query

    kept = [part for part in query.split("&") if not is_token(part)]
    assert found == ("&".join(kept) if kept else None)


@given(st.text(alphabet=[character for character in string.printable[:94] if character != "#"], max_size=40))
def test_a_query_without_token_is_never_touched(query: str) -> None:
    found = read(f"/ws/demo/?{query}").query

    if not any(is_token(part) for part in query.split("&")):
        assert found == query


@pytest.mark.parametrize("dot", [".", "..", "%2e", "%2E%2e", ".%2e", "%252e", "%252e.", "%25%32%65%252E"])
@pytest.mark.parametrize(
    "frame", ["/{}", "/{}/", "/ws/{}/demo", "/ws/demo/{}", "/ws/demo/{}/x", "/ws/demo/{};x", "/ws/demo/{}?q", "//{}"]
)
def test_dot_segments_are_refused_raw_and_decoded_once_and_twice(dot: str, frame: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(frame.format(dot))

    assert caught.value.code == "bad-path"
    assert "segment" in str(caught.value)


ENCODED_SEPARATORS = [
    "a%2f..", "a%2F..%2Fb", "..%2f", "a%252f..", "a%252f%252e%252e%252fb", "..;", "..;x=1/b", "..%3bx", "..%253bx",
    "a%5c..", "..%5Cb", "a%255c..%255cb", "%5c%2e%2e", "a%2f.", ".%2f",
]  # fmt: skip


@pytest.mark.parametrize(
    "path",
    ENCODED_SEPARATORS,
)
def test_dot_segments_between_encoded_separators_are_refused(path: str) -> None:
    with pytest.raises(BadRequest):
        read(f"/ws/demo/{path}")


def test_dots_that_take_a_third_decoding_pass() -> None:
    assert read("/ws/demo/%25252e%25252e").wire == b"/ws/demo/%25252e%25252e"


def test_dot_segments_in_the_query_pass() -> None:
    assert read("/ws/demo/?../..&%2e%2e/").query == "../..&%2e%2e/"


@pytest.mark.parametrize(
    "raw", ["/ws/demo/a\\b", "/ws\\demo/", "\\ws\\demo", "/ws/demo/%00", "/ws/demo/a%2500", "/%00"]
)
def test_backslash_and_nul_are_refused(raw: str) -> None:
    with pytest.raises(BadRequest):
        read(raw)


NOT_ASCII = [
    "/ws/demo/#x", "/ws/demo/?a#", "/#", "/ws/é/", "/ws/demo/?q=é", "/ws/demo/\udcff", "/ws/demo/ x", "/ws/demo/\t",
    "/ws/demo/\x00", "/ws/demo/\x7f", "/ws/demo/\r\n", "/ws/demo/\n", "/ws/demo/\u212a",
]  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    NOT_ASCII,
)
def test_what_is_not_visible_ascii_or_has_a_fragment_is_refused(raw: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(raw)

    assert caught.value.code == "bad-target"


@pytest.mark.parametrize(
    ("raw", "wire"),
    [
        ("http://localhost:8000/ws/demo/a%2Fb?x=&token=1", b"/ws/demo/a%2Fb?x="),
        ("HTTP://LOCALHOST:8000/", b"/"),
        ("https://localhost:8000/ws/demo/", b"/ws/demo/"),
        ("http://localhost:8000", b"/"),
        ("http://localhost:8000?a=1", b"/?a=1"),
        ("http://localhost:8000//ws/demo/", b"//ws/demo/"),
    ],
)
def test_absolute_form_with_the_authority_of_host_is_read_as_its_path(raw: str, wire: bytes) -> None:
    assert read(raw).wire == wire


OTHER_FORMS = [
    "http://evil.com/ws/demo/", "http://localhost/ws/demo/", "http://localhost:8001/ws/demo/",
    "http://user@localhost:8000/ws/demo/", "http://localhost:8000@evil.com/ws/demo/",
    "http://localhost:8000\\@evil.com/ws/demo/", "http:///ws/demo/", "http:/ws/demo/", "http:ws/demo",
    "ftp://localhost:8000/ws/demo/", "http://localhost:8000#/ws/demo/", "http://localhost:8000/ws/../x", "*", "",
    "localhost:8000", "ws/demo/", "?x", " /ws/demo/",
]  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    OTHER_FORMS,
)
def test_any_other_form_is_refused(raw: str) -> None:
    with pytest.raises(BadRequest):
        read(raw)


@pytest.mark.parametrize(
    "raw", ["/ws/%64emo/", "/ws/demo%2Flab", "/ws/demo%", "/ws/d%65mo", "/ws/%2e%2f/", "/ws/a%20b/x"]
)
def test_an_id_that_is_not_literal_is_refused(raw: str) -> None:
    with pytest.raises((InvalidKey, BadRequest)):
        read(raw)


def test_an_encoded_id_is_refused_with_the_rule() -> None:
    with pytest.raises(InvalidKey) as caught:
        read("/ws/%64emo/")

    assert "'%64emo'" in str(caught.value)
    assert "DNS-1123" in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "workspace_id", "is_bare"),
    [
        ("/ws/demo", "demo", True),
        ("/ws/demo?a=1", "demo", True),
        ("/ws/demo/", "demo", False),
        ("/ws/demo/lab?x=/", "demo", False),
        ("/ws/Demo/", "Demo", False),
        ("/ws/demo;x/", "demo;x", False),
        ("/ws/", "", True),
        ("/ws//", "", False),
        ("/ws//x", "", False),
        ("/ws", None, False),
        ("/ws?/demo/", None, False),
        ("//ws/demo", None, False),
        ("/WS/demo", None, False),
        ("/%77s/demo/", None, False),
        ("/ws%2Fdemo/", None, False),
        ("/ws;x/demo/", None, False),
        ("/wsx/demo/", None, False),
        ("/", None, False),
    ],
)
def test_the_id_is_what_stands_literally_behind_the_prefix(raw: str, workspace_id: str | None, is_bare: bool) -> None:
    target = read(raw)

    assert (target.workspace_id, target.is_bare) == (workspace_id, is_bare)


@given(TAILS)
def test_no_accepted_target_leaves_its_workspace_however_it_is_decoded(tail: str) -> None:
    try:
        target = read("/ws/demo/" + tail)
    except BadRequest:
        return

    decoded = target.path.encode()
    for _ in range(3):
        assert posixpath.normpath(decoded.replace(b"\\", b"/") + b"/x").startswith(b"/ws/demo/")
        without_parameters = re.sub(rb";[^/]*", b"", decoded)
        assert posixpath.normpath(without_parameters + b"/x").startswith(b"/ws/demo/")
        decoded = unquote_to_bytes(decoded)
    assert target.workspace_id == "demo"


@given(TAILS)
def test_an_accepted_path_is_the_path_that_was_sent(tail: str) -> None:
    raw = "/ws/demo/" + tail

    try:
        target = read(raw)
    except BadRequest:
        return

    assert target.path == raw.partition("?")[0]
    if "token" not in raw and "%" not in raw:
        assert target.wire == raw.encode()


@given(st.text(max_size=30) | TAILS, st.sampled_from(["", HOST, "evil.com"]))
def test_any_text_is_read_or_refused(raw: str, host: str) -> None:
    try:
        target = parse_target(raw, host)
    except (BadRequest, InvalidKey):
        return

    assert target.wire.startswith(b"/")
    assert re.fullmatch(rb"[!-~]+", target.wire)


@pytest.mark.parametrize(
    ("query", "tokens"),
    [
        ("", ()),
        ("a=1", ()),
        ("token=abc", ("abc",)),
        ("a=1&token=a%2Eb=c&b=2", ("a.b=c",)),
        ("token", ("",)),
        ("token=1&x&%74oken=2", ("1", "2")),
        ("Token=1&a;token=1", ()),
    ],
)
def test_the_tokens_of_a_query_are_set_aside_and_shown_nowhere(query: str, tokens: tuple[str, ...]) -> None:
    found = parse_target(f"/ws/demo/lab?{query}", "localhost")

    assert found.tokens == tokens
    assert "tokens" not in repr(found)
