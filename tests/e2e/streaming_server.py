"""A web server in place of JupyterLab that takes and gives bodies of any size, and keeps nothing of them.

A script of its own, standard library only: `streaming_server.py PORT ROOT`; the root only tells whose it is.
"""

from __future__ import annotations

import hashlib
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES: Final = 1024 * 1024
_FILLING: Final = bytes(range(256)) * (BLOCK_BYTES // 256)


def blocks(count: int) -> Iterator[bytes]:
    """Yield so many blocks, each of which tells its place: none can be missing, doubled or out of order unnoticed."""
    for number in range(count):
        yield number.to_bytes(8, "big") + _FILLING[8:]


class Handler(BaseHTTPRequestHandler):
    """`api` is ready; PUT `sink` answers a body's SHA-1; GET `source/COUNT` gives so many blocks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Give blocks, or nothing."""
        last = self.path.rpartition("/")[2]
        count = int(last) if last.isdecimal() else 0
        self._head(count * BLOCK_BYTES)
        for block in blocks(count):
            self.wfile.write(block)

    def do_PUT(self) -> None:
        """Take a body, and answer its digest."""
        digest, buffer = hashlib.sha1(usedforsecurity=False), memoryview(bytearray(BLOCK_BYTES))
        for length in self._lengths():
            left = length
            while left:
                read = self.rfile.readinto(buffer[:left])
                digest.update(buffer[:read])
                left -= read
        answer = digest.hexdigest().encode()
        self._head(len(answer))
        self.wfile.write(answer)

    def _head(self, length: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def _lengths(self) -> Iterator[int]:
        """Yield how much is to be read next: the body, or one chunk of it after the other (RFC 9112 section 7.1)."""
        if self.headers.get("Transfer-Encoding") != "chunked":
            yield int(self.headers["Content-Length"])
            return
        while length := int(self.rfile.readline(), 16):
            yield length
            self.rfile.readline()
        self.rfile.readline()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
