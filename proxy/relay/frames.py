"""Websocket frame headers in a byte stream: what passed, and where a frame ends.

Pure. Reads headers only (RFC 6455 section 5.2) and skips payloads unread; nothing is decoded, checked or changed, so
any extension passes. Never raises: whatever the bytes are, they are for the other side to judge.
"""

from __future__ import annotations

import struct
from typing import Final

OPCODE_CLOSE: Final = 0x8
_CONTROL: Final = 0x8  # RFC 6455 section 5.5: control frames have the opcode's highest bit set
_MASKED: Final = 0x80
_LENGTH_16: Final = 126
_LENGTH_64: Final = 127
_MASK_SIZE: Final = 4
# By a header's second byte: how long a whole frame is, 0 where the length stands behind that byte; and how long one of
# the 16-bit form (126) is without its payload, far below zero for all others.
_WHOLE: Final = tuple(
    2 + (byte & 0x7F) + (byte & _MASKED and _MASK_SIZE) if byte & 0x7F < _LENGTH_16 else 0 for byte in range(256)
)
_WHOLE_16: Final = tuple(
    4 + (byte & _MASKED and _MASK_SIZE) if byte & 0x7F == _LENGTH_16 else -(1 << 20) for byte in range(256)
)


class FrameScanner:
    """Follows one direction of a websocket. Feed it every byte after the handshake, in any pieces.

    Attributes:
        data_frames: text, binary and continuation frames whose header has passed.
        control_frames: ping, pong and close frames whose header has passed.
        has_close: a close frame was among them; nothing that follows matters (section 5.5.1).
    """

    __slots__ = ("_header", "_skip", "control_frames", "data_frames", "has_close")

    def __init__(self) -> None:
        self.data_frames = 0
        self.control_frames = 0
        self.has_close = False
        self._skip = 0  # bytes of payload still to come
        self._header = b""  # the beginning of a header that came in pieces

    @property
    def is_at_boundary(self) -> bool:
        """Whether a frame may begin here."""
        return self._skip == 0 and not self._header

    def feed(self, data: bytes) -> None:
        """Follow the next bytes of the stream."""
        size = len(data)
        if self._skip >= size:
            self._skip -= size
            return
        if size > 3 and not self._skip and not self._header:  # noqa: PLR2004 - the bytes up to a 16-bit length's last
            # Most pieces are one frame of less than 64 kB, which costs three times as much to find step by step.
            second = data[1]
            if size == (_WHOLE[second] or _WHOLE_16[second] + (data[2] << 8 | data[3])):
                first = data[0]
                if not first & _CONTROL:
                    self.data_frames += 1
                    return
                self.control_frames += 1
                if first & 0x0F == OPCODE_CLOSE:
                    self.has_close = True
                return
        self._follow(data)

    def _follow(self, data: bytes) -> None:
        """Follow what reaches beyond the payload that was to be skipped, header by header."""
        position = self._skip
        if self._header:  # only ever non-empty when _skip is 0
            data = self._header + data
            self._header = b""
        size = len(data)
        while position < size:
            if size - position < 2:  # noqa: PLR2004 - the two bytes that every header begins with
                self._header = data[position:]
                break
            first, second = data[position], data[position + 1]
            length = second & 0x7F
            header = 2
            if length >= _LENGTH_16:
                header = 4 if length == _LENGTH_16 else 10
                if size - position < header:
                    self._header = data[position:]
                    break
                length = struct.unpack_from("!H" if header == 4 else "!Q", data, position + 2)[0]  # noqa: PLR2004
            if second & _MASKED:
                header += _MASK_SIZE  # skipped like payload: it need not have come yet
            if first & _CONTROL:
                self.control_frames += 1
                if first & 0x0F == OPCODE_CLOSE:
                    self.has_close = True
            else:
                self.data_frames += 1
            position += header + length
        self._skip = max(position - size, 0) if not self._header else 0


def close_frame(code: int, *, mask: bytes = b"") -> bytes:
    """Return a close frame (RFC 6455 section 5.5.1) without a reason.

    Args:
        code: the status code, such as 1012 (service restart).
        mask: four random bytes in a frame to a server, which must be masked (section 5.3); empty to a client.
    """
    payload = struct.pack("!H", code)
    if not mask:
        return bytes((0x88, len(payload))) + payload
    masked = bytes(byte ^ mask[at % _MASK_SIZE] for at, byte in enumerate(payload))
    return bytes((0x88, _MASKED | len(payload))) + mask + masked
