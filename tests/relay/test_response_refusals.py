"""The response reader: what it refuses, and how much it takes before it does."""

from __future__ import annotations

import pytest

from proxy.errors import BadResponse
from proxy.relay.response import MAX_HEAD_BYTES, MAX_INTERIM, ResponseReader
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

REFUSED = [
    *(
        b"HTTP/1.1 %b X\r\nContent-Length: 0\r\n\r\n" % status
        for status in (b"000", b"099", b"600", b"999", b"20", b"2000")
    ),
    *(b"HTTP/1.1 %b X\r\nContent-Length: 0\r\n\r\n" % status for status in (b"-20", b"2x0", b"", b" 200", b"+200")),
    *(
        version + b" 200 OK\r\nContent-Length: 0\r\n\r\n"
        for version in (b"HTTP/2.0", b"HTTP/0.9", b"HTTP/1.2", b"HTTP/3")
    ),
    *(
        version + b" 200 OK\r\nContent-Length: 0\r\n\r\n"
        for version in (b"http/1.1", b"RTSP/1.0", b"ICE/1.0", b"HTTP /1.1")
    ),
    b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\r\n" + EMPTY,
    b" " + EMPTY,
    b"\n" + EMPTY,
    INTERIM + b"\r\n" + EMPTY,
    b"HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 \x1b[0m\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
    OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    *(
        OK + b"Content-Length: %b\r\n\r\nhello" % value
        for value in (
            b"+5",
            b"-5",
            b"",
            b"5, 5",
            b"5 5",
            b"0x5",
            b"5.0",
            b"five",
            b"\xb2",
            b"9" * 30,
            b"9" * 9999,
            b"0" * 9999,
        )
    ),
    *(
        OK + b"Transfer-Encoding: %b\r\n\r\n0\r\n\r\n" % value
        for value in (
            b"gzip",
            b"gzip, chunked",
            b"chunked, chunked",
            b"xchunked",
            b"chunkedx",
            b"",
            b"identity",
            b"chunked,",
        )
    ),
    OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    OK + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    *(OK + b"X: a%cb\r\nContent-Length: 0\r\n\r\n" % code for code in [*range(9), *range(10, 32), 127]),
    *(OK + b"X%c: b\r\nContent-Length: 0\r\n\r\n" % code for code in b' "(),/;<=>?@[]{}\t\x00\x7f\x80\xff'),
    OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    OK + b"X: a\r\n\tb\r\nContent-Length: 0\r\n\r\n",
    OK + b"X:\r\n b\r\nContent-Length: 0\r\n\r\n",
    OK + b" X: a\r\nContent-Length: 0\r\n\r\n",
    OK + b": a\r\nContent-Length: 0\r\n\r\n",
    OK + b"no colon\r\nContent-Length: 0\r\n\r\n",
    OK + b"X: a\nContent-Length: 0\r\n\r\n",
    OK + b"Content-Length: 0\r\n\n",
    OK + b"Content-Length: 0\n\n",
    *(
        CHUNKED + chunk
        for chunk in (
            b"0x5\r\nhello\r\n",
            b"+5\r\nhello\r\n",
            b"-5\r\n",
            b"5 \r\nhello\r\n",
            b"5\nhello\r\n",
            b"\r\n\r\n",
            b"g\r\n",
        )
    ),
    *(
        CHUNKED + chunk
        for chunk in (
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"1" + b"0" * 16 + b"\r\n",
            b"5;\x00\r\nhello\r\n",
        )
    ),
    *(
        CHUNKED + b"0\r\n" + trailer
        for trailer in (b"X: a\n\r\n", b"X : a\r\n\r\n", b"X: a\x00\r\n\r\n", b"Content-Length: 5\r\n\r\n")
    ),
    b"HTTP/1.1 100 C\r\nContent-Length: 0\r\n\r\n" + EMPTY,
    b"HTTP/1.1 100 C\r\nContent-Length: 5\r\n\r\nhello" + EMPTY,
    b"HTTP/1.1 100 C\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + EMPTY,
    INTERIM * (MAX_INTERIM + 1) + EMPTY,
    INTERIM * 1000,
    SWITCH,
    SWITCH + b"tail",
    INTERIM + SWITCH,
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x16\x03\x01\x02\x00",
    b"<!doctype html>",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x00",
]


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: repr(raw[:60])[2:-1])
def test_what_two_readers_could_understand_differently_is_refused_in_every_split(raw: bytes) -> None:
    whole = read(raw)

    assert whole.is_refused
    assert not whole.is_complete
    assert read(*dribble(raw)) == whole


