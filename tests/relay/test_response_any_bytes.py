"""The response reader: any bytes in any split, read the same or refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadResponse, UpstreamClosed
from proxy.relay.response import ResponseReader
from tests.relay.reading import (
    CHUNKED,
    EMPTY,
    INTERIM,
    OK,
    SWITCH,
    Recorder,
    dribble,
    read,
    split,
)


@given(
    st.binary(max_size=200), st.lists(st.integers(1, 50), max_size=8), st.lists(st.integers(0, 1 << 16), max_size=10)
)
def test_any_chunked_body_is_read_whole_in_any_split(body: bytes, sizes: list[int], cuts: list[int]) -> None:
    chunks, rest = [], body
    for size in [*sizes, 1 << 16]:
        if rest:
            chunks.append(b"%x\r\n%b\r\n" % (len(rest[:size]), rest[:size]))
        rest = rest[size:]
    raw = CHUNKED + b"".join(chunks) + b"0\r\n\r\n"

    found = read(*split(raw, cuts))

    assert (found.body, found.is_complete, found.is_reusable) == (body, True, True)


@given(st.binary(max_size=200), st.lists(st.integers(0, 1 << 16), max_size=10))
def test_any_body_of_known_length_is_read_whole_in_any_split(body: bytes, cuts: list[int]) -> None:
    raw = OK + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)

    found = read(*split(raw, cuts))

    assert (found.body, found.is_complete, found.is_reusable) == (body, True, True)


PIECES = [
    OK, CHUNKED, EMPTY, INTERIM, SWITCH, b"HTTP/1.1 ", b"HTTP/1.0 200\r\n", b"HTTP/1.1 204 x\r\n",
    b"HTTP/1.1 304 x\r\n", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length:",
    b"Transfer-Encoding: chunked\r\n", b"X: y\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b":",
    b"5\r\nhello\r\n", b"0\r\n", b"0\r\n\r\n", b"hello", b"5", b";a=b", b"\x00", b"\xff",
]  # fmt: skip
FRAGMENTS = st.sampled_from(PIECES)
STREAMS = st.lists(FRAGMENTS | st.binary(max_size=3), max_size=10).map(b"".join)
LIKELY = st.tuples(
    st.sampled_from([OK, CHUNKED, EMPTY, INTERIM, SWITCH, b"HTTP/1.0 200\r\n", b"HTTP/1.1 204 x\r\n", INTERIM + OK]),
    STREAMS,
).map(b"".join)


@given(
    STREAMS | LIKELY,
    st.lists(st.integers(0, 1 << 16), max_size=10),
    st.sampled_from(["GET", "HEAD", "POST"]),
    st.booleans(),
)
def test_any_bytes_are_read_or_refused_and_the_same_in_any_split(
    raw: bytes, cuts: list[int], method: str, is_upgrade: bool
) -> None:
    whole = read(raw, method=method, is_upgrade=is_upgrade)

    assert read(*split(raw, cuts), method=method, is_upgrade=is_upgrade) == whole
    assert read(*dribble(raw), method=method, is_upgrade=is_upgrade) == whole


@given(STREAMS | LIKELY, st.booleans())
def test_the_end_after_any_bytes_raises_nothing_else_either(raw: bytes, is_upgrade: bool) -> None:
    recorder = Recorder()
    reader = ResponseReader("GET", recorder, is_upgrade=is_upgrade)
    try:
        reader.feed(raw)
        reader.eof()
    except (BadResponse, UpstreamClosed):
        assert not recorder.has_ended
    else:
        assert recorder.has_ended
    assert not reader.is_reusable or not recorder.has_ended
