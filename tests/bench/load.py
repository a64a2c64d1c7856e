"""HTTP load: wrk for many small requests, plain sockets for large bodies. Whatever is not answered well is an error."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import time
from typing import Final

_RATE: Final = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)
_BYTES: Final = re.compile(r"requests in [\d.]+\w+, ([\d.]+)(KB|MB|GB) read$", re.MULTILINE)
_BAD: Final = re.compile(r"Non-2xx|Socket errors.*")
_PIECE: Final = 1 << 20
# What JupyterLab sends with a request of its own, with the cookies that gather on a domain that many things share.
JUPYTERLAB: Final = {
    "Accept": "*/*",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Cache-Control": "no-store",
    "Content-Type": "application/json",
    "Cookie": "; ".join(f"session-{number}=" + f"{number:04d}abcdef"[-8:] * 22 for number in range(8)),
    "Referer": "http://127.0.0.1/ws/static/lab/tree/notebooks/Untitled.ipynb",
    "Sec-Fetch-Dest": "empty",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36",
    "X-XSRFToken": "2|f00dcafe|0123456789abcdef0123456789abcdef|1780000000",
    "sec-ch-ua": '"Chromium";v="140", "Not=A?Brand";v="24"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Linux"',
}


def missing() -> str:
    """Return what is not installed."""
    return "" if shutil.which("wrk") else "install Debian's wrk"


def small_gets(port: int, target: str, connections: int, seconds: int, headers: dict[str, str] | None = None) -> float:
    """Return requests per second with so many connections, each with one request at a time."""
    lines = [f"--header={name}: {value}" for name, value in (headers or {}).items()]
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *lines, f"http://127.0.0.1:{port}{target}"]
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    found, bad = _RATE.search(out), _BAD.search(out)
    if found is None or bad:
        raise RuntimeError(out)
    return float(found[1])


def get(port: int, target: str, size: int, seconds: float) -> float:
    """Return bytes per second of GETs one after the other, for so long and at least one."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    buffer, view = bytearray(_PIECE), memoryview(bytearray(_PIECE))
    done, began = 0, time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        while not done or time.perf_counter() - began < seconds:
            sock.sendall(request)
            length = sock.recv_into(buffer)
            while (end := buffer.find(b"\r\n\r\n", 0, length)) < 0:
                got = sock.recv_into(memoryview(buffer)[length:])
                _must(got > 0, "the connection ended in a head")
                length += got
            _must(buffer.startswith(b"HTTP/1.1 200"), bytes(buffer[:end]))
            left = size - (length - end - 4)
            while left > 0:
                got = sock.recv_into(view, min(left, _PIECE))
                _must(got > 0, "the connection ended in a body")
                left -= got
            done += size
    return done / (time.perf_counter() - began)


def post(port: int, target: str, size: int, seconds: float) -> float:
    """Return bytes per second of POSTs one after the other, for so long and at least one."""
    head = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {size}\r\n\r\n".encode()
    piece = bytes(_PIECE)
    done, began = 0, time.perf_counter()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as sock:
        while not done or time.perf_counter() - began < seconds:
            sock.sendall(head)
            for _ in range(size // _PIECE):
                sock.sendall(piece)
            answer = b""
            while not answer.endswith(b"}"):
                data = sock.recv(65536)
                _must(bool(data), answer)
                answer += data
            _must(answer.startswith(b"HTTP/1.1 200"), answer)
            done += size
    return done / (time.perf_counter() - began)


def _must(is_well: bool, found: object) -> None:
    if not is_well:
        raise RuntimeError(f"not the answer that was wanted: {found!r}")
