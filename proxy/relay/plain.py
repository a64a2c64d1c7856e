"""The heads that notebook servers nearly always send, read in one go.

Pure. A plain head is strictly what RFC 9112 says, of visible ASCII, in the one spelling in which it is passed on, with
one Content-Length and nothing else about framing. Whatever is not plain is left to the parser; what is, the parser
reads to the same result (the tests read every head both ways), only slower.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from proxy.relay.headers import CONNECTION_HEADERS

_HEAD: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) [!-~][ -~]*\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~][ -~]*\r\n)+\r\n"
)
_LINE: Final = re.compile(rb"\n([^:\r]+): ([^\r]*)")
_LENGTH: Final = b"content-length"
_LENGTH_DIGITS: Final = 18
_KEPT_ALIVE: Final = (b"connection", b"keep-alive")


def _in_any_case(name: bytes) -> bytes:
    return b"".join(b"[%c%c]" % (letter, letter - 32) if 97 <= letter <= 122 else b"%c" % letter for letter in name)  # noqa: PLR2004 - a to z


# What is written out here re.IGNORECASE would do three times slower.
_SPECIAL: Final = re.compile(
    rb"\r\n(" + b"|".join(map(_in_any_case, sorted({*CONNECTION_HEADERS, _LENGTH}))) + rb"): ([^\r]*)"
)


class PlainHead(NamedTuple):
    """A head that can be passed on as it is.

    Args:
        status: 200 to 599.
        length: the `Content-Length`.
        lines: status line and headers as they are passed on, each with its CRLF.
        raw: all of it, as it came.
    """

    status: int
    length: int
    lines: bytes
    raw: bytes


def read_plain(raw: bytes) -> PlainHead | None:
    """Return a head if it is plain, else None.

    Args:
        raw: a head from its first byte to its last.
    """
    found = _HEAD.fullmatch(raw)
    if found is None:
        return None
    length = None
    lines = raw[:-2]
    for name, value in _SPECIAL.findall(raw):
        lowered = name.lower()
        if lowered == _LENGTH and length is None and value.isdigit() and len(value) <= _LENGTH_DIGITS:
            length = int(value)
        elif (lowered, value.lower()) == _KEPT_ALIVE and len(lines) == len(raw) - 2:
            lines = lines.replace(b"\r\n%b: %b\r\n" % (name, value), b"\r\n", 1)
        else:
            return None
    return None if length is None else PlainHead(int(found[1]), length, lines, raw)


def headers_of(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Return names and values of a plain head."""
    return _LINE.findall(raw)


def reason_of(raw: bytes) -> bytes:
    """Return what follows the status of a plain head."""
    return raw[len(b"HTTP/1.1 200 ") : raw.index(b"\r\n")]