def refusal(raw: bytes, *, method: str = "GET", is_upgrade: bool = False) -> str:
    reader = ResponseReader(method, Recorder(), is_upgrade=is_upgrade)
    with pytest.raises(BadResponse) as caught:
        reader.feed(raw)
    return str(caught.value)


@pytest.mark.parametrize("framing", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"])
def test_a_101_with_a_body_is_refused(framing: bytes) -> None:
    raw = SWITCH[:-2] + framing + b"\r\n"

    assert read(raw, is_upgrade=True).is_refused


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"HTTP/1.1 999 X\r\n\r\n", "status 999"),
        (b"HTTP/1.1 099 X\r\n\r\n", "status 99"),
        (b"HTTP/2.0 200 X\r\n\r\n", "version 2.0"),
        (OK + b"Transfer-Encoding: gzip\r\n\r\n", "Transfer-Encoding"),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0"),
        (SWITCH, "status 101"),
        (INTERIM * 9, "1xx"),
        (b"SSH-2.0", "not HTTP"),
    ],
)
def test_a_refusal_says_why(raw: bytes, words: str) -> None:
    assert words in refusal(raw)


def test_a_reader_that_refused_goes_on_refusing() -> None:
    reader = ResponseReader("GET", Recorder())
    with pytest.raises(BadResponse):
        reader.feed(b"HTTP/1.1 999 X\r\n\r\n")

    with pytest.raises(BadResponse, match="status 999"):
        reader.feed(EMPTY)


def padded_head(size: int) -> bytes:
    start, end = OK + b"Content-Length: 0\r\nX: ", b"\r\n\r\n"
    return start + b"a" * (size - len(start) - len(end)) + end


@pytest.mark.parametrize("before", [b"", INTERIM])
@pytest.mark.parametrize("piece", [1, 1000, 65_536, 1 << 30])
def test_a_head_may_be_as_long_as_the_limit_and_not_one_byte_longer(before: bytes, piece: int) -> None:
    def cut(raw: bytes) -> list[bytes]:
        return [raw[at : at + piece] for at in range(0, len(raw), piece)]

    assert read(*cut(before + padded_head(MAX_HEAD_BYTES))).is_reusable
    assert read(*cut(before + padded_head(MAX_HEAD_BYTES + 1))).is_refused


@pytest.mark.parametrize(
    "raw",
    [
        padded_head(1 << 20),
        OK + b"X: a\r\n" * 200_000,
        b"HTTP/1.1 200 " + b"a" * (1 << 20),
        OK + b"a" * (1 << 20),
        OK + b"X:" + b" " * (1 << 20),
        CHUNKED + b"0\r\nX: " + b"a" * (1 << 20),
        CHUNKED + b"0\r\n" + b"X: a\r\n" * 200_000,
        CHUNKED + b"5;" + b"a" * (1 << 20),
        CHUNKED + b"0" * (1 << 20),
    ],
    ids=["header", "headers", "reason", "name", "spaces", "trailer", "trailers", "extension", "chunk size"],
)
@pytest.mark.parametrize("piece", [100, 65_536, 1 << 30])
def test_a_megabyte_that_is_no_body_is_refused_however_it_comes(raw: bytes, piece: int) -> None:
    pieces = [raw[at : at + piece] for at in range(0, len(raw), piece)]

    found = read(*pieces)

    assert found.is_refused
    assert not found.is_complete


def test_a_long_chunked_body_is_not_taken_for_framing() -> None:
    chunk = b"20000\r\n" + b"a" * 0x20000 + b"\r\n"

    found = read(CHUNKED, *[chunk] * 5, b"1\r\na\r\n" * 30_000, b"0\r\n\r\n")

    assert len(found.body) == 5 * 0x20000 + 30_000
    assert found.is_reusable
