"""The frame scanner: counts, boundaries and close frames, whatever the pieces."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.relay.frames import OPCODE_CLOSE, FrameScanner, close_frame

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 0x1, 0x2, 0x0, 0x8, 0x9, 0xA
OPCODES = [TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG]
LENGTHS = [0, 1, 2, 124, 125, 126, 127, 128, 65_534, 65_535, 65_536, 65_537]


def header(opcode: int, length: int, *, is_masked: bool, flags: int = 0x80) -> bytes:
    """Encode a frame's header, in its shortest form, without the mask."""
    bit = 0x80 if is_masked else 0
    first = bytes((flags | opcode,))
    if length < 126:
        return first + bytes((bit | length,))
    if length < 1 << 16:
        return first + struct.pack("!BH", bit | 126, length)
    return first + struct.pack("!BQ", bit | 127, length)


def encode(opcode: int, payload: bytes, *, is_masked: bool, flags: int = 0x80) -> bytes:
    mask = b"\x12\x88\x81\xff" if is_masked else b""
    return header(opcode, len(payload), is_masked=is_masked, flags=flags) + mask + payload


@dataclass
class Frame:
    opcode: int
    payload: bytes
    is_masked: bool


def decode(data: bytes) -> list[Frame]:
    """Decode whole frames, independently of the scanner."""
    frames = []
    while data:
        opcode, is_masked, length = data[0] & 0x0F, bool(data[1] & 0x80), data[1] & 0x7F
        data = data[2:]
        size = {126: 2, 127: 8}.get(length, 0)
        if size:
            length, data = int.from_bytes(data[:size], "big"), data[size:]
        mask = b"\0\0\0\0"
        if is_masked:
            mask, data = data[:4], data[4:]
        assert len(data) >= length
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data[:length]))
        frames.append(Frame(opcode, payload, is_masked))
        data = data[length:]
    return frames


def state(scanner: FrameScanner) -> tuple[int, int, bool, bool]:
    return scanner.data_frames, scanner.control_frames, scanner.has_close, scanner.is_at_boundary


