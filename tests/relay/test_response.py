"""The response reader: every framing, in every split, and whether the connection can be used again."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from proxy.errors import UpstreamClosed
from proxy.relay.response import MAX_INTERIM, ResponseReader
from tests.relay.reading import (
    CHUNKED,
    EMPTY,
    INTERIM,
    OK,
    SWITCH,
    Recorder,
    dribble,
    read,
)


@dataclass
class Case:
    """A response that is as it should be, and what must be read of it."""

    raw: bytes
    status: int = 200
    body: bytes = b""
    length: int | None = 0
    method: str = "GET"
    is_reusable: bool = True
    is_complete: bool = True
    interim: int = 0
    is_upgrade: bool = False
    tail: bytes = b""


CASES = {
    "length": Case(OK + b"Content-Length: 5\r\n\r\nhello", body=b"hello", length=5),
    "length with spaces around": Case(OK + b"Content-Length: \t5 \t\r\n\r\nhello", body=b"hello", length=5),
    "no content": Case(EMPTY),
    "chunked": Case(CHUNKED + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", body=b"hello world", length=None),
    "chunked in capitals": Case(
        OK + b"TRANSFER-ENCODING: Chunked \r\n\r\nA\r\n0123456789\r\n0\r\n\r\n", body=b"0123456789", length=None
    ),
    "chunked with extensions and trailers": Case(
        CHUNKED + b"5;a=b\r\nhello\r\n000;c\r\nX-Sum: 1\r\nX-Empty:\r\n\r\n", body=b"hello", length=None
    ),
    "chunked and empty": Case(CHUNKED + b"0\r\n\r\n", length=None),
    "chunked, of line ends": Case(CHUNKED + b"4\r\n\r\n\r\n\r\n0\r\n\r\n", body=b"\r\n\r\n", length=None),
    "until the end": Case(
        OK + b"\r\nhello\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        body=b"hello\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        length=None,
        is_reusable=False,
        is_complete=False,
    ),
    "HTTP/1.0 until the end": Case(
        b"HTTP/1.0 200 OK\r\n\r\nhello", body=b"hello", length=None, is_reusable=False, is_complete=False
    ),
    "HTTP/1.0": Case(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", body=b"hi", length=2, is_reusable=False),
    "HTTP/1.0 kept alive": Case(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", body=b"hi", length=2
    ),
    "closing": Case(
        OK + b"Connection: x, Close\r\nContent-Length: 2\r\n\r\nhi", body=b"hi", length=2, is_reusable=False
    ),
    "HEAD with length": Case(OK + b"Content-Length: 5\r\n\r\n", method="HEAD"),
    "HEAD, chunked": Case(CHUNKED, method="HEAD"),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", status=204),
    "204 with length": Case(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n", status=204),
    "304 with length": Case(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", status=304),
    "no reason": Case(b"HTTP/1.1 404\r\nContent-Length: 0\r\n\r\n", status=404),
    "1xx before": Case(
        INTERIM + b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\nhi",
        body=b"hi",
        length=2,
        interim=2,
    ),
    "as many 1xx as may be": Case(INTERIM * MAX_INTERIM + EMPTY, interim=MAX_INTERIM),
    "101": Case(SWITCH, status=101, is_upgrade=True, is_reusable=False),
    "101 with bytes behind": Case(
        SWITCH + b"\x81\x02hi\r\n\r\n", status=101, is_upgrade=True, is_reusable=False, tail=b"\x81\x02hi\r\n\r\n"
    ),
    "101 behind a 100": Case(
        INTERIM + SWITCH + b"\x81", status=101, is_upgrade=True, is_reusable=False, interim=1, tail=b"\x81"
    ),
    "a refused upgrade": Case(
        b"HTTP/1.1 403 Forbidden\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nno",
        status=403,
        body=b"no",
        length=2,
        is_upgrade=True,
    ),
    "an upgrade that was not made": Case(
        OK + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nhi", body=b"hi", length=2
    ),
}
EACH = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
REUSABLE = {name: case for name, case in CASES.items() if case.is_reusable}
FRAMED = {name: case for name, case in CASES.items() if case.is_complete and not case.is_upgrade}


@EACH
def test_every_framing_is_read(case: Case) -> None:
    found = read(case.raw, method=case.method, is_upgrade=case.is_upgrade)

    assert found.head is not None
    assert (found.head.status, found.head.length, found.body) == (case.status, case.length, case.body)
    assert (found.is_complete, found.is_reusable, found.is_refused) == (case.is_complete, case.is_reusable, False)
    assert (len(found.interim), found.is_switched, found.tail) == (case.interim, case.status == 101, case.tail)
    assert found.head.has_body == (case.length != 0)


@EACH
def test_every_cut_in_two_and_every_dribble_reads_the_same(case: Case) -> None:
    whole = read(case.raw, method=case.method, is_upgrade=case.is_upgrade)

    assert read(*dribble(case.raw), method=case.method, is_upgrade=case.is_upgrade) == whole
    for cut in range(1, len(case.raw)):
        pieces = (case.raw[:cut], case.raw[cut:])
        assert read(*pieces, method=case.method, is_upgrade=case.is_upgrade) == whole


@pytest.mark.parametrize("case", REUSABLE.values(), ids=REUSABLE.keys())
@pytest.mark.parametrize(
    "extra",
    [b"\r\n", b"\n", b"\r", b"x", b"\r\n\r\n", b"H", EMPTY, SWITCH + b"x", b"0\r\n\r\n", b"\0" * 9, b"x\r\n\r\n"],
)
def test_bytes_behind_the_end_cost_the_connection_in_every_split(case: Case, extra: bytes) -> None:
    raw = case.raw + extra
    expected = read(case.raw, method=case.method, is_upgrade=case.is_upgrade)
    expected.is_reusable = False

    assert read(raw, method=case.method, is_upgrade=case.is_upgrade) == expected
    assert read(*dribble(raw), method=case.method, is_upgrade=case.is_upgrade) == expected
    for cut in range(len(case.raw) - 6, len(raw)):
        assert read(raw[:cut], raw[cut:], method=case.method, is_upgrade=case.is_upgrade) == expected


@pytest.mark.parametrize("case", FRAMED.values(), ids=FRAMED.keys())
def test_an_early_end_is_an_error_at_every_byte(case: Case) -> None:
    for size in range(len(case.raw)):
        recorder = Recorder()
        reader = ResponseReader(case.method, recorder)
        if size:
            reader.feed(case.raw[:size])

        with pytest.raises(UpstreamClosed):
            reader.eof()

        assert not recorder.has_ended
        assert not reader.is_reusable
        assert reader.has_bytes == (size > 0)


@pytest.mark.parametrize("name", ["until the end", "HTTP/1.0 until the end"])
def test_the_end_of_the_connection_ends_a_body_that_has_no_other(name: str) -> None:
    recorder = Recorder()
    reader = ResponseReader("GET", recorder)
    reader.feed(CASES[name].raw)

    reader.eof()

    assert recorder.has_ended
    assert recorder.body == CASES[name].body
    assert not reader.is_reusable


def test_an_end_behind_a_complete_response_is_no_error_but_ends_the_connection() -> None:
    reader = ResponseReader("GET", Recorder())
    reader.feed(EMPTY)
    assert reader.is_reusable

    reader.eof()

    assert not reader.is_reusable


@EACH
def test_an_empty_piece_changes_nothing(case: Case) -> None:
    whole = read(case.raw, method=case.method, is_upgrade=case.is_upgrade)
    pieces = [piece for byte in dribble(case.raw) for piece in (b"", byte, b"")]

    assert read(*pieces, method=case.method, is_upgrade=case.is_upgrade) == whole


def test_nothing_has_come_at_first() -> None:
    reader = ResponseReader("GET", Recorder())

    assert not reader.has_bytes
    with pytest.raises(UpstreamClosed, match="without an answer"):
        reader.eof()


def test_an_end_behind_a_1xx_alone_is_an_error_with_bytes_seen() -> None:
    reader = ResponseReader("GET", Recorder())
    reader.feed(INTERIM)

    assert reader.has_bytes
    with pytest.raises(UpstreamClosed):
        reader.eof()


def test_headers_come_in_their_order_and_spelling() -> None:
    found = read(
        OK[:-4]
        + b"K \xff\r\nsEt-cookie: a\r\nX-Empty:\r\nX-Bytes: \xff\x80\t.\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"
    )

    assert found.head is not None
    assert found.head.reason == b"K \xff"
    assert list(found.head.headers) == [
        (b"sEt-cookie", b"a"),
        (b"X-Empty", b""),
        (b"X-Bytes", b"\xff\x80\t."),
        (b"Set-Cookie", b"b"),
        (b"Content-Length", b"0"),
    ]


def test_trailers_are_not_passed_on() -> None:
    found = read(CHUNKED + b"0\r\nX-Late: 1\r\nTransfer-Encoding: gzip\r\n\r\n")

    assert found.is_complete
    assert found.head is not None
    assert list(found.head.headers) == [(b"Transfer-Encoding", b"chunked")]


def test_a_1xx_leaves_nothing_in_the_final_head() -> None:
    found = read(b"HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\n" + EMPTY)

    assert found.head is not None
    assert (found.interim[0].reason, list(found.interim[0].headers)) == (b"Hints", [(b"Link", b"</a>")])
    assert (found.head.reason, list(found.head.headers)) == (b"OK", [(b"Content-Length", b"0")])


@pytest.mark.parametrize("at", ["one", "two", "dribble"])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_body_where_there_can_be_none_costs_the_connection(method: str, at: str) -> None:
    head = (
        OK + b"Content-Length: 5\r\n\r\n"
        if method == "HEAD"
        else b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"
    )
    raw = head + b"hello"

    found = read(*{"one": [raw], "two": [head, b"hello"], "dribble": dribble(raw)}[at], method=method)

    assert (found.is_complete, found.is_reusable, found.body) == (True, False, b"")
