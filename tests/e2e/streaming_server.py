"""A web server in place of JupyterLab that takes and gives bodies and websocket frames of any size, and keeps nothing.

A script of its own, standard library only: `streaming_server.py PORT ROOT`; the root only tells whose it is.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK_BYTES: Final = 1024 * 1024
_FILLING: Final = bytes(range(256)) * (BLOCK_BYTES // 256)
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def blocks(count: int) -> Iterator[bytes]:
    """Yield so many blocks, each of which tells its place: none can be missing, doubled or out of order unnoticed."""
    for number in range(count):
        yield number.to_bytes(8, "big") + _FILLING[8:]


def frame_head(count: int, *, is_masked: bool = False) -> bytes:
    """Return what begins a binary frame of so many blocks. The mask is of zeros, which leave the payload as it is."""
    bit, mask = (0x80, bytes(4)) if is_masked else (0, b"")
    return struct.pack("!BBQ", 0x82, bit | 127, count * BLOCK_BYTES) + mask


class Handler(BaseHTTPRequestHandler):
    """`api` is ready; PUT `sink` answers a body's SHA-1; GET `source/COUNT` gives so many blocks.

    Websockets: `frames/COUNT` gives one frame of so many blocks, then takes one, and answers its SHA-1;
    `taker/COUNT` takes one only after somebody has asked for `go`. `given` tells how many blocks were given so far.
    """

    protocol_version = "HTTP/1.1"
    given = 0
    go = threading.Event()

    def do_GET(self) -> None:
        """Give blocks, a frame, or nothing."""
        if self.headers.get("Upgrade") == "websocket":
            self._converse()
            return
        if self.path.endswith("/given"):
            text = str(Handler.given).encode()
            self._head(len(text))
            self.wfile.write(text)
            return
        if self.path.endswith("/go"):
            Handler.go.set()
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

    def _converse(self) -> None:
        """Be a websocket."""
        accept = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + _GUID).digest()).decode()
        self.send_response(101)
        for line in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(*line)
        self.end_headers()
        self.close_connection = True
        what, count = self.path.split("/")[-2], int(self.path.rpartition("/")[2])
        if what == "frames":
            self.wfile.write(frame_head(count))
            for block in blocks(count):
                self.wfile.write(block)
                Handler.given += 1
        else:
            Handler.go.wait()
        digest = hashlib.sha1(usedforsecurity=False)
        self.rfile.read(len(frame_head(count, is_masked=True)))
        for _ in range(count):
            digest.update(self.rfile.read(BLOCK_BYTES))
        self.wfile.write(b"\x82\x14" + digest.digest())

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