def scan(*pieces: bytes) -> FrameScanner:
    scanner = FrameScanner()
    for piece in pieces:
        scanner.feed(piece)
    return scanner


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data at places taken modulo its size; some pieces may be empty."""
    places = sorted(cut % (len(data) + 1) for cut in cuts)
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True)]


def followed(data: bytes) -> tuple[int, int, bool, bool]:
    """Follow a stream as RFC 6455 section 5.2 reads, one byte after the other; return what `state` does."""
    data_frames = control_frames = at = 0
    has_close = False
    while at + 2 <= len(data):
        first, second = data[at], data[at + 1]
        form = {126: 2, 127: 8}.get(second & 0x7F, 0)
        if at + 2 + form > len(data):
            return data_frames, control_frames, has_close, False
        length = int.from_bytes(data[at + 2 : at + 2 + form], "big") if form else second & 0x7F
        data_frames += first & 0x0F < 8
        control_frames += first & 0x0F >= 8
        has_close |= first & 0x0F == CLOSE
        at += 2 + form + (4 if second & 0x80 else 0) + length
    return data_frames, control_frames, has_close, at == len(data)


FRAMES = st.builds(
    encode,
    st.sampled_from(OPCODES),
    st.binary(max_size=6) | st.sampled_from([125, 126, 127, 300, 65_535, 65_536]).map(bytes),
    is_masked=st.booleans(),
    flags=st.sampled_from([0x00, 0x80, 0xC0, 0x40]),
)
CUTS = st.lists(st.integers(0, 1 << 20), max_size=12)


@given(st.lists(FRAMES, max_size=6), CUTS)
def test_counts_and_boundary_do_not_depend_on_the_pieces(frames: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(frames)

    scanner = scan(*split(stream, cuts))

    opcodes = [frame[0] & 0x0F for frame in frames]
    assert scanner.data_frames == sum(opcode < 8 for opcode in opcodes)
    assert scanner.control_frames == sum(opcode >= 8 for opcode in opcodes)
    assert scanner.has_close == (CLOSE in opcodes)
    assert scanner.is_at_boundary


@given(st.lists(FRAMES.filter(lambda frame: len(frame) < 400), max_size=5))
def test_a_boundary_is_exactly_at_each_end_of_a_frame(frames: list[bytes]) -> None:
    stream = b"".join(frames)
    ends = {sum(len(frame) for frame in frames[:count]) for count in range(len(frames) + 1)}
    scanner = FrameScanner()

    found = {0} if scanner.is_at_boundary else set()
    for at in range(len(stream)):
        scanner.feed(stream[at : at + 1])
        if scanner.is_at_boundary:
            found.add(at + 1)

    assert found == ends


@given(st.lists(FRAMES.filter(lambda frame: len(frame) < 400), min_size=1, max_size=4), st.integers(0, 1 << 20))
def test_a_prefix_in_one_piece_has_the_same_answer_as_byte_by_byte(frames: list[bytes], cut: int) -> None:
    stream = b"".join(frames)
    prefix = stream[: cut % (len(stream) + 1)]

    whole = scan(prefix)
    dribbled = scan(*(bytes((byte,)) for byte in prefix))

    assert whole.is_at_boundary == dribbled.is_at_boundary
    # A header of three or more bytes is counted when its length is known, however it came.
    assert state(whole) == state(dribbled)


@pytest.mark.parametrize("is_masked", [True, False])
@pytest.mark.parametrize("length", LENGTHS)
def test_every_form_of_length_is_skipped_to_its_last_byte(length: int, is_masked: bool) -> None:
    frame = encode(BINARY, bytes(length), is_masked=is_masked)

    assert state(scan(frame)) == (1, 0, False, True)
    assert not scan(frame[:-1]).is_at_boundary
    assert state(scan(frame, encode(PING, b"", is_masked=is_masked))) == (1, 1, False, True)
    assert state(scan(frame + encode(PING, b"x", is_masked=is_masked)[:-1])) == (1, 1, False, False)


@pytest.mark.parametrize("length", [(1 << 31) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_lengths_beyond_memory_are_only_counted_down(length: int) -> None:
    scanner = scan(header(BINARY, length, is_masked=True))

    for _ in range(3):
        scanner.feed(bytes(65_536))

    assert state(scanner) == (1, 0, False, False)


@pytest.mark.parametrize("form", [struct.pack("!BBH", 0x82, 126, 5), struct.pack("!BBQ", 0x82, 127, 5)])
def test_a_length_in_a_longer_form_than_needed_is_followed(form: bytes) -> None:
    assert state(scan(form + b"hello")) == (1, 0, False, True)
    assert state(scan(form + b"hell")) == (1, 0, False, False)


@pytest.mark.parametrize(
    ("first", "is_close"), [(0x88, True), (0x08, True), (0xF8, True), (0x89, False), (0x82, False)]
)
def test_a_close_frame_is_known_by_its_opcode_alone(first: int, is_close: bool) -> None:
    assert scan(bytes((first, 0))).has_close == is_close


def test_a_close_opcode_within_a_payload_is_not_a_close_frame() -> None:
    scanner = scan(encode(BINARY, b"\x88\x00\x88\x02\x03\xe8", is_masked=False))

    assert state(scanner) == (1, 0, False, True)


@pytest.mark.parametrize("opcode", range(16))
def test_reserved_opcodes_are_counted_by_their_highest_bit(opcode: int) -> None:
    scanner = scan(encode(opcode, b"abc", is_masked=True))

    assert state(scanner) == (int(opcode < 8), int(opcode >= 8), opcode == OPCODE_CLOSE, True)


def test_nothing_fed_is_a_boundary() -> None:
    assert state(scan()) == (0, 0, False, True)
    assert state(scan(b"", b"")) == (0, 0, False, True)


def test_an_empty_piece_changes_nothing_anywhere() -> None:
    frame = encode(TEXT, bytes(126), is_masked=True)
    for cut in range(len(frame) + 1):
        assert state(scan(frame[:cut], b"")) == state(scan(frame[:cut]))


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_garbage_is_followed_without_an_error_and_independently_of_its_pieces(pieces: list[bytes]) -> None:
    assert state(scan(*pieces)) == state(scan(b"".join(pieces)))


ANYTHING = st.lists(FRAMES.filter(lambda frame: len(frame) < 400) | st.binary(max_size=8), max_size=8).map(b"".join)


@given(ANYTHING, CUTS)
def test_any_bytes_in_any_pieces_are_followed_as_the_specification_reads(stream: bytes, cuts: list[int]) -> None:
    scanner, passed = FrameScanner(), b""

    for piece in split(stream, cuts):
        scanner.feed(piece)
        passed += piece
        assert state(scanner) == followed(passed)


@pytest.mark.parametrize("first", [0x00, 0x01, 0x82, 0xC1, 0x88, 0x08, 0x89, 0x0A, 0xFF])
def test_every_second_byte_is_followed_when_a_frame_comes_alone_or_not_quite(first: int) -> None:
    for second in range(256):
        form = {126: b"\x01\x2c", 127: bytes(7) + b"\x2d"}.get(second & 0x7F, b"")
        length = int.from_bytes(form, "big") if form else second & 0x7F
        whole = bytes((first, second)) + form + bytes(4 if second & 0x80 else 0) + b"\x88" * length
        for stream in (whole, whole[:-1], whole + b"\x89", whole + b"\x89\x00", whole + whole):
            assert state(scan(stream)) == followed(stream)
            # Within a payload and within a header, a piece that looks like a whole frame is none.
            assert state(scan(b"\x82\x7e\x03\xe8", stream)) == followed(b"\x82\x7e\x03\xe8" + stream)
            assert state(scan(b"\x82", stream)) == followed(b"\x82" + stream)


@given(st.integers(0, 65_535), st.binary(min_size=4, max_size=4))
def test_a_close_frame_to_a_server_is_masked_and_reads_back(code: int, mask: bytes) -> None:
    frame = close_frame(code, mask=mask)

    assert frame[0] == 0x88
    assert frame[2:6] == mask
    assert decode(frame) == [Frame(CLOSE, code.to_bytes(2, "big"), True)]
    assert state(scan(frame)) == (0, 1, True, True)


@given(st.integers(0, 65_535))
def test_a_close_frame_to_a_client_is_not_masked_and_reads_back(code: int) -> None:
    frame = close_frame(code)

    assert frame[0] == 0x88
    assert decode(frame) == [Frame(CLOSE, code.to_bytes(2, "big"), False)]
    assert state(scan(frame)) == (0, 1, True, True)
