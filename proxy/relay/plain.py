"""The heads that notebook servers nearly always send, read in one go.

Pure. A plain head is strictly what RFC 9112 says, of visible ASCII, with one Content-Length and nothing else about
framing; most are passed on in the spelling in which they came. Whatever is not plain is left to the parser; what is,
the parser reads to the same result (the tests read every head both ways), only slower.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Final, NamedTuple

from proxy.relay.headers import CONNECTION_HEADERS, REWRITTEN

_HEAD: Final = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) [!-~][ -~]*\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+: [!-~][ -~]*\r\n)+\r\n"
)
_LINE: Final = re.compile(rb"\n([^:\r]+): ([^\r]*)")
_LENGTH: Final = b"content-length"
_LENGTH_DIGITS: Final = 18
_KEPT_ALIVE: Final = (b"connection", b"keep-alive")


def _any_of(names: list[bytes]) -> bytes:
    """Return a pattern of sorted names in any case, which share their beginnings: a name that is none fails at once.

    What is written out here re.IGNORECASE would do three times slower.
    """
    endings = []
    for letter, group in groupby(names, key=lambda name: name[:1]):
        rest = _any_of([name[1:] for name in group]) if letter else b""
        endings.append(b"[%b%b]%b" % (letter, letter.upper(), rest) if letter.isalpha() else letter + rest)
    return endings[0] if len(endings) == 1 else b"(?:" + b"|".join(reversed(endings)) + b")"


_SPECIAL: Final = re.compile(rb"\r\n(" + _any_of(sorted({*CONNECTION_HEADERS, *REWRITTEN, _LENGTH})) + rb"): ([^\r]*)")


class PlainHead(NamedTuple):
    """A head that need not be parsed.

    Args:
        status: 200 to 599.
        length: the `Content-Length`.
        lines: status line and headers as they are passed on, each with its CRLF; None where they must be looked at one
            by one, for not all of them pass as they came.
        raw: all of it, as it came.
    """

    status: int
    length: int
    lines: bytes | None
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
    is_rewritten = False
    for name, value in _SPECIAL.findall(raw):
        lowered = name.lower()
        if lowered == _LENGTH and length is None and value.isdigit() and len(value) <= _LENGTH_DIGITS:
            length = int(value)
        elif (lowered, value.lower()) == _KEPT_ALIVE and len(lines) == len(raw) - 2:
            lines = lines.replace(b"\r\n%b: %b\r\n" % (name, value), b"\r\n", 1)
        elif lowered in REWRITTEN:
            is_rewritten = True
        else:
            return None
    return None if length is None else PlainHead(int(found[1]), length, None if is_rewritten else lines, raw)


def headers_of(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Return names and values of a plain head."""
    return _LINE.findall(raw)


def reason_of(raw: bytes) -> bytes:
    """Return what follows the status of a plain head."""
    return raw[len(b"HTTP/1.1 200 ") : raw.index(b"\r\n")]
